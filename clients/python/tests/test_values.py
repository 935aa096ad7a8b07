"""Values go to JSON and come back unchanged; what JSON does not have is refused with its path."""

import dataclasses
import inspect
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Optional, Union
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from runyard_client.errors import NotSerialisable
from runyard_client.values import Unreadable, decode, decoding, encode
from value_types import Access, Address, Area, Box, Cat, Color, Dog, Level, Mode, Page, Point, UserId

MOMENT = datetime(2026, 11, 30, 12, 30, 0, 250_000, tzinfo=timezone(timedelta(hours=2)))
ID = UUID("12345678-1234-5678-1234-567812345678")

FORMS = [
    (str, "Ünïcode 🎉", "Ünïcode 🎉"),
    (int, 2**64 - 1, 2**64 - 1),
    (int, -(2**63), -(2**63)),
    (float, 1.5, 1.5),
    (bool, True, True),
    (None, None, None),
    (datetime, MOMENT, "2026-11-30T12:30:00.250000+02:00"),
    (date, date(2026, 11, 30), "2026-11-30"),
    (timedelta, timedelta(days=1, microseconds=1), 86400.000001),
    (UUID, ID, "12345678-1234-5678-1234-567812345678"),
    (Decimal, Decimal("1.10"), "1.10"),
    (bytes, b"\xff\x00a", "/wBh"),
    (bytearray, bytearray(b"a"), "YQ=="),
    (Path, Path("/a/b"), "/a/b"),
    (PurePosixPath, PurePosixPath("a/b"), "a/b"),
    (list[int], [1, 2], [1, 2]),
    (set[str], {"a"}, ["a"]),
    (frozenset[int], frozenset({1}), [1]),
    (tuple[int, ...], (1, 2), [1, 2]),
    (tuple[int, str], (1, "a"), [1, "a"]),
    (tuple[()], (), []),
    (Sequence[bytes], [b"a"], ["YQ=="]),
    (Iterable[date], [date(2026, 1, 2)], ["2026-01-02"]),
    (dict[str, UUID], {"a": ID}, {"a": str(ID)}),
    (dict[Mode, int], {Mode.FAST: 1}, {"fast": 1}),
    (Mapping[str, list[Page]], {"a": [Page("t")]}, {"a": [{"title": "t", "number": 0, "at": None, "children": []}]}),
    (Color, Color.BLUE, 2),
    (Color, Color.PAIR, ["a", 1]),
    (Level, Level.HIGH, 2),
    (Mode, Mode.FAST, "fast"),
    (Access, Access.READ | Access.WRITE, 3),
    (Page, Page("t", 1, MOMENT, (Page("u"),)), None),
    (Area, Area(2, 3), {"width": 2, "height": 3}),
    (Box[Page], Box(Page("t"), [Page("u")]), None),
    (Box[list[int]], Box([1], [[2]]), {"content": [1], "others": [[2]]}),
    (Address, {"street": "s", "id": ID}, {"street": "s", "id": str(ID)}),
    (Address, {"street": "s"}, {"street": "s"}),
    (Point, Point(1.5, 2.0, "there"), [1.5, 2.0, "there"]),
    (Optional[date], date(2026, 1, 2), "2026-01-02"),  # noqa: UP045
    (int | None, None, None),
    (Union[UUID, int, str], ID, str(ID)),  # noqa: UP007
    (UUID | int | str, 3, 3),
    (UUID | int | str, "no id", "no id"),
    (float | int, 3, 3),
    (list[Cat | Dog], [Dog("a", 3), Cat("b")], [{"name": "a", "age": 3}, {"name": "b"}]),
    (Literal["a", 1, None], 1, 1),
    (Annotated[list[date], "dates"], [date(2026, 1, 2)], ["2026-01-02"]),
    (UserId, UserId(3), 3),
    (Any, {"a": [1, None]}, {"a": [1, None]}),
    (object, [1], [1]),
    (inspect.Parameter.empty, {"a": 1}, {"a": 1}),
    (dict, {"a": 1}, {"a": 1}),
    (list, [1, "a"], [1, "a"]),
]


@pytest.mark.parametrize(("annotation", "value", "json"), FORMS, ids=lambda each: str(each)[:40])
def test_values_have_one_form_in_json_and_come_back(annotation, value, json):
    encoded = encode(value)
    if json is not None:
        assert encoded == json
        assert type(encoded) is type(json)

    read = decode(orjson.loads(orjson.dumps(encoded)), annotation)

    assert read == value
    assert type(read) is type(value)


