"""`diurna replay …`: the log read again, to bring tables back or to prove them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diurna_deploy.cli.projections import document_of, run_replay, tell
from diurna_deploy.cli.session import Session, command, group

if TYPE_CHECKING:
    from diurna_streams.replay.compare import SpanComparison
    from diurna_streams.replay.progress import Progress
    from diurna_streams.replay.what_if import Outcome

app = group("The log read again: to bring tables back, or to prove them.")


@command(app, "recover")
def recover(
    session: Session,
    since: Annotated[str | None, typer.Option("--from", help="A moment the tables must have reached already.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="The record to stop before: a time, or a position.")] = None,
    schema: Annotated[
        str | None, typer.Option(help="Another schema, to look at the tables as they were; nothing else writes there.")
    ] = None,
) -> None:
    """Fills the live tables to the end of the log, whatever is left of them; makes the database where it is gone."""
    from diurna_deploy.replays import recovered
    from diurna_deploy.telling import telling
    from diurna_streams.replay.progress import Progress

    with telling("recover", "records") as told:
        progress = Progress(told)
        found = asyncio.run(recovered(session.state_dir, progress, since=since, end=until, schema=schema))
    where = "" if schema is None else f" into schema {schema}"
    words = f"Recovered {_pace(progress)}{where}."
    document = {
        **_rate(progress),
        **({} if schema is None else {"schema": schema}),
        "positions": [str(position) for position in found.positions],
        "checksums": found.tables,
    }
    session.show(document, lambda: session.say(words, style="green"))


@command(app, "verify")
def verify(
    session: Session,
    since: Annotated[str | None, typer.Option("--from", help="The first record: a time, or a position.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="The record to stop before: likewise.")] = None,
) -> None:
    """Makes the tables anew from the log and compares them with the live ones; exits 1 where one is different.

    With --from or --to only that part of the log is read, and compared with what the table of events holds of it.
    """
    from diurna_streams.replay.rebuild import Replay

    async def work(replay: Replay, progress: Progress) -> None:
        await replay.rebuild(progress)
        found = await replay.verify(progress)
        session.show(document_of(found), lambda: tell(session, found))
        if found.different:
            raise typer.Exit(1)

    if since is None and until is None:
        run_replay(session, "verify", work)
    else:
        _verify_span(session, since, until)


def _verify_span(session: Session, since: str | None, until: str | None) -> None:
    from diurna_deploy.replays import compared
    from diurna_deploy.telling import telling
    from diurna_streams.replay.progress import Progress

    with telling("verify", "records") as told:
        progress = Progress(told)
        found = asyncio.run(compared(session.state_dir, since, until, progress=progress))
    document = {
        "equal": found.is_same,
        **_rate(progress),
        "events": found.events,
        "dead_letters": found.dead_letters,
        "passed_over": found.passed_over,
        "log": found.log,
        "table": found.table,
        "different": [asdict(one) for one in found.different],
    }
    session.show(document, lambda: _tell_span(session, found, progress))
    if not found.is_same:
        raise typer.Exit(1)


def _tell_span(session: Session, found: SpanComparison, progress: Progress) -> None:
    rows = [{"position": one.position, "is": one.what, "columns": ", ".join(one.columns)} for one in found.different]
    session.say(f"Compared {_pace(progress)}, {found.events:,} events of them: {found.log} and {found.table}.")
    if rows:
        session.rows(rows, ("position", "is", "columns"), nothing="")
        session.say("That is where each partition first differs.", style="bold red")
    else:
        session.say("The table of events holds exactly these.", style="green")


def _rate(progress: Progress) -> dict[str, Any]:
    return {
        "records": progress.done,
        "seconds": round(progress.seconds, 3),
        "per_second": round(progress.per_second),
    }


def _pace(progress: Progress) -> str:
    return f"{progress.done:,} records in {progress.seconds:.1f} s ({progress.per_second:,.0f}/s)"


@command(app, "what-if")
def what_if(
    session: Session,
    rules: Annotated[str | None, typer.Option(help="Changed rules, MODULE:NAME, to decide the commands with.")] = None,
    fold: Annotated[str | None, typer.Option(help="A changed fold, MODULE:NAME, to make the tables with.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="The first command: a time, or a position.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="The command to stop before: likewise.")] = None,
) -> None:
    """Shows what would be different with other rules or another fold; writes nothing anywhere."""
    from diurna_deploy.replays import imagined
    from diurna_deploy.telling import telling
    from diurna_streams.replay.progress import Progress

    if (rules is None) == (fold is None):
        raise typer.BadParameter("name either --rules or --fold")
    if fold is not None and (since or until):
        raise typer.BadParameter("--from and --to are for --rules: a fold begins where the log does")
    with telling("what-if", "records") as told:
        found = asyncio.run(imagined(session.state_dir, rules, fold, since, until, progress=Progress(told)))
    session.show(asdict(found), lambda: _tell_outcome(session, found))


def _tell_outcome(session: Session, found: Outcome) -> None:
    if found.commands:
        session.say(f"{found.other_answers:,} of {found.commands:,} commands would have been answered otherwise.")
    for one in found.examples:
        session.say(f"  {one.position} {one.command}: {', '.join(one.was)} -> {', '.join(one.would_be)}")
    rows = [
        {"table": one.table, "added": one.added, "removed": one.removed, "changed": one.changed} for one in found.tables
    ]
    session.rows(rows, ("table", "added", "removed", "changed"), nothing="The tables would be the same.")
    for table in found.tables:
        for example in table.examples:
            session.say(f"  {table.table} {example['key']}: {example['is']} -> {example['would_be']}")
