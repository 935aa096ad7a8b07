"""Orchestration rules, one a file, named after the rule. `policy.py` lists which of them apply, and in which order.

    task_runs/  rules for task runs
    flow_runs/  rules for flow runs
    shared/     rules for both

Guarantees: a rule is a pure function of its transition. Imports `transition.py`, and of `db` enums, records and timestamps.
"""
