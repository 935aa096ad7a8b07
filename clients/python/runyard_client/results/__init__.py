"""Results and errors of task runs: how they are stored in a state, and read from it."""
