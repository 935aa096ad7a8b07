"""Responses match the recordings of every suite, except for the steps listed in `divergences.py`."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.conformance.divergences import divergences, unmatched_names
from tests.conformance.replay import Report, replay
from tests.conformance.traces import suites, traces

MAX_SHOWN = 12


@pytest.mark.parametrize("suite", suites())
async def test_responses_match_the_recordings_except_for_listed_divergences(
    suite: str, new_database: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    played = {trace.id: trace for trace in traces(suite) if not trace.is_optional}
    listed = {(id, step): reason for id, trace in played.items() for step, reason in divergences(trace).items()}

    report = await replay(suite, new_database)

    with capsys.disabled():
        print(_summary(suite, report, listed))
    found = {(each.trace, each.step): str(each) for each in report.deviations}
    problems = [
        *_section("deviates and is not listed", [found[key] for key in sorted(found.keys() - listed.keys())]),
        *_section(
            "listed but matches the recording",
            [f"{id} step {step}" for id, step in sorted(listed.keys() - found.keys())],
        ),
        *_section("listed but matches no trace", unmatched_names(suite, set(played))),
    ]
    assert not problems, "\n".join([suite, *problems])


def _section(heading: str, items: list[str]) -> list[str]:
    """Return the first items under a heading; nothing if there are none."""
    return [f"{heading}: {len(items)}", *items[:MAX_SHOWN]] if items else []


def _summary(suite: str, report: Report, listed: dict[tuple[str, int], str]) -> str:
    """Return the numbers of matching, skipped and deviating steps, with the reasons."""
    reasons = Counter(listed.get((each.trace, each.step), "NOT LISTED") for each in report.deviations)
    lines = [f"\n{suite}: {report.traces} traces, {report.matched} steps match"]
    if report.optional:
        lines.append(f"  {report.optional} traces skipped: values of a wrong type")
    lines += [f"  {count} steps skipped: {operation}" for operation, count in report.skipped.most_common()]
    lines += [f"  {count} steps deviate: {reason}" for reason, count in reasons.most_common()]
    return "\n".join(lines)
