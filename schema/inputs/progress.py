"""Input object of progress reports, and its conversion."""

import math

import strawberry

from resolvers.delivery.progress_reports import ProgressReport
from resolvers.errors import BadInput
from schema.inputs.arguments import parse_id

MAX_MESSAGE_CHARACTERS = 1000


@strawberry.input(description="Progress of the task run under a lease.")
class TaskRunProgressInput:
    lease_id: strawberry.ID = strawberry.field(description="Id of the lease.")
    done: float = strawberry.field(
        description="Amount of work that is done, at least 0, in a unit that the worker chooses."
    )
    total: float | None = strawberry.field(
        default=None,
        description="Total amount of work, at least 0, in the same unit. `done` may exceed it. Defaults to null: unknown.",
    )
    message: str | None = strawberry.field(
        default=None, description="Message for people, at most 1,000 characters. Defaults to null."
    )

    def parse(self, path: str) -> ProgressReport:
        return ProgressReport(
            parse_id(f"{path}.leaseId", self.lease_id),
            _validate_amount(f"{path}.done", self.done),
            None if self.total is None else _validate_amount(f"{path}.total", self.total),
            _validate_message(f"{path}.message", self.message),
        )


def _validate_amount(path: str, amount: float) -> float:
    if not (math.isfinite(amount) and amount >= 0):
        raise BadInput(path, f"must be a finite number of at least 0; got {amount:,}.")
    return float(amount)


def _validate_message(path: str, message: str | None) -> str | None:
    if message is not None and len(message) > MAX_MESSAGE_CHARACTERS:
        raise BadInput(path, f"must have at most {MAX_MESSAGE_CHARACTERS:,} characters; got {len(message):,}.")
    return message
