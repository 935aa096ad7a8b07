"""Orchestration: decides which state a run enters when a client proposes one.

A *transition* holds the proposal and all facts about the run. The *rules* of a *policy* are applied to it in order, and
each returns a *verdict* or None. `decide` combines the verdicts into one decision.

    transition.py  Transition with its facts, ProposedState, the verdicts, and the `rule` decorator
    policy.py      the ordered rules of each kind of run: the place to start reading
    decide.py      applies a policy to a transition
    rules/         one rule a file

Guarantees: everything here is pure. The callers load the facts before and write the decision afterwards.

Imports no other room of `resolvers`, and of `db` only enums, records and timestamps.
"""
