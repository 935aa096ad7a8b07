"""Virtual environments with the other systems, which are installed with pip and can be kept."""

import subprocess
import venv
from pathlib import Path

from benchmarks.processes import BenchmarkFailed

PACKAGES = {
    "celery": ["celery[redis]"],
    "procrastinate": ["procrastinate", "psycopg[binary,pool]"],
}
INSTALL_SECONDS = 300


def environment_python(folder: Path, name: str) -> Path:
    """Return the Python of the environment `name`, which is created in `folder` if it does not exist.

    Raises:
        BenchmarkFailed: the packages cannot be installed, for example without a network.
    """
    python = folder / name / "bin" / "python"
    installed = folder / name / "installed"
    if not installed.exists():
        venv.create(folder / name, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[name]]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            raise BenchmarkFailed(f"{name} was not installed within {INSTALL_SECONDS} s") from None
        if done.returncode:
            raise BenchmarkFailed(f"{name} cannot be installed: {done.stderr.strip()[-500:]}")
        installed.touch()
    return python


def installed_version(python: Path, package: str) -> str:
    """Return the version of a package in the environment of this Python."""
    program = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
