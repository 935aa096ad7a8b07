"""Orchestration rules: one per file, each documented, listed in a policy, and tested."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from resolvers.orchestration import policy, rules
from resolvers.orchestration.transition import Rule

FOLDER = Path(rules.__file__).parent
TESTS = Path(__file__).parent.parent / "orchestration"
FILES = {path.stem: path.relative_to(FOLDER) for path in FOLDER.rglob("*.py") if path.stem != "__init__"}
NAMES = sorted(FILES)


def rules_of(module: ModuleType) -> list[Rule]:
    return [value for value in vars(module).values() if isinstance(value, Rule)]


def module_of(name: str) -> ModuleType:
    return import_module(f"{rules.__name__}.{FILES[name].parent.name}.{name}")


def policies() -> dict[str, tuple[Rule, ...]]:
    """Return every policy by its name in `policy.py`."""
    return {name: value for name, value in vars(policy).items() if name.isupper() and isinstance(value, tuple)}


def test_the_rules_and_policies_are_found() -> None:
    assert "fence_lost_leases" in NAMES
    assert {"IN_FLOW_RUN", "IN_BACKGROUND", "FORCED", "FLOW_RUN"} <= set(policies())


@pytest.mark.parametrize("name", NAMES)
def test_a_file_contains_one_rule_of_the_same_name(name: str) -> None:
    (rule,) = rules_of(module_of(name))

    assert rule.name == name
    assert vars(module_of(name))[name] is rule


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_and_its_module_are_documented(name: str) -> None:
    (rule,) = rules_of(module_of(name))

    assert (module_of(name).__doc__ or "").strip()
    assert (rule.decide.__doc__ or "").strip()


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_is_listed_in_a_policy(name: str) -> None:
    (rule,) = rules_of(module_of(name))

    assert [title for title, listed in policies().items() if rule in listed] != []


@pytest.mark.parametrize("title", policies())
def test_a_policy_contains_no_rule_twice(title: str) -> None:
    names = [rule.name for rule in policies()[title]]

    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_has_its_own_test_file(name: str) -> None:
    assert (TESTS / FILES[name].parent / f"test_{name}.py").is_file()
