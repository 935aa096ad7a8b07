"""Runs the command `runyard` as `python -m runyard`."""

from runyard.cli import main

main()
