"""Replay recordings of a Prefect server 2.16.1 against Runyard and compare the responses.

`traces/` holds the recordings: operations and their responses. `traces.py` reads them, `engine.py` executes a trace and
`matching.py` compares the responses. `graphql_adapter.py` translates each operation to GraphQL for a real server
(`server.py`). Intentional differences are listed by step in `divergences.py`; `test_suites.py` asserts that all other steps
match.
"""