def test_a_mapping_of_any_class_is_an_object():
    assert encode(OrderedDict(b=1, a=(2,))) == {"b": 1, "a": [2]}


def test_integers_are_read_as_floats_and_not_the_other_way_round():
    assert decode(3, float) == 3.0
    assert type(decode(3, float)) is float
    with pytest.raises(Unreadable, match="must be an integer; got a number"):
        decode(3.0, int)


def test_decimals_are_read_from_numbers_too():
    assert decode(1.1, Decimal) == Decimal("1.1")


def test_unknown_fields_of_a_dataclass_are_ignored():
    assert decode({"title": "t", "new": 1}, Page) == Page("t")


def test_a_missing_field_has_its_default():
    assert decode({"title": "t"}, Page) == Page("t", 0, None, ())
    assert decode([1, 2], Point) == Point(1.0, 2.0, "here")


# What is refused


class Unsupported:
    """A class that JSON does not have."""


CYCLE: list[Any] = []
CYCLE.append({"again": CYCLE})


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ({"pages": [Page("a"), Page("b"), Page("c"), Page("d", math.nan)]}, "pages[3].number", "JSON has no nan"),
        ([1, -math.inf], "[1]", "JSON has no -inf"),
        ({"a": Decimal("NaN")}, "a", "JSON has no NaN"),
        ({"a": {"b": 2**64}}, "a.b", "integers must have at most 64 bits; got one of 65 bits"),
        (-(2**63) - 1, "", "integers must have at most 64 bits"),
        ({"a": [{1: "b"}]}, "a[0].1", "keys must be strings; got int"),
        ({"a": Unsupported()}, "a", "values of the type test_values.Unsupported cannot be sent"),
        (time(12), "", "values of the type datetime.time cannot be sent"),
        ((len,), "[0]", "values of the type builtins.builtin_function_or_method cannot be sent"),
        ({"at": datetime(2026, 11, 30)}, "at", "date-times must have an offset"),  # noqa: DTZ001
        (["\ud800"], "[0]", "contains a surrogate"),
        ({"a": {"\udfff": 1}}, None, "contains a surrogate"),
        (["a\0b"], "[0]", "does not accept the NUL character"),
        (CYCLE, "[0].again", "contains itself"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_what_json_does_not_have_is_refused_with_its_path(value, path, message):
    with pytest.raises(NotSerialisable, match=message) as caught:
        encode(value)

    if path is not None:
        assert caught.value.path == path


def test_more_levels_than_the_server_accepts_are_refused():
    value: list[Any] = []
    for _ in range(239):
        value = [value]
    assert encode(value) == value

    with pytest.raises(NotSerialisable, match="must not have more than 240 levels"):
        encode([value])


def test_one_value_in_two_places_is_no_cycle():
    shared = [1]

    assert encode([shared, shared]) == [[1], [1]]


@pytest.mark.parametrize(
    ("json", "annotation", "path", "message"),
    [
        (3, str, "", "must be a string; got an integer"),
        ("3", int, "", "must be an integer; got a string"),
        (True, int, "", "must be an integer; got a Boolean"),
        (1, bool, "", "must be a Boolean; got an integer"),
        (None, str, "", "must be a string; got null"),
        (1, None, "", "must be null; got an integer"),
        ("2026-11-30T12:00:00", datetime, "", "must be an ISO 8601 date-time with an offset"),
        ("30.11.2026", date, "", "must be an ISO 8601 date"),
        (1e300, timedelta, "", "must be a number of seconds"),
        ("x", UUID, "", "must be a UUID"),
        ("1,5", Decimal, "", "must be a decimal number"),
        ("NaN", Decimal, "", "must be a decimal number"),
        ("YQ*==", bytes, "", "must be base64"),
        ("YQ", bytes, "", "must be base64"),
        ({}, list[int], "", "must be a list; got an object"),
        ([1, "a"], set[int], "[1]", "must be an integer; got a string"),
        ([1], tuple[int, str], "", "must have 2 items; got 1"),
        ([1, 2], tuple[int, str], "[1]", "must be a string"),
        ([1], Point, "", "must have 2 to 3 items; got 1"),
        ([], dict[str, int], "", "must be an object; got a list"),
        ({"a": "b"}, dict[str, int], "a", "must be an integer"),
        ({"slow": 1}, dict[Mode, int], "slow", "the key must be one of 'fast'"),
        ("green", Color, "", r"must be one of 'red', 2, \['a', 1\]"),
        (True, Level, "", "must be one of 1, 2"),
        ("b", Literal["a", 1], "", "must be one of 'a', 1"),
        (True, Literal["a", 1], "", "must be one of 'a', 1"),
        (
            {"children": [{"title": "t", "children": [{}]}], "title": ""},
            Page,
            "children[0].children[0].title",
            "is required",
        ),
        ({"width": -1, "height": 1}, Area, "", "`width` must not be negative"),
        ({"content": 1, "others": [1, "b"]}, Box[int], "others[1]", "must be an integer"),
        ({"street": 3}, Address, "street", "must be a string"),
        ({"street": "s", "id": 3}, Address, "id", "must be a UUID"),
        ([], int | str, "", "must be an integer; got a list or must be a string; got a list"),
        ([{"title": 3}], list[Page] | None, "[0].title", "must be a string"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_what_the_annotation_does_not_have_is_refused_with_its_path(json, annotation, path, message):
    with pytest.raises(Unreadable, match=message) as caught:
        decode(json, annotation)

    assert caught.value.path == path


def test_an_annotation_without_a_form_in_json_is_refused():
    with pytest.raises(
        TypeError, match=r"Values of the type <class 'test_values\.Unsupported'> cannot be read from JSON"
    ):
        decode({}, Unsupported)


# pydantic and msgspec


class Order(BaseModel):
    model_config = ConfigDict(strict=True)

    id: UUID
    lines: dict[str, Decimal]
    due: datetime
    url: AnyUrl


ORDER = Order(id=ID, lines={"a": Decimal("1.10")}, due=MOMENT, url=AnyUrl("https://example.org/a"))


def test_models_of_pydantic_come_back_within_other_types():
    value = {"orders": [ORDER]}

    encoded = orjson.loads(orjson.dumps(encode(value)))

    assert encoded["orders"][0]["url"] == "https://example.org/a"
    assert decode(encoded, dict[str, list[Order]]) == value


def test_the_path_of_an_invalid_model_leads_into_it():
    encoded = encode([ORDER, ORDER])
    encoded[1]["lines"]["b"] = "x"

    with pytest.raises(Unreadable) as caught:
        decode(encoded, list[Order])

    assert caught.value.path == "[1].lines.b"


def test_constraints_of_pydantic_are_checked():
    annotation = list[Annotated[int, Field(gt=0)]]

    assert decode([1], annotation) == [1]
    with pytest.raises(Unreadable, match=r"^\[1\]: Input should be greater than 0\.$"):
        decode([1, 0], annotation)


class Small(BaseModel):
    name: str


class Big(BaseModel):
    name: str
    size: int


def test_unions_of_models_are_read_by_the_best_match():
    assert decode(encode([Big(name="a", size=1), Small(name="b"), None]), list[Small | Big | None]) == [
        Big(name="a", size=1),
        Small(name="b"),
        None,
    ]


def test_fields_whose_types_do_not_exist_at_run_time_are_reported():
    made = dataclasses.make_dataclass("Made", [("page", "Missing")])

    with pytest.raises(TypeError, match=r"The annotations of .*Made cannot be resolved: name 'Missing' is not defined"):
        decode({"page": {}}, made)


def test_structs_of_msgspec_come_back():
    msgspec = pytest.importorskip("msgspec")
    struct = msgspec.defstruct("Line", [("name", str), ("at", datetime), ("data", bytes)])
    value = [struct("a", MOMENT, b"\xff")]

    assert decode(encode(value), list[struct]) == value
    with pytest.raises(Unreadable, match="Expected `str`, got `int`"):
        decode([{"name": 3, "at": "x", "data": ""}], list[struct])


# Everything that is sent comes back

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
OFFSETS = st.integers(-1_439, 1_439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
SCALARS: dict[Any, Any] = {
    str: TEXTS,
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    None: st.none(),
    datetime: st.datetimes(timezones=OFFSETS),
    date: st.dates(),
    timedelta: st.timedeltas(timedelta(days=-90_000), timedelta(days=90_000)),
    UUID: st.uuids(),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    bytes: st.binary(),
    Path: st.sampled_from([Path("/"), Path("a/b c"), Path("ü")]),
    Color: st.sampled_from(list(Color)),
    Access: st.sampled_from([Access.READ, Access.WRITE, Access.READ | Access.WRITE]),
}


def wrap(inner: st.SearchStrategy[tuple[Any, Any]]) -> st.SearchStrategy[tuple[Any, Any]]:
    """Return a strategy for pairs of a container's annotation and a value of it."""

    def containers(pair: tuple[Any, Any]) -> st.SearchStrategy[tuple[Any, Any]]:
        annotation, values = pair
        return st.sampled_from(
            [
                (list[annotation], st.lists(values, max_size=3)),
                (tuple[annotation, ...], st.lists(values, max_size=3).map(tuple)),
                (tuple[annotation, bool], st.tuples(values, st.booleans())),
                (dict[str, annotation], st.dictionaries(TEXTS, values, max_size=3)),
                (annotation | None if annotation is not None else annotation, st.none() | values),
                (Box[annotation], st.builds(Box, values, st.lists(values, max_size=2))),
            ]
        )

    return inner.flatmap(containers)


ANNOTATED_VALUES = st.recursive(st.sampled_from(list(SCALARS.items())), wrap, max_leaves=3).flatmap(
    lambda pair: st.tuples(st.just(pair[0]), pair[1])
)


@settings(max_examples=300, deadline=None)
@given(ANNOTATED_VALUES)
def test_every_value_comes_back_through_json(pair):
    annotation, value = pair

    assert decode(orjson.loads(orjson.dumps(encode(value))), annotation) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(JSON, st.sampled_from([each for each, _, _ in FORMS]))
def test_every_json_value_is_read_or_refused(json, annotation):
    try:
        value = decode(json, annotation)
    except Unreadable:
        return

    assert decode(orjson.loads(orjson.dumps(encode(value))), annotation) == value


# pydantic reads bytes as UTF-8 and iterables lazily, and refuses the TypedDict of Python 3.11 and enumerations of tuples.
OTHERS: tuple[Any, ...] = (bytes, bytearray, Sequence[bytes], Iterable[date], Address, object, inspect.Parameter.empty)
AGREED = [form for form in FORMS if form[0] not in OTHERS and form[1] is not Color.PAIR]


@pytest.mark.parametrize(("annotation", "value", "json"), AGREED, ids=lambda each: str(each)[:40])
def test_the_reader_agrees_with_strict_pydantic(annotation, value, json):
    del json
    data = orjson.dumps(encode(value))

    assert TypeAdapter(annotation).validate_json(data) == decode(orjson.loads(data), annotation)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([str, int, bool, float, date, UUID, list[int], dict[str, bool], Color, Level, Page]), JSON)
def test_what_strict_pydantic_refuses_is_refused(annotation, json):
    try:
        TypeAdapter(annotation).validate_json(orjson.dumps(json), strict=True)
    except ValidationError:
        with pytest.raises(Unreadable):
            decode(json, annotation)


def test_unions_are_read_in_the_order_of_their_annotation():
    # The two annotations are equal, and have the same hash.
    assert decode(["2026-01-02"], list[date | str]) == [date(2026, 1, 2)]
    assert decode(["2026-01-02"], list[str | date]) == ["2026-01-02"]


def test_an_annotation_is_compiled_once(monkeypatch):
    compiled: list[Any] = []
    compile_annotation = decoding._compile
    monkeypatch.setattr(decoding, "_compile", lambda each: compiled.append(each) or compile_annotation(each))
    annotation = list[Page]

    for _ in range(3):
        assert decode([{"title": "t"}], annotation) == [Page("t")]

    assert compiled.count(annotation) == 1


def test_dataclasses_with_a_mutable_default_are_read_apart():
    made = dataclasses.make_dataclass("Made", [("items", list[int], dataclasses.field(default_factory=list))])

    first, second = decode({}, made), decode({}, made)
    first.items.append(1)

    assert second.items == []


def test_date_times_in_utc_are_read_with_z():
    assert decode("2026-11-30T10:30:00Z", datetime) == datetime(2026, 11, 30, 10, 30, tzinfo=UTC)
