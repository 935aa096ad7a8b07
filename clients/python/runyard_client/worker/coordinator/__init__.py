"""The side of a worker that talks to the server: claims, reports, leases, signals and the drain. Runs no user code."""
