"""Time the README of the repository: from an empty clone to the result of the first task.

    python -m benchmarks.first_worker

Copies the files of the checkout to an empty folder and runs the commands of the README there: the installation of the
server, its start, the installation of the client, the start of the worker, and the program that enqueues and waits. Fails
when this takes longer than `--limit` seconds (300). The time depends on the network and on pip's cache. `--no-cache`
measures without the cache.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
LIMIT_SECONDS = 300.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Time the README, from an empty clone to the result of the first task."
    )
    parser.add_argument(
        "--limit", type=float, default=LIMIT_SECONDS, help="seconds after which it fails (default: 300)"
    )
    parser.add_argument("--no-cache", action="store_true", help="install without pip's cache")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runyard-first-worker-") as name:
        folder = Path(name)
        copy_checkout(folder)
        seconds = follow_readme(folder, environment(folder, no_cache=options.no_cache), options.limit)
    print(f"From an empty clone to the first result: {seconds:.0f} s (at most {options.limit:.0f} s)")
    return int(seconds > options.limit)


def copy_checkout(folder: Path) -> None:
    """Copy the files of the checkout, also those that are not committed, without what git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)


def environment(folder: Path, *, no_cache: bool) -> dict[str, str]:
    """Return the environment of a new user, with a free port instead of the default one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("RUNYARD_", "PYTHON", "VIRTUAL_"))
    }
    return {
        **kept,
        **({"PIP_NO_CACHE_DIR": "1"} if no_cache else {}),
        "RUNYARD_PORT": str(port),
        "RUNYARD_URL": f"http://127.0.0.1:{port}",
        "RUNYARD_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/first.db",
    }


def follow_readme(folder: Path, variables: Mapping[str, str], limit: float) -> float:
    """Run the commands of the README in the folder and return the seconds until the result is printed."""
    readme = (folder / "README.md").read_text("utf-8")
    start, work, *_ = re.findall(r"^```sh\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    files = dict(re.findall(r"^<!-- (\w+\.py) -->\n```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE))
    begun = time.monotonic()
    with ExitStack() as running:
        running.enter_context(in_background(start, folder, variables))
        wait_for_server(int(variables["RUNYARD_PORT"]), begun + limit)
        print(f"{time.monotonic() - begun:6.1f} s  the server is installed and listens", flush=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        running.enter_context(in_background(work, folder, variables))
        # Installs the client before the program that uses it starts, as a reader does.
        wait_for_file(folder / ".venv/bin/runyard-worker", begun + limit)
        print(f"{time.monotonic() - begun:6.1f} s  the client is installed", flush=True)
        command = [str(folder / ".venv/bin/python"), "enqueue.py"]
        printed = subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, timeout=limit, check=True
        )
        print(f"{time.monotonic() - begun:6.1f} s  {printed.stdout.strip()}", flush=True)
    return time.monotonic() - begun


@contextmanager
def in_background(command: str, folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Run a command of a shell until the end of the block."""
    process = subprocess.Popen(  # noqa: S602 - commands of the README
        command, shell=True, cwd=folder, env=variables, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        # Also ends what the shell has started.
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def wait_for_server(port: int, deadline: float) -> None:
    """Wait until the port accepts connections."""
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("The server did not start in time.")


def wait_for_file(path: Path, deadline: float) -> None:
    """Wait until the file exists: pip writes the commands last."""
    while time.monotonic() < deadline:
        if path.exists():
            return
        time.sleep(0.1)
    raise SystemExit(f"{path} was not installed in time.")


if __name__ == "__main__":
    sys.exit(main())
