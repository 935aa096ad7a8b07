"""`python -m runyard` is the command `runyard`."""

from runyard.cli import main

main()
