"""Attack a dedicated server and print a summary of its responses.

`python -m tests.hostile --examples 10000 --database postgresql`. Exits with 1 and the example if a response is invalid or
the server logs a warning.
"""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from db import migrations
from tests.hostile import attacks
from tests.hostile.target_server import TargetServer, run_target_server
from tests.postgresql import postgresql_server


def _attack_with_generated(server: TargetServer, examples: int, seed: int) -> None:
    print(attacks.attack_with_generated(server, examples, seed).summary())


ATTACKS: dict[str, Callable[[TargetServer, int, int], None]] = {
    "generated": _attack_with_generated,
    "documents": attacks.attack_with_documents,
    "requests": attacks.attack_with_requests,
    "bytes": attacks.attack_with_bytes,
    "messages": attacks.attack_with_messages,
    "frames": attacks.attack_with_frames,
}


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("attacks", nargs="*", help=f"attacks to run, by default all: {', '.join(ATTACKS)}")
    parser.add_argument("--examples", type=int, default=1000, help="number of examples per attack")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.attacks) - set(ATTACKS)):
        parser.error(f"unknown attack: {', '.join(unknown)}; choose from {', '.join(ATTACKS)}")
    with _database(arguments.database) as url, run_target_server(url) as server:
        for name in arguments.attacks or ATTACKS:
            _attack(server, name, partial(ATTACKS[name], server, arguments.examples, arguments.seed))
    return 0


def _attack(server: TargetServer, name: str, attack: Callable[[], None]) -> None:
    server.outcomes.clear()
    server.slowest = 0.0, ""
    before, started_at = server.memory_mib(), time.monotonic()
    attack()
    server.assert_healthy()
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in server.outcomes.most_common())
    memory = f"{before:.0f} to {server.memory_mib():.0f} MiB"
    print(f"{name}: finished after {time.monotonic() - started_at:.0f} s, {memory}; {outcomes}", flush=True)
    if server.slowest[1]:
        print(f"slowest operation: {server.slowest[0] * 1000:.0f} ms: {server.slowest[1]:.2000}", flush=True)


@contextmanager
def _database(kind: str) -> Iterator[str]:
    if kind == "postgresql":
        with postgresql_server() as server:
            yield server.url_of(server.make())
        return
    with TemporaryDirectory(prefix="runyard-hostile-") as folder:
        path = Path(folder) / "runyard.db"
        migrations.upgrade_sqlite(path)
        yield f"sqlite+aiosqlite:///{path}"


if __name__ == "__main__":
    sys.exit(main())
