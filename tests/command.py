"""Run the `runyard` command in a process."""

import os
import subprocess
import sys
from pathlib import Path


def runyard(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the folder, with these environment variables and no other setting, and wait until it ends."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    command = [sys.executable, "-m", "runyard", *arguments]
    return subprocess.run(
        command, env=environment | variables, cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )
