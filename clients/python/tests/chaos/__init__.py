"""A chaos test of the client: workers and enqueuing programs are real processes, and faults happen to all of them.

`plan` derives runs and faults from a seed. `tasks` is the app that workers execute; its tasks write each begin and end to
the `ledger`. `enqueuer` is a program that enqueues and waits for results. `processes` and `faults` start and disturb all of
them, `chaos` runs a whole test, `evidence` reads what it left, and `checker` compares it with what the client promises.
"""
