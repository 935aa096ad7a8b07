"""Mutations of concurrency limits."""

from typing import Annotated

import strawberry

from resolvers import concurrency_limits
from resolvers.concurrency_limits import LimitReset, LimitSetting
from schema.context import Info
from schema.inputs.arguments import (
    parse_ids,
    validate_key,
)
from schema.results import (
    ChangedLimit,
    DeletedObject,
)
from schema.types.payloads import (
    ConcurrencyLimitPayload,
    DeletePayload,
)


@strawberry.type
class ConcurrencyLimitMutations:
    @strawberry.mutation(
        graphql_type=ConcurrencyLimitPayload | None,
        description=(
            "Create the concurrency limit of a tag, or change the existing one. Runs that hold slots keep them, "
            "even if they exceed a lower limit. Runs that are already RUNNING when the limit is created hold no "
            "slots."
        ),
    )
    async def set_concurrency_limit(
        self,
        info: Info,
        tag: Annotated[
            str,
            strawberry.argument(
                description="Tag to limit, at most 1,000 bytes. Tags are compared exactly, including their case."
            ),
        ],
        limit: Annotated[
            int,
            strawberry.argument(
                description="Number of slots: how many runs with the tag may be RUNNING at a time. At 0 or below, none may."
            ),
        ],
    ) -> ChangedLimit:
        setting = LimitSetting(validate_key("tag", tag), limit)
        return ChangedLimit(await info.context.database.write(concurrency_limits.set_limits, setting))

    @strawberry.mutation(
        graphql_type=DeletePayload | None,
        description=(
            "Delete the concurrency limit of a tag. Returns the deleted id, or fails with `NOT_FOUND` when the "
            "tag has no limit."
        ),
    )
    async def delete_concurrency_limit(
        self,
        info: Info,
        tag: Annotated[
            str, strawberry.argument(description="Tag of the limit. Tags are compared exactly, including their case.")
        ],
    ) -> DeletedObject:
        return DeletedObject(await info.context.database.write(concurrency_limits.delete_limits, tag))

    @strawberry.mutation(
        graphql_type=ConcurrencyLimitPayload | None,
        description=(
            "Replace the task runs that hold the slots of a tag's concurrency limit. Fails with `NOT_FOUND` when "
            "the tag has no limit or a task run does not exist."
        ),
    )
    async def reset_concurrency_limit(
        self,
        info: Info,
        tag: Annotated[
            str, strawberry.argument(description="Tag of the limit. Tags are compared exactly, including their case.")
        ],
        task_run_ids: Annotated[
            list[strawberry.ID] | None,
            strawberry.argument(
                description="Ids of the task runs that hold the slots from now on. Defaults to none, which frees all slots."
            ),
        ] = None,
    ) -> ChangedLimit:
        run_ids = parse_ids("taskRunIds", task_run_ids or [])
        return ChangedLimit(
            await info.context.database.write(concurrency_limits.reset_limits, LimitReset(tag, run_ids))
        )
