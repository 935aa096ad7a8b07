"""Fields of `Mutation`, one module for each subject. Each field parses its arguments and calls one write operation."""
