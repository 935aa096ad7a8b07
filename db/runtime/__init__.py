"""Building blocks of storage that need no database: clock, ids, timestamps, timeouts, statistics and memory budgets.

Imports nothing of the project.
"""
