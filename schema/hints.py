"""Hints for common mistakes in filters and selections, which are added to the error messages of graphql-core.

graphql-core suggests names that are spelled alike. These hints are for names of other APIs and for values in the wrong
form. They are fixed texts: they reveal nothing that the published schema does not.
"""

import re
from collections.abc import Mapping

_NOT_AN_OBJECT = re.compile(r"Expected value of type '(\w+)' to be an object, found: ")
_UNKNOWN_INPUT_FIELD = re.compile(r"Expected value of type '(\w+)' not to include unknown field '(\w+)'")
_UNKNOWN_FIELD = re.compile(r"Cannot query field '(\w+)' on type '\w+(Connection|Edge)'")
_VARIABLE = re.compile(r"Variable '\$\w+' has invalid value(?: at [\w.\[\]]+)?: ")

EXAMPLES: Mapping[str, str] = {
    "StateFilter": "state: {type: {in: [FAILED]}}",
    "StateTypeFilter": "state: {type: {in: [FAILED]}}",
    "TextFilter": 'taskKey: {in: ["send-mail"]}',
    "IdFilter": 'flowRunId: {in: ["01a206b2-304f-7000-b2ee-99ddb7de4877"]}',
    "TagsFilter": 'tags: {any: ["urgent"]}',
    "DateTimeFilter": 'startTime: {after: "2026-01-31T00:00:00Z"}',
    "IntFilter": "runCount: {atLeast: 2}",
    "FloatFilter": "totalRunTimeSeconds: {atLeast: 60}",
    "JSONFilter": 'metadata: {contains: {team: "search"}}',
}
"""A condition of each type, for those who write a value where a condition is expected."""


def _names_of(operator: str, *names: str) -> dict[str, str]:
    """Map each of these names to the operator."""
    return dict.fromkeys(names, operator)


_EQUAL = _names_of("in", "any", "any_", "eq", "equal", "equals", "is", "oneOf", "one_of", "_eq", "_in")
_NOT_EQUAL = _names_of("notIn", "ne", "neq", "nin", "not", "notAny", "notEqual", "not_any_", "not_in", "_neq")
_LISTS = _EQUAL | _NOT_EQUAL
_PARTS = _names_of("contains", "like", "like_", "ilike", "icontains", "includes", "match", "matches", "search")
_PREFIXES = _names_of("startsWith", "beginsWith", "prefix", "startswith", "starts_with")
_LATER = _names_of("after", "after_", "from", "ge", "greaterThan", "gt", "gte", "since", "_gt", "_gte")
_EARLIER = _names_of("before", "before_", "le", "lessThan", "lt", "lte", "to", "until", "_lt", "_lte")
_AT_LEAST = _names_of("atLeast", *_LATER, "after", "min")
_AT_MOST = _names_of("atMost", *_EARLIER, "before", "max")
_TAGS = _names_of("any", "contains", "eq", "in", "includes", "like", "oneOf")

OPERATORS: Mapping[str, Mapping[str, str]] = {
    "IdFilter": _LISTS,
    "TextFilter": _LISTS | _PARTS | _PREFIXES,
    "StateTypeFilter": _LISTS,
    "TagsFilter": _TAGS,
    "DateTimeFilter": _LATER | _EARLIER,
    "IntFilter": _AT_LEAST | _AT_MOST,
    "FloatFilter": _AT_LEAST | _AT_MOST,
    "JSONFilter": _names_of("contains", "eq", "equals", "has", "includes", "match", "matches"),
}
"""Operators of each filter by their names in other APIs."""

FIELDS: Mapping[str, Mapping[str, str]] = {
    "TaskRunFilter": {
        "deployment": "flowRun: {deployment: {…}}",
        "deploymentId": "flowRun: {deploymentId: {…}}",
        "flow": "flowRun: {flow: {…}}",
        "flowId": "flowRun: {flow: {id: {…}}}",
        "flowName": "flowRun: {flow: {name: {…}}}",
        "stateName": "state: {name: {…}}",
        "stateType": "state: {type: {…}}",
        "status": "state: {type: {…}}",
    },
    "FlowRunFilter": {
        "flowId": "flow: {id: {…}}",
        "flowName": "flow: {name: {…}}",
        "stateName": "state: {name: {…}}",
        "stateType": "state: {type: {…}}",
        "status": "state: {type: {…}}",
    },
    "StateFilter": {
        "any": "type: {in: […]}",
        "eq": "type: {in: […]}",
        "in": "type: {in: […]}",
        "notAny": "type: {notIn: […]}",
        "notIn": "type: {notIn: […]}",
    },
}
"""Places of conditions in each filter by the names under which they are often looked for."""


CONNECTION_FIELDS: Mapping[str, str] = {
    "count": "totalCount",
    "data": "nodes",
    "items": "nodes",
    "results": "nodes",
    "total": "totalCount",
}
"""Fields of a page by their names in other APIs."""


def add_hint(message: str) -> str:
    """Return the message of an error of graphql-core, with a hint when it reports a common mistake."""
    hint = _find_hint(message)
    return message if hint is None else f"{message} {hint}"


def _find_hint(message: str) -> str | None:
    prefix = _VARIABLE.match(message)
    start = prefix.end() if prefix else 0
    if (match := _NOT_AN_OBJECT.match(message, start)) and (example := EXAMPLES.get(match[1])):
        return f"For example: `{example}`."
    if match := _UNKNOWN_INPUT_FIELD.match(message, start):
        type_name, name = match.groups()
        if operator := OPERATORS.get(type_name, {}).get(name):
            return f"The operator is called `{operator}`."
        if place := FIELDS.get(type_name, {}).get(name):
            return f"Use `{place}`."
    if match := _UNKNOWN_FIELD.match(message):
        field, kind = match.groups()
        if kind == "Connection" and field in CONNECTION_FIELDS:
            return f"The field is called `{CONNECTION_FIELDS[field]}`."
        items = "nodes" if kind == "Connection" else "node"
        return f"Select the fields of an item in `{items}`: `{items} {{ {field} }}`."
    return None
