"""Documents that take as long to validate as the limits allow: maximum counts and many errors."""

from collections.abc import Callable


def _repeat(count: int, write: Callable[[int], str]) -> str:
    return " ".join(write(number) for number in range(count))


def _runs(selected: str, *fragments: str) -> str:
    return f"{{ taskRuns {{ nodes {{ {selected} }} }} }} {' '.join(fragments)}"


def _fragments(count: int, write: Callable[[int], str], name: str = "F") -> str:
    return _repeat(count, lambda number: f"fragment {name}{number} on TaskRun {{ {write(number)} }}")


def _spreads(count: int, name: str = "F") -> str:
    return _repeat(count, lambda number: f"...{name}{number}")


_DEEP = (
    "flowRun { taskRuns(first: 1) { nodes { flowRun { taskRuns(first: 1) { nodes { flowRun { id name tags } } } } } } }"
)

HEAVY_DOCUMENTS: dict[str, str] = {
    "misspelled fields": _runs(_repeat(900, lambda number: f"estimatedStartTimeDeltaSecon{number}")),
    "long misspelled fields": _runs(
        _repeat(900, lambda number: "estimatedStartTimeDeltaSeconds" + "x" * 60 + f"{number}")
    ),
    "misspelled input fields": "{ flowRuns(filter: {"
    + _repeat(640, lambda number: f"nextScheduledStartTim{number}: 1")
    + "}) { totalCount } }",
    "misspelled input fields on each level": "{ taskRunCount(filter: "
    + _repeat(100, lambda number: f"{{expectedStartTim{number}: 1 nam{number}: 2 not:")
    + "{}"
    + "}" * 100
    + ") }",
    "misspelled types": _repeat(240, lambda number: f"fragment F{number} on TaskRunOrchestrationResul{number} {{ a }}")
    + " { a }",
    "misspelled variable types": "query("
    + _repeat(300, lambda number: f"$v{number}: TaskRunStateChangeInputFlowRu{number}")
    + ") { a }",
    "type definitions in the document": "query($a: "
    + "X" * 97
    + ") { a } "
    + _repeat(980, lambda number: f"type {'X' * 90}{number}"),
    "misspelled arguments": f"{{ taskRuns({_repeat(650, lambda number: f'firs{number}: 1')}) {{ totalCount }} }}",
    "duplicate arguments": "\n" * 9000 + f"{{ taskRuns({'first: 1 ' * 650}) {{ totalCount }} }}",
    "misspelled enum values": "{ taskRunCount(filter: {state: {type: {in: ["
    + _repeat(980, lambda number: f"CANCELLIN{number}")
    + "]}}}) }",
    "a long enum value": f"{{ taskRuns(sort: {'A' * 98_000}) {{ totalCount }} }}",
    "a large value of a wrong type": "{ taskRuns(first: {"
    + _repeat(650, lambda number: f"a{number}: 1")
    + "}) { totalCount } }",
    "long strings of a wrong type": "{ "
    + _repeat(5, lambda number: f'a{number}: taskRuns(first: "{"u" * 19_000}") {{ totalCount }}')
    + " }",
    "variables of a wrong type": f"query({_repeat(300, lambda number: f'$v{number}: Int')}) {{ taskQueues(taskKeys: ["
    + _repeat(300, lambda number: f"$v{number}")
    + "]) { taskKey } }",
    "unused variables": f"query({_repeat(480, lambda number: f'$v{number}: Int')}) {{ __typename }}",
    "undefined variables": "mutation { createTaskRun(input: {taskKey: 1 parameters: {"
    + _repeat(450, lambda number: f"a{number}: $v{number}")
    + "}}) { created } }",
    "conflicting arguments": "{ flowRuns { nodes { "
    + _repeat(30, lambda number: f"taskRuns(first: {number}) {{ totalCount }}")
    + " } } }",
    "large conflicting arguments": "mutation { "
    + _repeat(
        20,
        lambda n: (
            f"a: createTaskRun(input: {{taskKey: 1 parameters: {{{_repeat(25, lambda k: f'a{k}: {n}')}}}}}) {{ created }}"
        ),
    )
    + " }",
    "overlapping fragments": _runs(
        _spreads(30),
        _fragments(30, lambda _: "id name createdAt updatedAt tags runCount state { id name } flowRun { id }"),
    ),
    "deep overlapping fragments": _runs(_spreads(28), _fragments(28, lambda _: _DEEP)),
    "nested spreads": _runs(
        _spreads(15), _fragments(15, lambda _: _spreads(29, "G")), _fragments(29, lambda _: "id", "G")
    ),
    "operations with a shared fragment": _repeat(240, lambda number: f"query Q{number} {{ ...F }}")
    + " fragment F on Query { taskRunCount flow(id: 1) { id } }",
    "unused fragments": "{ __typename } " + _fragments(270, lambda _: "id name"),
    "unknown fragments": _runs(_spreads(650)),
    "selections on leaf fields": _runs(_repeat(29, lambda _: "id { a } name { a } tags { a } createdAt { a }")),
}
