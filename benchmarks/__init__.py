"""What Runyard costs, beside what its database alone would cost for the same.

`population` makes up a week of work, `seed` writes it. `workloads` is the table of what is asked of a server, `stage` and
`changes` have its kinds; `client` asks, and `bare` does the same with nothing but the driver, in a process of its own, with
the statements that `recording` and `writes` have found out. `__main__` has them run by `running`, and `report` prints what
came out and compares two such reports. README.md tells how to read it.

Stands beside the stairs: imports from every floor, and no floor imports it.
"""
