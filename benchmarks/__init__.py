"""Benchmarks: the cost of Runyard, compared with the cost of the same work on the bare database driver.

`population` generates a week of work, and `seed` writes it to a database. `workloads` lists the workloads, whose kinds
are in `stage` and `changes`. `client` sends their requests. `bare` does the same work with the driver alone, in a
separate process, and executes the statements that `recording` and `writes` record from the server. `__main__` reads the
command line, `running` measures, and `report` prints the results and compares two reports. README.md explains how to
read them.

Imports from every layer. No layer imports this package.
"""
