"""`diurna projection …`: how the tables stand to the log, and making them anew from it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diurna_deploy.cli.session import Session, command, group

if TYPE_CHECKING:
    from diurna_streams.replay.progress import Progress
    from diurna_streams.replay.rebuild import Comparison, Replay

app = group("How the tables stand to the log, and making them anew from it.")
Different = Annotated[
    bool, typer.Option("--different", help="Also where tables differ: they were damaged, or a fold was changed.")
]


@command(app, "status")
def status(session: Session) -> None:
    """Shows how far the tables are, and their checksums."""
    found = session.api.get("/projections")
    if session.as_json:
        session.show(found)
        return
    for one in found:
        session.fields(one)


@command(app, "rebuild")
def rebuild(
    session: Session,
    promote: Annotated[bool, typer.Option("--promote", help="Put the new tables in the live ones' place.")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Throw away what an earlier rebuild left.")] = False,
    different: Different = False,
) -> None:
    """Makes the tables anew from the log, beside the live ones; goes on where an earlier rebuild broke off."""

    async def work(replay: Replay, progress: Progress) -> None:
        made = await replay.rebuild(progress, is_anew=anew)
        rate = {
            "records": progress.done,
            "seconds": round(progress.seconds, 3),
            "per_second": round(progress.per_second),
        }
        if promote:
            await replay.promote(progress, even_different=different)
        document = {"schema": replay.schema, "promoted": promote, **rate, "checksums": made.tables}
        pace = f"{progress.done:,} records in {progress.seconds:.1f} s ({progress.per_second:,.0f}/s)"
        where = (
            "are live now" if promote else f"stand in schema {replay.schema}: `diurna projection promote` takes them"
        )
        words = f"Made of {pace}; they {where}."
        session.show(document, lambda: session.say(words, style="green"))

    run_replay(session, "rebuild", work)


@command(app, "verify")
def verify(session: Session) -> None:
    """Compares the rebuilt tables with the live ones at equal positions; exits 1 where one is different."""

    async def work(replay: Replay, progress: Progress) -> None:
        found = await replay.verify(progress)
        session.show(document_of(found), lambda: tell(session, found))
        if found.different:
            raise typer.Exit(1)

    run_replay(session, "verify", work)


@command(app, "promote")
def promote(session: Session, different: Different = False) -> None:
    """Puts the rebuilt tables in the live ones' place, in one transaction; the live ones are kept to go back to."""
    _exchange(session, "promote", lambda replay, progress: replay.promote(progress, even_different=different))


@command(app, "rollback")
def roll_back(session: Session, different: Different = False) -> None:
    """Puts the tables that were kept at the last promotion in the live ones' place again."""
    _exchange(session, "rollback", lambda replay, progress: replay.roll_back(progress, even_different=different))


def _exchange(session: Session, what: str, exchange: Callable[[Replay, Progress], Awaitable[Comparison]]) -> None:
    async def work(replay: Replay, progress: Progress) -> None:
        found = await exchange(replay, progress)
        session.show(document_of(found), lambda: tell(session, found))

    run_replay(session, what, work)


def run_replay(session: Session, what: str, work: Callable[[Replay, Progress], Awaitable[None]]) -> None:
    from diurna_deploy.replays import replaying
    from diurna_deploy.telling import telling
    from diurna_streams.replay.progress import Progress

    async def run() -> None:
        with telling(what, "records") as told:
            async with replaying(session.state_dir) as replay:
                await work(replay, Progress(told))

    asyncio.run(run())


def document_of(found: Comparison) -> dict[str, Any]:
    return {
        "equal": not found.different,
        "different": found.different,
        "positions": [str(position) for position in found.positions],
        "live": dict(found.live),
        "rebuilt": dict(found.made),
    }


def tell(session: Session, found: Comparison) -> None:
    names = sorted(found.live)
    rows = [{"table": name, "live": found.live[name], "rebuilt": found.made.get(name)} for name in names]
    session.rows(rows, ("table", "live", "rebuilt"), nothing="There are no tables.")
    if found.different:
        session.say(f"Different: {', '.join(found.different)}.", style="bold red")
    else:
        session.say(f"All {len(names)} tables are equal.", style="green")
