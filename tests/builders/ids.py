"""Ids that tests send or expect without having received them from the server."""

UNKNOWN_ID = "01a206b2-304f-7000-b2ee-99ddb7de4877"
"""A well-formed id that no row has."""

TRANSITION_ID = "0d0c3f3e-5d43-4a58-8f7c-6f2b8c0e9a11"
"""The id that a client gives a transition which it may send again."""
