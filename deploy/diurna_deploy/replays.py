"""Replays of the log these settings name, into the database they name."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diurna_schemas.errors import InvalidInput, Refused, Unavailable

if TYPE_CHECKING:
    from diurna.connection import Connection
    from diurna_projections.store import Checksums
    from diurna_streams.replay.compare import SpanComparison
    from diurna_streams.replay.progress import Progress
    from diurna_streams.replay.rebuild import Replay
    from diurna_streams.replay.what_if import Outcome


@asynccontextmanager
async def replaying(state_dir: Path | None) -> AsyncGenerator[Replay]:
    """The live tables and the next ones beside them. Raises `Unavailable` where a part is to be found nowhere."""
    from diurna_streams.replay.rebuild import opened

    async with _connected(state_dir) as connection:
        database_url = database_url_of(state_dir)
        async with opened(connection.log, database_url, connection.codec, connection.learn) as replay:
            yield replay


async def standing(state_dir: Path | None) -> Checksums:
    """The hash of each live table, and where they stand."""
    async with replaying(state_dir) as replay:
        return await replay.standing()


async def recovered(
    state_dir: Path | None,
    progress: Progress,
    *,
    since: str | None = None,
    end: str | None = None,
    schema: str | None = None,
    until: Mapping[tuple[str, int], int] | None = None,
) -> Checksums:
    """Fills the live tables, or those of another schema, whatever is left of them.

    To the end of the log, to before the moment `end`, or to exactly the offsets of `until`. What was before the moment
    `since` must be there already. Raises what `recover` raises.
    """
    from diurna_projections.store.database import SCHEMA
    from diurna_streams.replay.recover import recover
    from diurna_streams.replay.span import projected_offsets

    async with _connected(state_dir) as connection:
        database_url = database_url_of(state_dir)
        log = connection.log
        return await recover(
            log,
            database_url,
            connection.codec,
            connection.learn,
            schema=SCHEMA if schema is None else schema,
            progress=progress,
            since=None if since is None else await projected_offsets(log, since, field="--from"),
            until=until if end is None else await projected_offsets(log, end, field="--to"),
        )


async def compared(
    state_dir: Path | None, since: str | None, until: str | None, *, progress: Progress
) -> SpanComparison:
    """The part of the log from one moment to before another, and what the live table of events holds of it.

    Raises `InvalidInput` for what is no moment of the log, and what `compare` raises.
    """
    from diurna_projections.store import Store
    from diurna_projections.store.logged import LoggedEvents
    from diurna_streams.decide.follower import learns_nothing
    from diurna_streams.replay.compare import compare
    from diurna_streams.replay.span import projected_offsets

    async with _connected(state_dir) as connection:
        log, learn = connection.log, connection.learn or learns_nothing
        first = None if since is None else await projected_offsets(log, since, field="--from")
        end = None if until is None else await projected_offsets(log, until, field="--to")
        store = await Store.connect(database_url_of(state_dir))
        try:
            table = LoggedEvents(store)
            return await compare(log, table, connection.codec, learn=learn, since=first, until=end, progress=progress)
        finally:
            await store.close()


async def imagined(
    state_dir: Path | None,
    rules: str | None,
    fold: str | None,
    since: str | None,
    until: str | None,
    *,
    progress: Progress,
) -> Outcome:
    """What would be different with other rules, or another fold, each named MODULE:NAME.

    Raises `InvalidInput` where there is nothing of that name, or something else, `Refused` where nothing was decided.
    """
    from diurna_streams.decide.follower import learns_nothing
    from diurna_streams.deciders.rules import Rules
    from diurna_streams.replay.span import command_offsets
    from diurna_streams.replay.what_if import other_fold, other_rules

    changed = _named("--rules", rules) if rules is not None else _named("--fold", fold)
    async with _connected(state_dir) as connection:
        log, codec, learn = connection.log, connection.codec, connection.learn or learns_nothing
        if rules is None:
            if not callable(changed):
                raise InvalidInput("--fold", fold, "a function of tables and a reading is expected")
            return await other_fold(log, codec, cast("Any", changed), learn=learn, progress=progress)
        if not isinstance(changed, Rules):
            raise InvalidInput("--rules", rules, "an instance of diurna_streams.deciders.rules.Rules is expected")
        found = cast("Any", changed)
        first = None if since is None else await command_offsets(log, found.family, since, field="--from")
        end = None if until is None else await command_offsets(log, found.family, until, field="--to")
        outcome = await other_rules(log, codec, found, learn=learn, since=first, until=end, progress=progress)
        if not outcome.commands:
            raise Refused(f"no command of {found.family.name} was decided in that span: nothing can be compared")
        return outcome


def _named(option: str, name: str | None) -> Any:
    """What stands under MODULE:NAME, also in the folder this was called from."""
    module_name, _, attribute = (name or "").partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(import_module(module_name), attribute)
    except (ImportError, ValueError, AttributeError) as error:
        raise InvalidInput(option, name, f"MODULE:NAME is expected ({error})") from error
    finally:
        sys.path.pop(0)


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
