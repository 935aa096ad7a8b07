"""Orchestration rules for task runs, one a file."""
