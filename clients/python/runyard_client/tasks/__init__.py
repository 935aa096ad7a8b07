"""Tasks: functions whose calls can be enqueued, their options, and the conversion of a call into the input of a task run.

Imports no transport: a task knows only the app that it belongs to.
"""
