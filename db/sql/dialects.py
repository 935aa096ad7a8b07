"""Base class of expressions whose SQL differs between SQLite and PostgreSQL."""

from typing import Any

from sqlalchemy.sql.functions import FunctionElement


class DialectExpression(FunctionElement[Any]):
    """An expression that is compiled separately for each SQL dialect."""

    inherit_cache = True
