"""`diurna replay …`: the log read again, to bring tables back or to prove them."""

from __future__ import annotations

import asyncio

import typer

from diurna_deploy.cli.projections import document_of, run_replay, tell
from diurna_deploy.cli.session import Session, command, group

app = group("The log read again: to bring tables back, or to prove them.")


@command(app, "recover")
def recover(session: Session) -> None:
    """Fills the live tables to the end of the log, whatever is left of them; makes the database where it is gone."""
    from diurna_deploy.replays import recovered
    from diurna_deploy.telling import telling
    from diurna_streams.replay.rebuild import Progress

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
    from diurna_streams.replay.rebuild import Progress, Replay

    async def work(replay: Replay, progress: Progress) -> None:
        await replay.rebuild(progress)
        found = await replay.verify(progress)
        session.show(document_of(found), lambda: tell(session, found))
        if found.different:
            raise typer.Exit(1)

    run_replay(session, "verify", work)
