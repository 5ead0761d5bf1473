"""The whole database dropped, and made again from the log: the same tables, byte for byte."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diurna_deploy.demo.stage import Stage


def drop_and_recover(stage: Stage) -> dict[str, Any]:
    """Drops the database, fills another up to exactly where the first stood, and compares the two."""
    from diurna_deploy.replays import database_url_of, recovered, standing
    from diurna_deploy.telling import telling
    from diurna_projections.store.generations import drop_database
    from diurna_streams.replay.progress import Progress

    session, state_dir = stage.session, stage.settings.state_dir
    stage.heading("Dropping the whole database, and making it again from the log")
    with _held(stage.pid_of("projector")):  # nobody else may fill the new one, or the two stand at different places
        before = asyncio.run(standing(state_dir))
        asyncio.run(drop_database(database_url_of(state_dir)))
        session.say("  Dropped: there are no tables any more.")
        with telling("recover", "records") as told:
            progress = Progress(told)
            after = asyncio.run(recovered(state_dir, progress, until=before.next))
    session.say(f"  {progress.done:,} records read again in {progress.seconds:.1f} s ({progress.per_second:,.0f}/s).")
    rows = [
        {"table": name, "before": before.tables[name][:16], "after": after.tables.get(name, "")[:16]}
        for name in sorted(before.tables)
    ]
    is_equal = before == after
    if not session.as_json:
        session.rows(rows, ("table", "before", "after"), nothing="There are no tables.")
    if is_equal:
        session.say(f"  All {len(rows)} tables have the checksums they had.", style="green")
    else:
        session.say("  The tables are not the same.", style="bold red")
    return {
        "equal": is_equal,
        "records": progress.done,
        "seconds": round(progress.seconds, 3),
        "before": before.tables,
        "after": after.tables,
    }


@contextmanager
def _held(pid: int) -> Generator[None]:
    """Lets a process do nothing for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
