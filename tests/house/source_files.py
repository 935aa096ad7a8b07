"""The files of the project, for tests that read them."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tracked_files(folder: str) -> list[Path]:
    """Files below the folder that belong to the project; of `.`, those at the top level alone."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", folder],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    names = [name for name in listed.split("\0") if name and (folder != "." or "/" not in name)]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def python_files(folder: str) -> list[Path]:
    return [path for path in tracked_files(folder) if path.suffix == ".py"]
