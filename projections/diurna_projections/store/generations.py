"""Generations of the tables, each in a schema of its own: the next one takes the live one's place in one transaction.

Readers and the live projector name no schema but the live one, so they find the new tables with their next statement.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg

from diurna_projections.records import WITH_GAPS
from diurna_projections.store.database import CONNECT_SECONDS_MAX, SCHEMA, translated
from diurna_projections.store.moves import Place
from diurna_projections.store.statements import statements
from diurna_projections.store.store import Store
from diurna_schemas.chain import Head
from diurna_schemas.errors import Conflict, InvalidInput, NotFound

Deliver = Callable[[Mapping[Place, Head]], Awaitable[None]]
"""Projects the next generation exactly to these positions."""

_SQL: Final = statements("generations")
_WAIT_MS_MAX: Final = 10_000
_CLAIMED: Final = "made by a replay of the log, to look at: drop it when you are done"
"""The comment of a schema whose tables nobody but a replay writes."""


def next_of(schema: str) -> str:
    """Where the next generation is made."""
    return f"{schema}_next"


def before_of(schema: str) -> str:
    """Where the generation before is kept."""
    return f"{schema}_before"


async def exchange(live: Store, following: Store, deliver: Deliver) -> dict[Place, Head]:
    """Makes the following generation the live one, keeps the old one, and returns the positions at that moment.

    The live projector waits meanwhile: `deliver` has little to do where the following generation was caught up before.
    Raises `Conflict` where the two do not stand at the same event of every partition, and changes nothing then.
    """
    name, kept = live.database.schema, before_of(live.database.schema)
    async with live.database.connection() as connection, translated("exchange generations"), connection.transaction():
        await connection.execute(f"set local lock_timeout = {_WAIT_MS_MAX}")
        found = await connection.fetch(_SQL["lock_all_positions"])
        heads = {(row[0], row[1]): Head(*row[2:]) for row in found}
        await deliver(heads)
        # Where records may be gone from the log, the end of what is left is as good as the last record.
        await connection.execute(_SQL["pass_gaps"].format(schema=following.database.schema), list(WITH_GAPS))
        theirs = await following.heads()
        for place, head in heads.items():
            if theirs.get(place, Head()) != head:
                raise Conflict(
                    f"the next tables are at {theirs.get(place)} of {place[0]}:{place[1]}, the live at {head}"
                )
        await connection.execute(f"drop schema if exists {kept} cascade")
        # Whoever waits for these positions must not find them where he believes them to be: he asks again, and finds
        # the new ones.
        await connection.execute(_SQL["retire"].format(schema=name))
        await connection.execute(f"alter schema {name} rename to {kept}")
        await connection.execute(f"alter schema {following.database.schema} rename to {name}")
    return heads


async def take_back(live: Store) -> None:
    """Makes the generation before the next one again, to be caught up and exchanged.

    Raises `NotFound` where none is kept, `Conflict` where a next one is being made already.
    """
    name = live.database.schema
    async with live.database.connection() as connection, translated("take back"), connection.transaction():
        there = {row[0] for row in await connection.fetch(_SQL["schemas"], [before_of(name), next_of(name)])}
        if next_of(name) in there:
            raise Conflict(f"{next_of(name)} is being made: promote or drop it first")
        if before_of(name) not in there:
            raise NotFound("generation", before_of(name))
        await connection.execute(f"alter schema {before_of(name)} rename to {next_of(name)}")
        await connection.execute(_SQL["revive"].format(schema=next_of(name)))


async def keep_again(live: Store) -> None:
    """Undoes `take_back`: what was taken back stays the generation before."""
    name = live.database.schema
    async with live.database.connection() as connection, translated("keep again"), connection.transaction():
        await connection.execute(_SQL["retire"].format(schema=next_of(name)))
        await connection.execute(f"alter schema {next_of(name)} rename to {before_of(name)}")


async def heads_to_go_on_from(store: Store) -> dict[Place, Head]:
    """Where the tables in a schema stand: nowhere, where there are none.

    Raises `InvalidInput` for the schemas generations are made and kept in, and for Postgres' own; `Conflict` for one
    that is neither the live one nor was made by `claim`: it belongs to somebody else, and is not looked into.
    """
    schema = store.database.schema
    if schema in {next_of(SCHEMA), before_of(SCHEMA)}:
        raise InvalidInput("schema", schema, "the tables that take the live ones' place are made and kept there")
    if schema.startswith("pg_"):
        raise InvalidInput("schema", schema, "these are Postgres' own")
    row = await store.database.row(_SQL["schema_of"], schema, f"{schema}.positions")
    if row is None:
        return {}
    if schema != SCHEMA and row["comment"] != _CLAIMED:
        raise Conflict(f"schema {schema} is there, and no replay has made it: it is left as it is, name another one")
    return await store.heads() if row["has_tables"] else {}


async def claim(store: Store) -> None:
    """Makes a schema of its own, for tables to look at, where it is not there; it says so in its comment."""
    schema = store.database.schema
    async with store.database.connection() as connection, translated("make a schema"), connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(hashtext('diurna schema ' || $1))", schema)
        if await connection.fetchrow(_SQL["schema_of"], schema, f"{schema}.positions") is None:
            await connection.execute(f"create schema {schema}")
            await connection.execute(f"comment on schema {schema} is '{_CLAIMED}'")


async def generations(live: Store) -> list[str]:
    """Which of the live schema, the next and the one before there are, in order of their names."""
    name = live.database.schema
    async with live.database.connection() as connection:
        return [row[0] for row in await connection.fetch(_SQL["schemas"], [name, next_of(name), before_of(name)])]


async def drop_database(url: str) -> None:
    """Drops the database of `url` and everything in it, whoever is connected.

    Raises `Unavailable` where the server does not answer or does not allow it.
    """
    async with translated("drop the database"), _beside(url) as connection:
        await connection.execute(f"drop database {_database_of(url)} with (force)")


async def create_database(url: str) -> bool:
    """Creates the database of `url` where its server has none of that name; whether it did.

    Raises `Unavailable` where the server does not answer or does not allow it.
    """
    async with translated("create the database"):
        try:
            connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS_MAX)
        except asyncpg.InvalidCatalogNameError:
            async with _beside(url) as server:
                await server.execute(f"create database {_database_of(url)}")
            return True
        await connection.close()
        return False


@asynccontextmanager
async def _beside(url: str) -> AsyncGenerator[asyncpg.Connection]:
    """A connection to the same server's own database, from which others are made and dropped."""
    connection = await asyncpg.connect(
        urlunsplit(urlsplit(url)._replace(path="/postgres")), timeout=CONNECT_SECONDS_MAX
    )
    try:
        yield connection
    finally:
        await connection.close()


def _database_of(url: str) -> str:
    """Its name as SQL takes it."""
    name = unquote(urlsplit(url).path.lstrip("/"))
    return f'"{name.replace(chr(34), chr(34) * 2)}"'
