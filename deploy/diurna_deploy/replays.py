"""Replays of the log these settings name, into the database they name."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from diurna_schemas.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from diurna.connection import Connection
    from diurna_projections.store import Checksums
    from diurna_streams.replay.rebuild import Progress, Replay


@asynccontextmanager
async def replaying(state_dir: Path | None) -> AsyncGenerator[Replay]:
    """The live tables and the next ones beside them. Raises `Unavailable` where a part is to be found nowhere."""
    from diurna_streams.replay.rebuild import opened

    async with _connected(state_dir) as connection:
        database_url = database_url_of(state_dir)
        async with opened(connection.log, database_url, connection.codec, connection.learn) as replay:
            yield replay


async def recovered(state_dir: Path | None, progress: Progress) -> Checksums:
    """Fills the live tables to the end of the log, whatever is left of them."""
    from diurna_streams.replay.rebuild import recover

    async with _connected(state_dir) as connection:
        database_url = database_url_of(state_dir)
        return await recover(connection.log, database_url, connection.codec, connection.learn, progress=progress)


def database_url_of(state_dir: Path | None) -> str:
    """The database the environment names, else the running stack's. Raises `Unavailable` where there is neither."""
    from diurna_deploy.settings import Settings
    from diurna_deploy.stack.state import StateDirectory

    settings = Settings.load(state_dir=state_dir)
    if settings.database_url is not None:
        return settings.database_url
    found = StateDirectory(settings.state_dir).addresses()
    if found is None:
        where = f"DIURNA_DATABASE_URL is not set and no stack is running in {settings.state_dir}"
        raise Unavailable(f"{where}: set it, or run `diurna up`")
    return found.database_url


@asynccontextmanager
async def _connected(state_dir: Path | None) -> AsyncGenerator[Connection]:
    from diurna.connection import Connection
    from diurna.settings import STATE_DIR, ClientSettings
    from diurna_deploy import logs
    from diurna_deploy.collector import calm

    logs.configure(process="replay", level="warning", as_json=False, stream=sys.stderr)
    calm()
    client = ClientSettings.load(None if state_dir is None else {STATE_DIR: str(state_dir)})
    async with await Connection.open(client, source="/replay") as connection:
        yield connection
