"""Every suite is answered as it was recorded, save for what `divergences.py` lists."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.conformance.divergences import divergences, strangers
from tests.conformance.replay import Report, replay
from tests.conformance.traces import suites, traces

MOST_SHOWN = 12


@pytest.mark.parametrize("suite", suites())
async def test_what_was_recorded_comes_true(
    suite: str, new_database: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    played = {trace.id: trace for trace in traces(suite) if not trace.is_optional}
    listed = {(id, step): reason for id, trace in played.items() for step, reason in divergences(trace).items()}

    report = await replay(suite, new_database)

    with capsys.disabled():
        print(_summary(suite, report, listed))
    found = {(each.trace, each.step): str(each) for each in report.deviations}
    complaints = [
        *_told("not as recorded, and not listed", [found[place] for place in sorted(found.keys() - listed.keys())]),
        *_told("listed, and as recorded", [f"{id} step {step}" for id, step in sorted(listed.keys() - found.keys())]),
        *_told("listed, and no trace", strangers(suite, set(played))),
    ]
    assert not complaints, "\n".join([suite, *complaints])


def _told(what: str, items: list[str]) -> list[str]:
    """The first of the items under a heading; nothing where there are none."""
    return [f"{what}: {len(items)}", *items[:MOST_SHOWN]] if items else []


def _summary(suite: str, report: Report, listed: dict[tuple[str, int], str]) -> str:
    """How many steps matched, were left out, and diverged, and why."""
    reasons = Counter(listed.get((each.trace, each.step), "NOT LISTED") for each in report.deviations)
    lines = [f"\n{suite}: {report.traces} traces, {report.matched} steps as recorded"]
    if report.optional:
        lines.append(f"  {report.optional} traces left out: wrongly typed values")
    lines += [f"  {count} steps left out: {lack}" for lack, count in report.skipped.most_common()]
    lines += [f"  {count} steps diverge: {reason}" for reason, count in reasons.most_common()]
    return "\n".join(lines)
