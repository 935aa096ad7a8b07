"""Parameters of a function: from arguments to the JSON object of a run, and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from inspect import Parameter
from types import GenericAlias
from typing import Any, NamedTuple, cast

from runyard_client.context import Run, current_run
from runyard_client.errors import BadParameters, NotSerialisable
from runyard_client.tasks.annotations import is_run_annotation, resolve_annotation
from runyard_client.values.unreadable import Unreadable, join_path

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class BoundArguments(NamedTuple):
    """Arguments of one call, checked against the signature, without defaults."""

    bound: inspect.BoundArguments
    keywords: str | None
    module: str

    def encode(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        """Return the parameters of the run: a JSON object by parameter name, with the items of `**kwargs` merged."""
        encoded: dict[str, Any] = {}
        for name, value in self.bound.arguments.items():
            if name == self.keywords:
                for keyword, item in value.items():
                    _encode_argument(encoded, keyword, item, encode)
            else:
                _encode_argument(encoded, name, value, encode)
        return encoded

    def with_defaults(self) -> dict[str, Any]:
        """Return all arguments by name, with the defaults of those that were not given."""
        bound = inspect.BoundArguments(self.bound.signature, self.bound.arguments.copy())
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        if self.keywords is not None:
            arguments |= arguments.pop(self.keywords)
        return arguments


def _encode_argument(encoded: dict[str, Any], name: str, value: Any, encode: Callable[[Any], Any]) -> None:
    if name in encoded:  # an item of **kwargs with the name of a positional-only parameter or of *args
        raise TypeError(f"got multiple values for parameter {name!r}")
    try:
        encoded[name] = encode(value)
    except NotSerialisable as error:
        raise NotSerialisable(error.reason, path=join_path(name, error.path)) from None


class Parameters:
    """The parameters of a function, without a first parameter that is annotated `Run`.

    Annotations are resolved when they are first needed, since they may refer to names that are defined later.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = inspect.unwrap(function)
        self.module: str = function.__module__
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        run_at = [i for i, each in enumerate(parameters) if is_run_annotation(each.annotation, self._function)]
        if run_at and (run_at != [0] or parameters[0].kind not in _POSITIONAL):
            raise TypeError(f"Only the first parameter of {function.__qualname__} can be annotated `Run`.")
        self.takes_run = bool(run_at)
        self.signature = signature.replace(parameters=parameters[1:] if run_at else parameters)
        kinds = {each.kind: name for name, each in self.signature.parameters.items()}
        self._items: str | None = kinds.get(Parameter.VAR_POSITIONAL)
        self._keywords: str | None = kinds.get(Parameter.VAR_KEYWORD)

    @property
    def names(self) -> frozenset[str]:
        """Names of the parameters."""
        return frozenset(self.signature.parameters)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BoundArguments:
        """Match arguments with the signature. Raises TypeError, as the call would."""
        return BoundArguments(self.signature.bind(*args, **kwargs), self._keywords, self.module)

    def with_current_run(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments of a plain call, with the current run if the function takes it. Raises `NoRun`."""
        return (current_run(), *args) if self.takes_run else args

    @cached_property
    def annotations(self) -> dict[str, Any]:
        """Resolved annotations by parameter name. That of `*args` is of the list, that of `**kwargs` of each item."""
        annotations = {
            name: resolve_annotation(each.annotation, self._function, name)
            for name, each in self.signature.parameters.items()
        }
        if self._items is not None:
            item = annotations[self._items]
            annotations[self._items] = GenericAlias(list, (Any if item is Parameter.empty else item,))
        return annotations

    @cached_property
    def result_annotation(self) -> Any:
        """Resolved return annotation. `inspect.Parameter.empty` without one."""
        return resolve_annotation(self.signature.return_annotation, self._function, "return")

    def read(
        self, parameters: Any, run: Run | None, decode: Callable[[Any, Any], Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and keyword arguments. Raises `BadParameters`."""
        if not isinstance(parameters, dict | None):
            raise BadParameters(f"The parameters must be a JSON object; got {type(parameters).__name__}.")
        values = cast("dict[str, Any]", parameters or {})
        self._check_names(values)
        args: list[Any] = [run] if self.takes_run else []
        kwargs: dict[str, Any] = {}
        for name, parameter in self.signature.parameters.items():
            self._read_parameter(parameter, values, args, kwargs, decode, name)
        return tuple(args), kwargs

    def _check_names(self, values: dict[str, Any]) -> None:
        if self._keywords is None:
            for name in values:
                if name not in self.signature.parameters:
                    raise BadParameters("the task has no such parameter.", parameter=name)

    def _read_parameter(
        self,
        parameter: Parameter,
        values: dict[str, Any],
        args: list[Any],
        kwargs: dict[str, Any],
        decode: Callable[[Any, Any], Any],
        name: str,
    ) -> None:
        annotation = self.annotations[name]
        if parameter.kind is Parameter.VAR_KEYWORD:
            others = values.keys() - (self.signature.parameters.keys() - {name})
            kwargs |= {other: _decode(decode, values[other], annotation, other) for other in values if other in others}
        elif parameter.kind is Parameter.VAR_POSITIONAL:
            args.extend(_decode(decode, values.get(name, []), annotation, name))
        elif name in values:
            value = _decode(decode, values[name], annotation, name)
            if parameter.kind is Parameter.KEYWORD_ONLY:
                kwargs[name] = value
            else:
                args.append(value)
        elif parameter.default is Parameter.empty:
            raise BadParameters("is required and missing.", parameter=name)
        elif parameter.kind is not Parameter.KEYWORD_ONLY:
            args.append(parameter.default)  # later positional arguments follow it


def _decode(decode: Callable[[Any, Any], Any], value: Any, annotation: Any, name: str) -> Any:
    try:
        return decode(value, annotation)
    except Unreadable as error:
        raise BadParameters(error.reason, parameter=join_path(name, error.path)) from error
    except (ValueError, TypeError) as error:
        raise BadParameters(str(error), parameter=name) from error
