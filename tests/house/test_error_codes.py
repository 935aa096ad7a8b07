"""Error codes: one enumeration names every code, and the schema and docs/errors.md list each."""

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import db
import resolvers
import runyard
import schema
from resolvers.errors import ErrorCode, Refusal
from schema.root import build_schema
from tests.house.source_files import ROOT, python_files

ERRORS_PAGE = (ROOT / "docs" / "errors.md").read_text("utf-8")
DEFINITION = Path("resolvers/errors.py")
DESCRIPTIONS = Path("schema/enums.py")


def refusals(base: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    for refusal in base.__subclasses__():
        yield refusal
        yield from refusals(refusal)


def import_all(package: ModuleType) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)


def texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_refusal_has_a_code_of_the_enumeration() -> None:
    for package in (db, resolvers, schema, runyard):
        import_all(package)

    codes = {refusal.__name__: getattr(refusal, "code", None) for refusal in refusals()}

    assert len(codes) >= 8
    assert [name for name, code in codes.items() if not isinstance(code, ErrorCode)] == []


def test_no_other_module_spells_a_code() -> None:
    spelled = {
        (str(path.relative_to(ROOT)), text)
        for folder in ("runyard", "schema", "resolvers", "db")
        for path in python_files(folder)
        if path.relative_to(ROOT) not in (DEFINITION, DESCRIPTIONS)
        for text in texts(path)
        if text in set(ErrorCode)
    }

    assert spelled == set()


def test_the_schema_has_every_code() -> None:
    printed = build_schema()._schema.type_map["ErrorCode"]

    assert list(printed.values) == list(ErrorCode)


def test_the_errors_page_lists_every_code() -> None:
    assert [code for code in ErrorCode if f"`{code}`" not in ERRORS_PAGE] == []
