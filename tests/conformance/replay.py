"""Replay the traces of a suite and count the results.

Traces that can share a database are replayed concurrently on one server. A trace that needs an empty database gets its own
server.
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
from tests.conformance.server import run_realtime_server
from tests.conformance.traces import Trace, traces

MAX_CONCURRENT_TRACES = 4


@dataclass(frozen=True, slots=True)
class Deviation:
    """A step whose response differs from the recorded one."""

    trace: str
    step: int
    operation: str
    mismatches: list[Mismatch]

    def __str__(self) -> str:
        mismatches = "\n".join(f"    {mismatch}" for mismatch in self.mismatches[:4])
        return f"{self.trace} step {self.step} {self.operation}\n{mismatches}"


@dataclass
class Report:
    """The result of replaying a suite."""

    traces: int = 0
    optional: int = 0
    """Number of traces skipped because they contain values of a wrong type."""
    matched: int = 0
    """Number of steps whose response matches the recording."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Number of skipped steps by the operation that is not supported."""
    deviations: list[Deviation] = field(default_factory=list)


async def replay(suite: str, new_database: Callable[[], str]) -> Report:
    """Replay all traces of the suite on databases created by `new_database`."""
    report = Report()
    shared: list[Trace] = []
    fresh: list[Trace] = []
    for trace in traces(suite):
        if trace.is_optional:
            report.optional += 1
        else:
            (fresh if trace.is_fresh else shared).append(trace)
    await _play_on_one_server(shared, new_database, report)
    await _play_on_separate_servers(fresh, new_database, report)
    report.deviations.sort(key=lambda each: (each.trace, each.step))
    return report


async def _play_on_one_server(shared: Iterable[Trace], new_database: Callable[[], str], report: Report) -> None:
    semaphore = asyncio.Semaphore(MAX_CONCURRENT_TRACES)

    async def play_in_turn(trace: Trace) -> None:
        async with semaphore:
            await play(trace, client, report)

    async with run_realtime_server(new_database, asyncio.Lock()) as client, asyncio.TaskGroup() as tasks:
        for trace in shared:
            tasks.create_task(play_in_turn(trace))


async def _play_on_separate_servers(fresh: Iterable[Trace], new_database: Callable[[], str], report: Report) -> None:
    semaphore = asyncio.Semaphore(MAX_CONCURRENT_TRACES)
    starting = asyncio.Lock()

    async def play_in_turn(trace: Trace) -> None:
        async with semaphore, run_realtime_server(new_database, starting) as client:
            await play(trace, client, report)

    async with asyncio.TaskGroup() as tasks:
        for trace in fresh:
            tasks.create_task(play_in_turn(trace))


async def play(trace: Trace, client: Client, report: Report) -> None:
    """Replay one trace to its end, even if steps deviate."""
    session = Session(trace, GraphQLAdapter(client))
    report.traces += 1
    try:
        for index, step in enumerate(trace.steps):
            try:
                mismatches = await session.play(step)
            except Unsupported as unsupported:
                report.skipped[str(unsupported)] += 1
                continue
            except AssertionError as failure:
                mismatches = [Mismatch("", step["expect"].get("error", "success"), str(failure))]
            if mismatches:
                report.deviations.append(Deviation(trace.id, index, step["op"], mismatches))
            else:
                report.matched += 1
    finally:
        await session.close()
