"""What the house promises, by behaviour. Documents come from `queries/`; servers, sockets and files are real."""
