"""Metrics for Prometheus and traces for OpenTelemetry.

    metrics.py         counts and measures operations, in plain numbers
    prometheus.py      `/metrics`: converts these numbers and those of other rooms into the Prometheus format
    tracing.py         spans for requests, operations and transactions
    schema_wrapper.py  wraps the execution of operations, for both

Guarantees: prometheus_client is not loaded before the first scrape. Without a configured exporter, the OpenTelemetry
packages are not loaded and nothing is wrapped. Imports the layers below, `runyard.services` and
`runyard.http.endpoint`.
"""
