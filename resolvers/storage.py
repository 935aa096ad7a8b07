"""The words for the database that the floors above resolvers need: what they hand through, and never look into."""

from db.allowance import Allowance, Crowd, Share, begin_operation
from db.connection import Connection
from db.deadline import Alarms, Cancelling, Deadline
from db.engine import Database
from db.errors import DatabaseError, DatabaseUnavailable, TooMuchAtOnce, TooMuchToRead

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
