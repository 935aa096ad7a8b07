"""The replay of what a Prefect server 2.16.1 was seen to do, against this one.

`traces/` holds recordings: operations, and what came of each. `traces.py` reads them, `engine.py` carries one out and
`matching.py` compares; `graphql_adapter.py` says each operation in GraphQL to a real server (`server.py`). What Runyard
does otherwise on purpose is listed in `divergences.py`, step by step; `test_suites.py` holds everything else to be equal.
"""
