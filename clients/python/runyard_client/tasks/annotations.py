"""Resolve annotations, which may be strings that refer to names defined later."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from runyard_client.context import Run


def resolve_annotation(annotation: Any, function: Callable[..., Any], name: str) -> Any:
    """Return the annotation as a type; `inspect.Parameter.empty` without one.

    Raises:
        TypeError: the annotation refers to a name that does not exist, such as one that is imported for type checkers only.
    """
    if annotation is inspect.Parameter.empty:
        return annotation
    try:
        return resolve_in(annotation, getattr(function, "__globals__", {}))
    except NameError as error:
        raise TypeError(
            f"The annotation of `{name}` of {function.__module__}.{function.__qualname__} cannot be resolved: {error}."
            " Workers need the name at run time, so import it outside of `if TYPE_CHECKING`."
        ) from error


def resolve_in(annotation: Any, names: dict[str, Any], types: dict[str, Any] | None = None) -> Any:
    """Return the annotation with all forward references resolved in a namespace. Raises NameError."""
    holder: Any = SimpleNamespace(__annotations__={"it": annotation})
    return typing.get_type_hints(holder, globalns=names, localns=types, include_extras=True)["it"]


def is_run_annotation(annotation: Any, function: Callable[..., Any]) -> bool:
    """Return whether the annotation is `Run`, also if its module imports that for type checkers only."""
    if not isinstance(annotation, str):
        return annotation is Run
    if annotation.rpartition(".")[2] != "Run":
        return False
    try:
        return resolve_in(annotation, getattr(function, "__globals__", {})) is Run
    except NameError:
        return True
