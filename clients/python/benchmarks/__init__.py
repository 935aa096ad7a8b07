"""Benchmarks of the Python client: CPU time, latency and memory, beside Celery on Redis and Procrastinate on PostgreSQL.

Run `python -m benchmarks` in the folder `clients/python`. `environments` installs the other systems, `services` starts
servers and databases, `systems` describes what is compared, `programs` has the tasks and the client of each system,
`measuring` measures one system, `marks` has the goals, and `report` prints the tables. README.md explains the figures.
`first_worker` is a benchmark of its own: it times the README of the repository.
"""
