"""Both type checkers accept the right uses of tasks and report each wrong one, on its line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "typing"
RIGHT, WRONG = FOLDER / "right_uses.py", FOLDER / "wrong_uses.py"
CLIENT = Path(__file__).parents[1]


def run_mypy(folder: Path) -> dict[str, set[int]]:
    """Return the numbers of the lines with errors by name of the file."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--no-pretty",
        "--cache-dir",
        str(folder),
    ]
    output = run([*command, "--config-file=", str(RIGHT), str(WRONG)])
    return group_lines(re.findall(r"^(\S+):(\d+): error:", output, re.MULTILINE))


def run_pyright(folder: Path) -> dict[str, set[int]]:
    """Return the numbers of the lines with errors by name of the file, as pyright's standard mode finds them."""
    settings = {"include": [str(FOLDER)], "extraPaths": [str(CLIENT)], "typeCheckingMode": "standard"}
    project = folder / "pyrightconfig.json"
    project.write_text(json.dumps(settings))
    report = json.loads(run([sys.executable, "-m", "basedpyright", "--outputjson", "--project", str(project)]))
    errors = [each for each in report["generalDiagnostics"] if each["severity"] == "error"]
    return group_lines([(each["file"], each["range"]["start"]["line"] + 1) for each in errors])


def run(command: list[str]) -> str:
    result = subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return result.stdout


def group_lines(errors: list[tuple[str, int | str]]) -> dict[str, set[int]]:
    lines: dict[str, set[int]] = {RIGHT.name: set(), WRONG.name: set()}
    for file, line in errors:
        lines.setdefault(Path(file).name, set()).add(int(line))
    return lines


def marked_lines() -> set[int]:
    lines = WRONG.read_text().splitlines()
    return {number for number, line in enumerate(lines, start=1) if line.endswith("# wrong")}


@pytest.mark.parametrize("check", [run_mypy, run_pyright])
def test_type_checkers_report_the_wrong_uses_and_no_others(check, tmp_path):
    lines = check(tmp_path)

    assert len(marked_lines()) == 25
    assert lines == {RIGHT.name: set(), WRONG.name: marked_lines()}
