"""An audit of the log these settings name, and how it tells how far it is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from diurna.settings import ClientSettings
    from diurna_streams.audit import Progress, Report

_LINE_EVERY_SECONDS: Final = 2.0


async def audit(client: ClientSettings, families: Sequence[str], *, stream: IO[str] | None = None) -> Report:
    """Decides everything anew. Raises `Unavailable` where a part does not answer."""
    from diurna.connection import Connection
    from diurna_deploy.collector import calm
    from diurna_streams.audit import verify
    from diurna_streams.conduct import ALL_RULES
    from diurna_streams.decide.follower import learns_nothing

    rules = [one for one in ALL_RULES if not families or one.family.name in families]
    calm()
    async with await Connection.open(client, source="/audit") as connection, _telling(stream or sys.stderr) as told:
        return await verify(
            connection.log, connection.codec, rules, learn=connection.learn or learns_nothing, told=told
        )


@asynccontextmanager
async def _telling(stream: IO[str]) -> AsyncGenerator[Callable[[Progress], None]]:
    if not stream.isatty():
        yield _lines(stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"))
    with Bars(*columns, console=Console(file=stream), transient=True) as bars:
        bar = bars.add_task("audit", total=None, rate="")

        def show(progress: Progress) -> None:
            bars.update(bar, completed=progress.records_done, total=progress.records_total, rate=words_of(progress))

        yield show


def _lines(stream: IO[str]) -> Callable[[Progress], None]:
    said_at = 0.0

    def say(progress: Progress) -> None:
        nonlocal said_at
        if progress.seconds - said_at >= _LINE_EVERY_SECONDS:
            said_at = progress.seconds
            print(f"audit: {words_of(progress)}", file=stream, flush=True)

    return say


def words_of(progress: Progress) -> str:
    """How far, how fast, and how long still."""
    left = progress.seconds_left
    rest = "" if left is None else f", {left:.0f} s left"
    done = f"{progress.records_done:,} of {progress.records_total:,} records"
    return f"{done}, {progress.commands_per_second:,.0f} commands/s{rest}"
