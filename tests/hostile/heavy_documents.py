"""Documents that take as long to look at as the limits allow: what is counted is at its most, and much of it is wrong."""

from collections.abc import Callable


def _each(count: int, write: Callable[[int], str]) -> str:
    return " ".join(write(number) for number in range(count))


def _runs(selected: str, *fragments: str) -> str:
    return f"{{ taskRuns {{ nodes {{ {selected} }} }} }} {' '.join(fragments)}"


def _fragments(count: int, write: Callable[[int], str], name: str = "F") -> str:
    return _each(count, lambda number: f"fragment {name}{number} on TaskRun {{ {write(number)} }}")


def _spreads(count: int, name: str = "F") -> str:
    return _each(count, lambda number: f"...{name}{number}")


_DEEP = (
    "flowRun { taskRuns(first: 1) { nodes { flowRun { taskRuns(first: 1) { nodes { flowRun { id name tags } } } } } } }"
)

HEAVY: dict[str, str] = {
    "names of fields, nearly": _runs(_each(900, lambda number: f"estimatedStartTimeDeltaSecon{number}")),
    "long names of fields": _runs(_each(900, lambda number: "estimatedStartTimeDeltaSeconds" + "x" * 60 + f"{number}")),
    "names of input fields, nearly": "{ flowRuns(filter: {"
    + _each(640, lambda number: f"nextScheduledStartTim{number}: 1")
    + "}) { totalCount } }",
    "input fields of each level": "{ taskRunCount(filter: "
    + _each(100, lambda number: f"{{expectedStartTim{number}: 1 nam{number}: 2 not:")
    + "{}"
    + "}" * 100
    + ") }",
    "names of types, nearly": _each(
        240, lambda number: f"fragment F{number} on TaskRunOrchestrationResul{number} {{ a }}"
    )
    + " { a }",
    "types of variables, nearly": "query("
    + _each(300, lambda number: f"$v{number}: TaskRunStateChangeInputFlowRu{number}")
    + ") { a }",
    "names that the document defines": "query($a: "
    + "X" * 97
    + ") { a } "
    + _each(980, lambda number: f"type {'X' * 90}{number}"),
    "names of arguments, nearly": f"{{ taskRuns({_each(650, lambda number: f'firs{number}: 1')}) {{ totalCount }} }}",
    "arguments twice": "\n" * 9000 + f"{{ taskRuns({'first: 1 ' * 650}) {{ totalCount }} }}",
    "values of an enum, nearly": "{ taskRunCount(filter: {state: {type: {any: ["
    + _each(980, lambda number: f"CANCELLIN{number}")
    + "]}}}) }",
    "a long value of an enum": f"{{ taskRuns(sort: {'A' * 98_000}) {{ totalCount }} }}",
    "a large value of another type": "{ taskRuns(first: {"
    + _each(650, lambda number: f"a{number}: 1")
    + "}) { totalCount } }",
    "long texts of another type": "{ "
    + _each(5, lambda number: f'a{number}: taskRuns(first: "{"u" * 19_000}") {{ totalCount }}')
    + " }",
    "variables in the wrong place": f"query({_each(300, lambda number: f'$v{number}: Int')}) {{ taskQueues(taskKeys: ["
    + _each(300, lambda number: f"$v{number}")
    + "]) { taskKey } }",
    "variables that nobody uses": f"query({_each(480, lambda number: f'$v{number}: Int')}) {{ __typename }}",
    "variables that nobody defines": "mutation { createTaskRun(input: {taskKey: 1 parameters: {"
    + _each(450, lambda number: f"a{number}: $v{number}")
    + "}}) { created } }",
    "other arguments each time": "{ flowRuns { nodes { "
    + _each(30, lambda number: f"taskRuns(first: {number}) {{ totalCount }}")
    + " } } }",
    "large arguments each time": "mutation { "
    + _each(
        20,
        lambda number: (
            f"a: createTaskRun(input: {{taskKey: 1 parameters: {{{_each(25, lambda k: f'a{k}: {number}')}}}}}) {{ created }}"
        ),
    )
    + " }",
    "overlapping fragments": _runs(
        _spreads(30), _fragments(30, lambda _: "id name created updated tags runCount state { id name } flowRun { id }")
    ),
    "deep overlapping fragments": _runs(_spreads(28), _fragments(28, lambda _: _DEEP)),
    "spreads of spreads": _runs(
        _spreads(15), _fragments(15, lambda _: _spreads(29, "G")), _fragments(29, lambda _: "id", "G")
    ),
    "operations that share a fragment": _each(240, lambda number: f"query Q{number} {{ ...F }}")
    + " fragment F on Query { taskRunCount flow(id: 1) { id } }",
    "fragments that nobody spreads": "{ __typename } " + _fragments(270, lambda _: "id name"),
    "unknown fragments": _runs(_spreads(650)),
    "selections of plain data": _runs(_each(29, lambda _: "id { a } name { a } tags { a } created { a }")),
}
