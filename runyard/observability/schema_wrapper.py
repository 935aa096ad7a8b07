"""Hooks around every operation, for metrics and tracing. The schema does not depend on them."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, cast

from strawberry.types.execution import ExecutionResult
from strawberry.types.graphql import OperationType

from schema.context import Context
from schema.execution.engine import RunyardSchema


class SchemaWrapper(ABC):
    """Proxy of a schema that wraps the execution of operations. Wrappers can be nested.

    The servers of a process share one schema, but each server has its own wrappers.
    """

    def __init__(self, schema: RunyardSchema) -> None:
        self._schema = schema
        self.documents = schema.documents

    def __getattr__(self, name: str) -> Any:
        return getattr(self._schema, name)

    @property
    def as_schema(self) -> RunyardSchema:
        """This wrapper, typed as a schema."""
        return cast("RunyardSchema", self)

    @abstractmethod
    async def wrap_execution(
        self, run: Callable[[], Awaitable[ExecutionResult]], query: str | None, operation_name: str | None
    ) -> ExecutionResult:
        """Execute an operation with `run` and return its result."""

    @abstractmethod
    def wrap_stream(
        self, results: AsyncGenerator[ExecutionResult, None], query: str | None, operation_name: str | None
    ) -> AsyncGenerator[ExecutionResult, None]:
        """Yield the results of an operation. Closing the returned generator closes `results`."""

    def execute(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Context | None = None,
        root_value: Any = None,
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] = (OperationType.QUERY, OperationType.MUTATION),
        operation_extensions: dict[str, Any] | None = None,
    ) -> Awaitable[ExecutionResult]:
        """Wrap `RunyardSchema.execute`."""
        # Created by the wrapper: a coroutine created here would never be awaited if the wrapper is cancelled first.
        run = partial(
            self._schema.execute,
            query,
            variable_values,
            context_value,
            root_value,
            operation_name,
            allowed_operation_types,
            operation_extensions,
        )
        return self.wrap_execution(run, query, operation_name)

    async def stream(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Context | None = None,
        root_value: Any = None,
        operation_name: str | None = None,
    ) -> AsyncGenerator[ExecutionResult, None]:
        """Wrap `RunyardSchema.stream`."""
        results = await self._schema.stream(query, variable_values, context_value, root_value, operation_name)
        return self.wrap_stream(results, query, operation_name)
