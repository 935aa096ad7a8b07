"""A few seconds of chaos, and no promise is broken. `python -m tests.chaos` has more of it."""

from pathlib import Path

import pytest

from tests.chaos.chaos import unleash
from tests.chaos.checker import violations
from tests.chaos.plan import Options
from tests.chaos.statistics import figures


@pytest.mark.parametrize(
    "options",
    [
        Options(376, 5, 100, "sqlite", workers=2, lease_seconds=3, settle_seconds=120),
        Options(1539, 7, 150, "postgresql", workers=3, lease_seconds=3, settle_seconds=120),
    ],
    ids=lambda options: options.database,
)
async def test_no_promise_is_broken_while_servers_workers_and_the_database_fail(
    options: Options, tmp_path: Path
) -> None:
    outcome = await unleash(options, tmp_path)

    print(figures(outcome))
    assert violations(outcome.evidence) == []
    assert outcome.faults.total() > 0
    assert len(outcome.evidence.creations) == options.runs
