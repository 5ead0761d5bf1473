"""The tables as they were: folded from the table of events into tables that only one connection sees.

That connection answers the same statements as every other. It is never replaced by another one, which would find the
tables of today under the same names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from diurna_projections import rows
from diurna_projections.folds import fold
from diurna_projections.moment import Moment
from diurna_projections.records import Reading
from diurna_projections.store.database import (
    CONNECT_SECONDS_MAX,
    STATEMENT_SECONDS_MAX,
    BaseConnection,
    Connection,
    Database,
    PlainConnection,
    translated,
)
from diurna_projections.store.statements import statements
from diurna_projections.stored import stored
from diurna_projections.tables import Tables
from diurna_schemas.codec import Codec
from diurna_schemas.errors import NotFound, Unavailable, Unreadable
from diurna_schemas.ids import Position

_SQL: Final = statements("past")
_EVENTS_AT_ONCE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Scope:
    """Which events are folded: those of some topics, of all their partitions or of one."""

    topics: tuple[str, ...]
    partition: int | None = None


class PastDatabase(Database):
    """A database whose tables are those of a moment. Everything but `events` and what the scope names is empty."""

    _folded: tuple[object, ...] = ()

    async def is_whole(self, now: Database) -> bool:
        """Whether nothing of the moment was projected since, and the tables of today are those it was folded from.

        Of generations that were exchanged the one before is dropped one day, and what is shown of it with it.
        """
        row = await now.row(_SQL["is_whole"], *self._folded)
        return row is not None and row["is_whole"] is True

    @classmethod
    async def open(cls, url: str, *, schema: str, moment: Moment, scope: Scope, codec: Codec) -> PastDatabase:
        """Folds what had happened. Raises `Unavailable` where Postgres does not answer."""
        is_used = False

        async def only_once(_: BaseConnection) -> None:
            nonlocal is_used
            if is_used:
                raise Unavailable("the connection to the past was lost: ask again")
            is_used = True

        async with translated("connect to the past"):
            pool = await asyncpg.create_pool(
                url,
                min_size=0,  # one that was lost is not to be replaced
                max_size=1,
                timeout=CONNECT_SECONDS_MAX,
                command_timeout=STATEMENT_SECONDS_MAX,
                connection_class=PlainConnection,
                max_inactive_connection_lifetime=0,
                init=only_once,
                server_settings={
                    "search_path": f"pg_temp, {schema}",
                    "application_name": "diurna-past",
                    "jit": "off",
                    "default_transaction_read_only": "off",
                },
            )
        found = cls(pool, schema, url)
        try:
            async with found.connection() as connection, translated("fold the past"):
                found._folded = await _fill(connection, schema, moment, scope, codec)
        except BaseException:
            await found.close()
            raise
        return found


async def time_of(database: Database, position: Position) -> Moment:
    """The moment at which an event was the last one. Raises `NotFound` where the tables do not have it."""
    row = await database.row(_SQL["time_of"], position.topic, position.partition, position.offset)
    if row is None:
        raise NotFound("event", str(position))
    return Moment(row["at_ms"], position)


async def _fill(connection: Connection, schema: str, moment: Moment, scope: Scope, codec: Codec) -> tuple[object, ...]:
    """Folds it, and returns what it was folded from, as the question takes it whether that is whole."""
    until = _until(moment)
    views = await connection.fetch(_SQL["views"], schema)  # while their definitions still name the tables of today
    for name in (_POSITIONS, *(table.name for table in rows.TABLES)):
        if name != rows.EVENTS.name:
            await connection.execute(f"create temp table {name} (like {schema}.{name} including defaults)")
    for view in views:
        await connection.execute(f"create temp view {view['name']} as {view['definition']}")
    await connection.execute(_SQL["positions"].format(schema=schema), *until)
    folded = await connection.fetchrow(_SQL["folded"])
    tables = Tables()
    async with connection.transaction(readonly=True, isolation="repeatable_read"):
        events = await connection.cursor(_SQL["events"], *until, list(scope.topics), scope.partition)
        while found := await events.fetch(_EVENTS_AT_ONCE):
            await asyncio.to_thread(_fold, tables, codec, found)
    for keyed in tables.keyed():
        written = [stored(keyed.table, row) for row in keyed]
        if written:
            columns = list(keyed.table.columns)
            await connection.copy_records_to_table(keyed.table.name, records=written, columns=columns)
    # Last: until now `events` was the table of today.
    at_ms, topic, partition, offset = until
    await connection.execute(
        f"create temp view events as select * from {schema}.events"  # noqa: S608 - numbers, and a name of a topic
        f" where at_ms <= {at_ms:d}"
        f" and (topic <> '{topic}' or partition <> {partition:d} or record_offset <= {offset:d})"
    )
    return (*until, *(folded or ()))


def _until(moment: Moment) -> tuple[int, str, int, int]:
    if (position := moment.position) is None:
        return (moment.at_ms, "", 0, 0)
    return (moment.at_ms, position.topic, position.partition, position.offset)


def _fold(tables: Tables, codec: Codec, found: Sequence[Any]) -> None:
    for row in found:
        record = _PastRecord(
            row["topic"],
            row["partition"],
            row["record_offset"],
            row["at_ms"],
            row["record_key"],
            row["value"],
            (("ce_id", row["event_id"].encode()),),
        )
        try:
            fold(tables, Reading(record, codec.decode(record.value)))
        except Unreadable:
            continue  # it was a dead letter, and changed no table either
    tables.events.records.clear()


@dataclass(frozen=True, slots=True)
class _PastRecord:
    """A record as the table of events has it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


_POSITIONS: Final = "positions"
