"""What happens around every operation, like measuring and tracing, without a word of it in the schema."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, cast

from strawberry.types.execution import ExecutionResult
from strawberry.types.graphql import OperationType

from schema.context import Context
from schema.execution.engine import RunyardSchema


class Around(ABC):
    """Stands for a schema, which all servers in a process share, and has something to do around what is run through it.

    All else is the schema's own. Several can stand before each other.
    """

    def __init__(self, schema: RunyardSchema) -> None:
        self._schema = schema
        self.documents = schema.documents

    def __getattr__(self, name: str) -> Any:
        return getattr(self._schema, name)

    @property
    def as_schema(self) -> RunyardSchema:
        """Itself, for those who need a schema."""
        return cast("RunyardSchema", self)

    @abstractmethod
    async def around_one(
        self, run: Callable[[], Awaitable[ExecutionResult]], query: str | None, operation_name: str | None
    ) -> ExecutionResult:
        """Run an operation, and give what comes of it."""

    @abstractmethod
    def around_stream(
        self, results: AsyncGenerator[ExecutionResult, None], query: str | None, operation_name: str | None
    ) -> AsyncGenerator[ExecutionResult, None]:
        """Pass on what an operation yields, and close it with this."""

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
        """As `RunyardSchema.execute`."""
        # Not begun here: whoever is cancelled before its first step would leave it behind.
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
        return self.around_one(run, query, operation_name)

    async def stream(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Context | None = None,
        root_value: Any = None,
        operation_name: str | None = None,
    ) -> AsyncGenerator[ExecutionResult, None]:
        """As `RunyardSchema.stream`."""
        results = await self._schema.stream(query, variable_values, context_value, root_value, operation_name)
        return self.around_stream(results, query, operation_name)
