"""Attacks a server of its own for as long as one likes, and tells what it answered.

`python -m tests.hostile --examples 10000 --database postgresql`. Ends with the example, and 1, where one is answered as no
client should be, or where the server logs what it should not have had to.
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
from tests.hostile.target_server import Victim, victim
from tests.postgresql import postgresql_server


def _attack_with_generated(server: Victim, examples: int, seed: int) -> None:
    print(attacks.attack_with_generated(server, examples, seed).told())


ATTACKS: dict[str, Callable[[Victim, int, int], None]] = {
    "generated": _attack_with_generated,
    "ours": attacks.attack_with_ours,
    "requests": attacks.attack_with_requests,
    "bytes": attacks.attack_with_bytes,
    "messages": attacks.attack_with_messages,
    "frames": attacks.attack_with_frames,
}


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("attacks", nargs="*", help=f"left out, all: {', '.join(ATTACKS)}")
    parser.add_argument("--examples", type=int, default=1000, help="of each attack")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.attacks) - set(ATTACKS)):
        parser.error(f"there is no attack {', '.join(unknown)}; there are {', '.join(ATTACKS)}")
    with _database(asked.database) as url, victim(url) as server:
        for name in asked.attacks or ATTACKS:
            _attack(server, name, partial(ATTACKS[name], server, asked.examples, asked.seed))
    return 0


def _attack(server: Victim, name: str, attack: Callable[[], None]) -> None:
    server.answers.clear()
    server.slowest = 0.0, ""
    before, began = server.memory_mib(), time.monotonic()
    attack()
    server.is_well()
    answers = ", ".join(f"{count:,} {answer}" for answer, count in server.answers.most_common())
    memory = f"{before:.0f} to {server.memory_mib():.0f} MiB"
    print(f"{name}: well after {time.monotonic() - began:.0f} s, {memory}; {answers}", flush=True)
    if server.slowest[1]:
        print(f"the slowest took {server.slowest[0] * 1000:.0f} ms: {server.slowest[1]:.2000}", flush=True)


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
