"""`runyard runs cancel` and `runyard runs retry`."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runyard.terminal.options import DEFAULT_URL, AsJson, Keys, Since, States, Tags, Token, Url, exit_on_error

if TYPE_CHECKING:
    from runyard.terminal.bulk_changes import Verb

Ids = Annotated[list[str] | None, typer.Argument(help="Ids of task runs. The options select from these runs only.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum number of runs. By default, all that match.")]
Message = Annotated[str | None, typer.Option(help="Message of the new state.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, and report what would change.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Change more than one run without a question.")]


def cancel_runs(
    id: Ids = None,
    state: States = None,
    key: Keys = None,
    tag: Tags = None,
    since: Since = None,
    limit: Limit = None,
    message: Message = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Cancel task runs that have not ended, by id or by options.

    A run that a worker executes becomes CANCELLING, and its worker stops it. Exits with 1 when a run is rejected.
    """
    from runyard.terminal.bulk_changes import CANCEL  # noqa: PLC0415

    filter = _select(id, state, key, tag, since)
    _change(CANCEL, id, filter, limit, url, token, dry_run=dry_run, yes=yes, as_json=as_json, message=message)


def retry_runs(
    id: Ids = None,
    state: States = None,
    key: Keys = None,
    tag: Tags = None,
    since: Since = None,
    limit: Limit = None,
    delay: Annotated[str | None, typer.Option(help="Time until the runs are due: 90s, 10min, 12h.")] = None,
    message: Message = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Queue FAILED, CRASHED and CANCELLED task runs again, by id or by options.

    Exits with 1 when a run is rejected.
    """
    from runyard.terminal.bulk_changes import RETRY  # noqa: PLC0415
    from runyard.terminal.filters import parse_age  # noqa: PLC0415

    filter = _select(id, state, key, tag, since)
    delay_seconds = 0.0 if delay is None else parse_age(delay, "--delay").total_seconds()
    _change(
        RETRY,
        id,
        filter,
        limit,
        url,
        token,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
        message=message,
        delaySeconds=delay_seconds,
    )


def _select(
    ids: list[str] | None, states: list[str] | None, keys: list[str] | None, tags: list[str] | None, since: str | None
) -> dict[str, Any]:
    """Return the filter of the options. Raises typer.BadParameter without any: it would match every run."""
    from runyard.terminal.filters import build_filter, parse_since  # noqa: PLC0415

    filter = build_filter(ids=ids, states=states, keys=keys, tags=tags, min_created_at=parse_since(since))
    if not filter:
        raise typer.BadParameter("Name the runs by id, or select them with --state, --key, --tag or --since.")
    return filter


def _change(
    verb: "Verb",
    ids: list[str] | None,
    filter: dict[str, Any],
    limit: int | None,
    url: str,
    token: str | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Change the runs, after a question for more than one, and print the sums.

    Exits with 1 when a run is rejected, or one of the ids is not that of a run which the verb examines.
    """
    from runyard.terminal.bulk_changes import change_runs, count_examined, format_totals, progress_bar  # noqa: PLC0415
    from runyard.terminal.client import Client  # noqa: PLC0415
    from runyard.terminal.tables import pluralize, print_json  # noqa: PLC0415

    with exit_on_error():
        client = Client(url, token)
        count = count_examined(client, verb, filter, limit)
        if count > 1 and not (dry_run or yes):
            _ask(verb.name, count)
        with progress_bar(verb.name, count) as advance:
            totals = change_runs(client, verb, filter, limit, advance, dryRun=dry_run, **arguments)
    if as_json:
        print_json(totals.as_dict(dry_run=dry_run))
    else:
        for line in format_totals(totals, verb, dry_run=dry_run):
            typer.echo(line)
    ignored = 0 if ids is None or limit is not None else len(set(ids)) - totals.matched
    if ignored:
        typer.echo(f"{pluralize(ignored, 'id')} ignored: no run with this id can be {verb.participle}.", err=True)
    if totals.rejections or ignored:
        raise typer.Exit(1)


def _ask(verb: str, count: int) -> None:
    """Ask on a terminal whether to change the runs; exit without a change when the reply is no, or without a terminal."""
    question = f"{verb} {count:,} task runs?"
    if not sys.stdin.isatty():
        sys.exit(f"runyard: {question} Confirm with --yes, or use --dry-run.")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)
