"""The side of a worker that executes tasks, in child processes or in this process, and the parent's links to it."""
