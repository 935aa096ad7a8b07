"""A short chaos test violates no promise. `python -m chaos` runs longer ones, also on PostgreSQL."""

from pathlib import Path

import pytest

from chaos.chaos import run_chaos
from chaos.checker import violations
from chaos.plan import Options
from chaos.summary import format_statistics


@pytest.mark.anyio
async def test_every_promise_holds_while_servers_workers_and_programs_fail(tmp_path: Path) -> None:
    options = Options(1386, 5.0, 50, "sqlite", workers=2, lease_seconds=2.5, fault_seconds=0.4, settle_seconds=60)

    result = await run_chaos(options, tmp_path)

    print(format_statistics(result))
    assert violations(result.evidence) == []
    assert result.injected.total() > 0
    assert len(result.evidence.runs) == options.runs
