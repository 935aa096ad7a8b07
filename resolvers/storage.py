"""The words for the database that the floors above resolvers need: what they hand through, and never look into."""

from db.connection import Connection
from db.database import Database
from db.errors import DatabaseError, DatabaseUnavailable, TooMuchAtOnce, TooMuchToRead
from db.runtime.deadlines import Alarms, Cancelling, Deadline
from db.runtime.memory_budget import Allowance, Crowd, Share, begin_operation

__all__ = [
    "Alarms",
    "Allowance",
    "Cancelling",
    "Connection",
    "Crowd",
    "Database",
    "DatabaseError",
    "DatabaseUnavailable",
    "Deadline",
    "Share",
    "TooMuchAtOnce",
    "TooMuchToRead",
    "begin_operation",
]
