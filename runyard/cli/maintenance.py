"""`runyard prune` and `runyard doctor`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from runyard.cli.database import require_current
from runyard.cli.settings_loading import load_settings, warn_of_unknown_variables

MARKS = {"info": "✓", "warning": "!", "error": "✗"}
"""First character of a line of `runyard doctor`, by severity."""


def prune_runs(
    older_than: Annotated[str, typer.Option(help="Delete runs that ended longer ago than this: 30d, 12h, P30D.")],
    state: Annotated[
        list[str] | None,
        typer.Option(help="Delete only runs in this state: COMPLETED, FAILED, CANCELLED or CRASHED. Repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the runs.")] = False,
) -> None:
    """Delete runs that ended long ago. Servers can keep running meanwhile.

    Task runs of a flow run are deleted together with the flow run, not before.
    """
    import asyncio  # noqa: PLC0415

    from db.enums import TERMINAL, StateType  # noqa: PLC0415
    from db.errors import DatabaseError  # noqa: PLC0415
    from runyard.cli.prune import prune_database  # noqa: PLC0415
    from runyard.durations import parse_duration  # noqa: PLC0415

    try:
        min_age = parse_duration(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from None
    state_names = {name.upper() for name in state or TERMINAL}
    if unknown := sorted(state_names - {each.value for each in TERMINAL}):
        ends = ", ".join(sorted(TERMINAL))
        raise typer.BadParameter(f"{unknown[0]} is not a terminal state. Use one of {ends}.", param_hint="--state")
    settings = load_settings()
    if isinstance(settings.database, Path):
        if not settings.database.exists():
            sys.exit(f"runyard: No such file: {settings.database}")
    else:
        require_current(settings)
    states = [StateType(name) for name in sorted(state_names)]
    try:
        asyncio.run(prune_database(settings, min_age, states, dry_run=dry_run, report=typer.echo))
    except DatabaseError as error:
        sys.exit(f"runyard: {error} Runs that were already deleted stay deleted. Run the command again to continue.")


def run_doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON document.")] = False,
) -> None:
    """Check the settings and the database, and suggest how to fix problems. Changes nothing.

    Exits with 1 when a finding is an error. Warnings do not change the exit code.
    """
    import json  # noqa: PLC0415
    from itertools import chain  # noqa: PLC0415

    from runyard.cli.doctor import run_checks  # noqa: PLC0415
    from runyard.cli.findings import Severity, unknown_variable  # noqa: PLC0415

    settings = load_settings()
    findings = chain(map(unknown_variable, warn_of_unknown_variables()), run_checks(settings))
    if as_json:
        findings = list(findings)
        typer.echo(json.dumps({"findings": [each.as_dict() for each in findings]}, ensure_ascii=False, indent=2))
    has_error = False
    for finding in findings:
        if not as_json:
            typer.echo(f"{MARKS[finding.severity]} {finding.text}")
        has_error = has_error or finding.severity is Severity.ERROR
    if has_error:
        raise typer.Exit(1)
