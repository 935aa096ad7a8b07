"""The words for the database that the floors above resolvers need: what they hand through, and never look into."""

from db.allowance import begin_operation
from db.connection import Connection
from db.engine import Database
from db.errors import DatabaseUnavailable, TooMuchToRead

__all__ = ["Connection", "Database", "DatabaseUnavailable", "TooMuchToRead", "begin_operation"]
