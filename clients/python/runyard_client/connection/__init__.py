"""What an app does with a server, on one background event loop for each process: create runs, and wait for their ends."""
