"""Reference pages: every setting, limit, error code and status has its row, and the rows say what the code does."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields

from resolvers.errors import ErrorCode, Refusal
from runyard.cli.findings import FindingCode
from runyard.settings import Settings
from runyard.terminal.options import CLIENT_VARIABLES
from schema.limits.document_size import LIMIT_DESCRIPTIONS
from schema.limits.options import RequestLimits
from schema.naming import to_camel_case
from schema.root import build_schema
from tests.house.source_files import ROOT, python_files

SETTINGS_PAGE, LIMITS_PAGE, ERRORS_PAGE, OPERATIONS_PAGE = (
    (ROOT / "docs" / name).read_text("utf-8") for name in ("settings.md", "limits.md", "errors.md", "operations.md")
)
DEFAULTS = {name.upper(): field.default for name, field in Settings.model_fields.items()}
DEFAULTS |= {name.removeprefix("RUNYARD_"): value for name, value in CLIENT_VARIABLES.items()}


def setting_rows(page: str) -> dict[str, str]:
    """Return the default of each setting that has a row. Fails when a setting has two."""
    rows = re.findall(r"^\| `RUNYARD_(\w+)` \| `?([^`|]*?)`? \|", page, re.MULTILINE)
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def http_statuses() -> Iterator[int]:
    """Yield the statuses of rejected HTTP requests."""
    for path in python_files("runyard/http"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "BadRequest":
                constants = (each.value for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant))
                yield from (value for value in constants if isinstance(value, int))


def refusals(kind: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    for each in kind.__subclasses__():
        yield each
        yield from refusals(each)


def test_every_setting_is_listed_with_its_default() -> None:
    rows = setting_rows(SETTINGS_PAGE)

    assert set(rows) == set(DEFAULTS)
    assert rows["DATABASE_URL"] == "a file in your data folder"
    switches = {name: value for name, value in DEFAULTS.items() if isinstance(value, bool)}
    assert {name: rows[name] for name in switches} == {name: str(value).lower() for name, value in switches.items()}
    texts = {name: value for name, value in DEFAULTS.items() if isinstance(value, str)}
    assert {name: rows[name] for name in texts} == texts
    numbers = {
        name: value for name, value in DEFAULTS.items() if isinstance(value, int | float) and name not in switches
    }
    assert {name: float(rows[name]) for name in numbers} == numbers


def test_every_request_limit_is_listed_with_its_default() -> None:
    rows = setting_rows(LIMITS_PAGE)

    assert {f"MAX_{limit.name.upper()}" for limit in fields(RequestLimits)} <= set(rows)
    assert {name: float(value) for name, value in rows.items()} == {name: DEFAULTS[name] for name in rows}


def test_every_document_limit_is_listed_with_its_name_in_errors() -> None:
    names = re.findall(r"^\|.*\| `([a-z]+[A-Za-z]*)` \|$", LIMITS_PAGE, re.MULTILINE)

    assert names == [to_camel_case(name) for name in [*LIMIT_DESCRIPTIONS, "cost"]]


def test_every_error_code_is_listed() -> None:
    codes = re.findall(r"^\| `([A-Z_]+)` \| (?:yes|no) \|", ERRORS_PAGE, re.MULTILINE)

    assert len(codes) == len(set(codes))
    assert set(codes) == set(ErrorCode)


def test_exactly_the_retryable_errors_are_listed_as_such() -> None:
    build_schema()
    retryable = {each.code for each in refusals() if each.retryable} | {"TOO_MANY_WRONG_TOKENS"}

    assert set(re.findall(r"^\| `([A-Z_]+)` \| yes \|", ERRORS_PAGE, re.MULTILINE)) == retryable


def test_every_http_status_of_a_rejected_request_is_listed() -> None:
    statuses = {int(status) for status in re.findall(r"^\| (\d{3}) \|", ERRORS_PAGE, re.MULTILINE)}

    assert {400, 401, 403, 405, 406, 408, 413, 415, 429, 503} <= set(http_statuses()) <= statuses


def test_every_code_of_a_finding_is_listed_and_reported() -> None:
    codes = re.findall(r"^\| `([A-Z_]+)` \|", OPERATIONS_PAGE, re.MULTILINE)
    sources = "".join((ROOT / "runyard/cli" / name).read_text("utf-8") for name in ("doctor.py", "findings.py"))

    assert codes == sorted(FindingCode)
    assert [code for code in FindingCode if f"FindingCode.{code.name}" not in sources] == []
