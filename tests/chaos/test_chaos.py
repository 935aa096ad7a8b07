"""A few seconds of chaos, and no promise is broken. `python -m tests.chaos` has more of it."""

from pathlib import Path

import pytest

from tests.chaos.chaos import unleash
from tests.chaos.checker import violations
from tests.chaos.figures import figures
from tests.chaos.plan import Options


@pytest.mark.parametrize(
    "options",
    [
        Options(seed=376, seconds=5, runs=150, database="sqlite", workers=2, settle_seconds=60),
        Options(seed=1539, seconds=7, runs=200, database="postgresql", settle_seconds=60),
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
