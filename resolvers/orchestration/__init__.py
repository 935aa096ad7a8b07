"""How a change of state is decided.

A *transition* is proposed; the rules of a *policy* are asked in their order and give *verdicts*; what they leave of the
proposal becomes the run's new state. Everything here is pure: the facts were loaded before, and others write the outcome.

    transition.py   Transition (all the facts), ProposedState, the verdicts, the `rule` decorator
    policy.py       which rules govern which run, in the order they are asked: the table of contents
    engine.py       asks the rules, and carries a decided state into the run's figures
    rules/          one rule a file
"""
