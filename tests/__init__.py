"""Behaviour tests. They send the documents in `queries/` and use real servers, sockets, files and databases."""
