"""Plays a suite to a server and counts.

Traces that can share a store are played to one server, several at a time; one that needs an empty store gets a server
of its own.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.client import Client
from tests.conformance.adapter import Unsupported
from tests.conformance.engine import Session
from tests.conformance.graphql_adapter import GraphQLAdapter
from tests.conformance.matching import Mismatch
from tests.conformance.server import serving_now
from tests.conformance.traces import Trace, traces

AT_A_TIME = 4


@dataclass(frozen=True, slots=True)
class Deviation:
    """A step whose answer was not the recorded one."""

    trace: str
    step: int
    operation: str
    mismatches: list[Mismatch]

    def __str__(self) -> str:
        places = "\n".join(f"    {mismatch}" for mismatch in self.mismatches[:4])
        return f"{self.trace} step {self.step} {self.operation}\n{places}"


@dataclass
class Report:
    """What came of a suite."""

    traces: int = 0
    optional: int = 0
    """Traces left out because they hold wrongly typed values."""
    matched: int = 0
    """Steps answered as recorded."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Steps left out, by the operation or part of it that is not there yet."""
    deviations: list[Deviation] = field(default_factory=list)


async def replay(suite: str, new_database: Callable[[], str]) -> Report:
    """Play all traces of the suite, on databases that `new_database` makes."""
    report = Report()
    shared: list[Trace] = []
    fresh: list[Trace] = []
    for trace in traces(suite):
        if trace.is_optional:
            report.optional += 1
        else:
            (fresh if trace.is_fresh else shared).append(trace)
    await _play_on_one_server(shared, new_database, report)
    await _play_on_their_own(fresh, new_database, report)
    report.deviations.sort(key=lambda each: (each.trace, each.step))
    return report


async def _play_on_one_server(shared: Iterable[Trace], new_database: Callable[[], str], report: Report) -> None:
    turn = asyncio.Semaphore(AT_A_TIME)

    async def in_turn(trace: Trace) -> None:
        async with turn:
            await play(trace, client, report)

    async with serving_now(new_database, asyncio.Lock()) as client, asyncio.TaskGroup() as tasks:
        for trace in shared:
            tasks.create_task(in_turn(trace))


async def _play_on_their_own(fresh: Iterable[Trace], new_database: Callable[[], str], report: Report) -> None:
    turn = asyncio.Semaphore(AT_A_TIME)
    starting = asyncio.Lock()

    async def in_turn(trace: Trace) -> None:
        async with turn, serving_now(new_database, starting) as client:
            await play(trace, client, report)

    async with asyncio.TaskGroup() as tasks:
        for trace in fresh:
            tasks.create_task(in_turn(trace))


async def play(trace: Trace, client: Client, report: Report) -> None:
    """Play one trace to the end, whatever its steps answer."""
    session = Session(trace, GraphQLAdapter(client))
    report.traces += 1
    try:
        for place, step in enumerate(trace.steps):
            try:
                mismatches = await session.play(step)
            except Unsupported as lack:
                report.skipped[str(lack)] += 1
                continue
            except AssertionError as failure:
                mismatches = [Mismatch("", step["expect"].get("error", "success"), str(failure))]
            if mismatches:
                report.deviations.append(Deviation(trace.id, place, step["op"], mismatches))
            else:
                report.matched += 1
    finally:
        await session.close()
