"""What Runyard costs, beside what its database alone would cost for the same.

`population` makes up a week of work, `seed` writes it; `workloads` says what is asked of a server, `client` asks it, and
`bare` does the same with nothing but the driver, in a process of its own. `__main__` runs them in turn and `report` prints
what came out and compares two such reports. README.md tells how to read it.

Stands beside the stairs: imports from every floor, and no floor imports it.
"""
