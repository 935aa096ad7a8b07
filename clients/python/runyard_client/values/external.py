"""Values of pydantic and msgspec. Neither is imported here: a program that has such values has imported it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from typing import Any, get_origin

import orjson

from runyard_client.errors import NotSerialisable
from runyard_client.values.unreadable import Unreadable


def external_encoder(cls: type) -> Callable[[Any], Any] | None:
    """Return a function to Python's own types for a class of pydantic or msgspec, or None for other classes."""
    if is_pydantic(cls):
        return _pydantic_encoder(cls)
    if is_struct(cls):
        return _encode_struct
    return None


def external_decoder(annotation: Any, cls: type) -> Callable[[Any], Any] | None:
    """Return the reader of an annotation of pydantic or msgspec, or None for other classes. `cls` is its class."""
    if is_pydantic(cls):
        return _pydantic_decoder(annotation)
    if is_struct(cls):
        return _struct_decoder(annotation)
    return None


def external_union_decoder(annotation: Any, members: Iterable[Any]) -> Callable[[Any], Any] | None:
    """Return the reader of a union of classes of one library, which knows tags and the best match, or None for others."""
    classes = [get_origin(each) or each for each in members if each is not type(None)]
    if all(map(is_pydantic, classes)):
        return _pydantic_decoder(annotation)
    if all(map(is_struct, classes)):
        return _struct_decoder(annotation)
    return None


def is_pydantic(cls: Any) -> bool:
    """Return whether pydantic knows how to read and write the class: its models, dataclasses and types such as `AnyUrl`."""
    return hasattr(cls, "__get_pydantic_core_schema__") or "__pydantic_core_schema__" in getattr(cls, "__dict__", ())


def is_struct(cls: Any) -> bool:
    """Return whether the class is a struct of msgspec."""
    return hasattr(cls, "__struct_fields__")


def _pydantic_encoder(cls: type) -> Callable[[Any], Any]:
    from pydantic import TypeAdapter  # noqa: PLC0415
    from pydantic_core import PydanticSerializationError  # noqa: PLC0415

    adapter: TypeAdapter[Any] = TypeAdapter(cls)

    def encode(value: Any) -> Any:
        try:
            return adapter.dump_python(value, mode="json", by_alias=True)
        except PydanticSerializationError as error:
            raise NotSerialisable(str(error)) from error

    return encode


def _pydantic_decoder(annotation: Any) -> Callable[[Any], Any]:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

    adapter: TypeAdapter[Any] = TypeAdapter(annotation)

    def decode(value: Any) -> Any:
        try:
            # Unlike `validate_python`, reads dates in strict models too.
            return adapter.validate_json(orjson.dumps(value))
        except ValidationError as error:
            raise _first_error(error) from error

    return decode


def constraint_checker(annotation: Any, metadata: tuple[Any, ...]) -> Callable[[Any], Any] | None:
    """Return the validator of `Annotated[…, Field(gt=0)]` for a value that has been read, or None without constraints."""
    modules = {type(each).__module__.partition(".")[0] for each in metadata}
    if "pydantic" not in sys.modules or modules.isdisjoint({"pydantic", "annotated_types"}):
        return None
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

    adapter: TypeAdapter[Any] = TypeAdapter(annotation)

    def check(value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            raise _first_error(error) from error

    return check


def _first_error(error: Any) -> Unreadable:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"]).lstrip(".")
    return Unreadable(f"{first['msg']}.", path)


def _encode_struct(value: Any) -> Any:
    msgspec: Any = importlib.import_module("msgspec")
    try:
        return msgspec.to_builtins(value)
    except TypeError as error:
        raise NotSerialisable(str(error)) from error


def _struct_decoder(annotation: Any) -> Callable[[Any], Any]:
    msgspec: Any = importlib.import_module("msgspec")

    def decode(value: Any) -> Any:
        try:
            return msgspec.convert(value, annotation)
        except msgspec.ValidationError as error:
            raise Unreadable(f"{error}.") from error

    return decode
