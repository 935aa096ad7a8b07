"""The rules of orchestration, one a file; `policy.py` says which are asked, and in which order."""
