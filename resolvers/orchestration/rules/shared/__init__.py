"""Orchestration rules for task runs and flow runs, one a file."""
