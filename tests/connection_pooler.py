"""PgBouncer, a connection pooler, in transaction mode in front of a PostgreSQL server."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")

NEEDS_PGBOUNCER = pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed")

SESSIONS = 3
"""Number of sessions at PostgreSQL that all clients of a pooler share."""

PORT = 6432
"""Part of the name of the Unix socket that the pooler listens on."""


@contextmanager
def connection_pooler(database_url: str, *, password: str | None = None, **settings: object) -> Iterator[str]:
    """Run PgBouncer for the duration of the block, and yield the URL of the database through it.

    Clients need no password unless one is given. `settings` are those of the section `pgbouncer`.
    """
    assert PGBOUNCER is not None
    folder = Path(mkdtemp(prefix="runyard-pgbouncer-"))
    try:
        owner = _owner(database_url)
        configuration = _write_configuration(folder, database_url, password, settings)
        if owner is not None:
            # PgBouncer refuses to run as root.
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, owner)
        command = [PGBOUNCER, configuration]
        with subprocess.Popen(command, user=owner, text=True, stderr=subprocess.PIPE) as process:
            try:
                assert process.stderr is not None
                assert any("process up" in line for line in process.stderr), "PgBouncer did not start"
                credentials = {"user": "postgres"} | ({"password": password} if password else {})
                location = {"host": folder, "port": PORT} | credentials
                yield f"postgresql://{urlsplit(database_url).path}?{urlencode(location)}"
            finally:
                process.kill()
    finally:
        shutil.rmtree(folder)


def _owner(database_url: str) -> int | None:
    """Return the user that may open the socket of PostgreSQL when this process is root; None for the current user."""
    if os.getuid() != 0:
        return None
    hosts = parse_qs(urlsplit(database_url).query).get("host")
    return Path(hosts[0]).stat().st_uid if hosts else shutil._get_uid("nobody")


def _write_configuration(folder: Path, database_url: str, password: str | None, settings: dict[str, object]) -> Path:
    url = urlsplit(database_url)
    host = parse_qs(url.query).get("host", [url.hostname])[0]
    server = {"host": host, "port": url.port or 5432, "user": url.username or "postgres"}
    if url.password:
        server["password"] = url.password
    users = folder / "users.txt"
    users.write_text(f'"postgres" "{password}"\n')
    settings = {
        "listen_addr": "",
        "listen_port": PORT,
        "unix_socket_dir": folder,
        "auth_type": "any" if password is None else "plain",
        "auth_file": users,
        "pool_mode": "transaction",
        "default_pool_size": SESSIONS,
        "log_connections": 0,
        "log_disconnections": 0,
        **settings,
    }
    configuration = folder / "pgbouncer.ini"
    lines = ["[databases]", "* = " + " ".join(f"{name}={value}" for name, value in server.items()), "[pgbouncer]"]
    configuration.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items()), ""]))
    return configuration
