"""`runyard workers`."""

from typing import Any

from runyard.terminal.options import DEFAULT_URL, AsJson, Keys, Token, Url, exit_on_error


def list_workers(key: Keys = None, as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """List the workers that are connected or hold leases."""
    from runyard.terminal.client import Client  # noqa: PLC0415
    from runyard.terminal.tables import format_time, print_json, print_table  # noqa: PLC0415

    with exit_on_error():
        workers: list[dict[str, Any]] = Client(url, token).execute("ListWorkers", taskKeys=key)
    if as_json:
        print_json(workers)
        return
    rows = [
        (
            worker["name"] or "-",
            "yes" if worker["isConnected"] else "no",
            f"{worker['leaseCount']:,}",
            format_time(worker["oldestLeaseExpiresAt"]),
            ",".join(worker["taskKeys"]),
        )
        for worker in workers
    ]
    print_table([("NAME", "CONNECTED", "LEASES", "FIRST EXPIRES", "KEYS"), *rows])
