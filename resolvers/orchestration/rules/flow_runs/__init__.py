"""Orchestration rules for flow runs, one a file."""
