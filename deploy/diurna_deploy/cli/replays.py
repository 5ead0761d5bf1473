"""`diurna replay …`: the log read again, to bring tables back or to prove them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from diurna_deploy.cli.projections import document_of, run_replay, tell
from diurna_deploy.cli.session import Session, command, group

if TYPE_CHECKING:
    from diurna_streams.replay.what_if import Outcome

app = group("The log read again: to bring tables back, or to prove them.")


@command(app, "recover")
def recover(session: Session) -> None:
    """Fills the live tables to the end of the log, whatever is left of them; makes the database where it is gone."""
    from diurna_deploy.replays import recovered
    from diurna_deploy.telling import telling
    from diurna_streams.replay.progress import Progress

    with telling("recover", "records") as told:
        progress = Progress(told)
        found = asyncio.run(recovered(session.state_dir, progress))
    words = f"Recovered {progress.done:,} records in {progress.seconds:.1f} s ({progress.per_second:,.0f}/s)."
    document = {
        "records": progress.done,
        "seconds": round(progress.seconds, 3),
        "per_second": round(progress.per_second),
        "positions": [str(position) for position in found.positions],
        "checksums": found.tables,
    }
    session.show(document, lambda: session.say(words, style="green"))


@command(app, "verify")
def verify(session: Session) -> None:
    """Makes the tables anew from the log and compares them with the live ones; exits 1 where one is different."""
    from diurna_streams.replay.progress import Progress
    from diurna_streams.replay.rebuild import Replay

    async def work(replay: Replay, progress: Progress) -> None:
        await replay.rebuild(progress)
        found = await replay.verify(progress)
        session.show(document_of(found), lambda: tell(session, found))
        if found.different:
            raise typer.Exit(1)

    run_replay(session, "verify", work)


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
