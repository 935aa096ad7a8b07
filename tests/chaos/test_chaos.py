"""A short chaos test violates no guarantee. `python -m tests.chaos` runs longer ones."""

from pathlib import Path

import pytest

from tests.chaos.chaos import run_chaos
from tests.chaos.checker import violations
from tests.chaos.plan import Options
from tests.chaos.statistics import format_statistics


@pytest.mark.parametrize(
    "options",
    [
        Options(3912, 5, 100, "sqlite", workers=4, settle_seconds=120),
        Options(2905, 7, 150, "postgresql", workers=4, settle_seconds=120),
    ],
    ids=lambda options: options.database,
)
async def test_every_guarantee_holds_while_servers_workers_and_the_database_fail(
    options: Options, tmp_path: Path
) -> None:
    result = await run_chaos(options, tmp_path)

    print(format_statistics(result))
    assert violations(result.evidence) == []
    assert result.faults.total() > 0
    assert len(result.evidence.creations) == options.runs
