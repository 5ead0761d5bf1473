"""Writes what a batch changed: the rows and the positions, all or nothing, in as few round trips as there can be."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from typing import Any, Final

from diurna_projections import rows
from diurna_projections.logged import COPY_HEAD, COPY_TAIL, packed, row_of
from diurna_projections.records import LogRecord
from diurna_projections.store.database import Connection, columns_of
from diurna_projections.store.moves import Move
from diurna_projections.store.statements import Change, write_all
from diurna_projections.stored import stored
from diurna_projections.tables import Tables

_COPY_RECORDS_MIN: Final = 200
"""From so many events on COPY is quicker than an insert."""
_PART_RECORDS: Final = 1_000
"""So many are sent at a time."""


async def write(connection: Connection, tables: Tables, moves: Sequence[Move]) -> None:
    """Writes what changed and moves the positions, each from exactly where it is believed to be.

    Raises `Overtaken`, and writes nothing, where another writer has moved one of them.
    """
    records = tables.events.records
    if len(records) < _COPY_RECORDS_MIN:
        await write_at_once(connection, tables, moves, records)
        return
    async with connection.transaction():
        await write_at_once(connection, tables, moves)  # first: who was overtaken need not copy anything
        await copy(connection, _parts(records))


async def copy(connection: Connection, parts: AsyncIterable[bytes]) -> None:
    """Copies packed records into the table of events while they are made."""
    columns = list(rows.EVENTS.columns)
    await connection.copy_to_table(rows.EVENTS.name, source=_framed(parts), columns=columns, format="binary")


async def write_at_once(
    connection: Connection, tables: Tables, moves: Sequence[Move], records: Sequence[LogRecord] = ()
) -> None:
    """The rows, and these records as events, in one statement: its own transaction where there is none."""
    if not moves:
        return
    changes: list[Change] = []
    arguments: list[Any] = [len(moves), *columns_of(moves)]
    for keyed in tables.keyed():
        if not keyed.changed:
            continue
        table = keyed.table
        written = [stored(table, row) for row in keyed.changed.values() if row is not None]
        gone = [key for key, row in keyed.changed.items() if row is None]
        if written:
            changes.append((table.name, "upsert"))
            arguments += columns_of(written)
        if gone:
            changes.append((table.name, "delete"))
            arguments += columns_of(gone)
    if records:
        changes.append((rows.EVENTS.name, "insert"))
        arguments += columns_of([row_of(record) for record in records])
    await connection.execute(write_all(tuple(changes)), *arguments)


async def _parts(records: Sequence[LogRecord]) -> AsyncGenerator[bytes]:
    for start in range(0, len(records), _PART_RECORDS):
        yield packed(records[start : start + _PART_RECORDS])


async def _framed(parts: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    yield COPY_HEAD
    async for part in parts:
        yield part
    yield COPY_TAIL
