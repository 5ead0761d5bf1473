"""LangGraph's threads in Postgres: what is asked of them, each answer as things were at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self, cast

import orjson

from diurna_projections.store.database import SCHEMA, Connection, Database, columns_of, translated
from diurna_projections.store.statements import statements
from diurna_projections.thread_rows import (
    Checkpoint,
    CheckpointBlob,
    CheckpointDamage,
    CheckpointThread,
    CheckpointWrites,
)
from diurna_projections.threads import CHAIN_CHECKPOINTS_MAX, Accept, Ancestor, Found, Key, Keys, Saved, Summary, Wanted
from diurna_projections.waiting import Waiting
from diurna_schemas.errors import Unavailable
from diurna_schemas.ids import Position
from diurna_schemas.topics import CHECKPOINTS, partition_of

_SQL: Final = statements("threads")
_CONTENTS: Final = _SQL["contents"]
_COLUMNS: Final = _SQL["saved_columns"]
_FOUND: Final = """
select coalesce((select next from positions where topic = $2 and partition = $3), 0), t.*, d.*, s.*
from (values (1)) as one
left join checkpoint_threads t on t.thread_id = $1
left join checkpoint_damages d on d.thread_id = $1
left join lateral (select {columns} {source}) s on true
"""
_ONE: Final = _FOUND.format(columns=_COLUMNS, source=_SQL["one"].format(contents=_CONTENTS))
_NEWEST: Final = _FOUND.format(columns=_COLUMNS, source=_SQL["newest"].format(contents=_CONTENTS))
_THESE: Final = f"select {_COLUMNS} {_SQL['these'].format(contents=_CONTENTS)}"

_THREAD: Final = len(CheckpointThread._fields)
_DAMAGE: Final = len(CheckpointDamage._fields)
_ROW_COLUMNS: Final = len(Checkpoint._fields)
_ROWS_A_LOOK: Final = 100
_CONNECTIONS_MAX: Final = 4


class StoredThreads:
    """The threads in the tables."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._waiting = Waiting(self._next)

    @classmethod
    async def connect(cls, url: str, *, schema: str = SCHEMA, connections_max: int = _CONNECTIONS_MAX) -> Self:
        """Connects for reading. Raises `Unavailable` where nobody answers."""
        return cls(
            await Database.connect(url, schema=schema, connections_max=connections_max, name="diurna-checkpoints")
        )

    async def passed(self, positions: Iterable[Position], *, seconds: float) -> None:
        """Waits until the tables hold these records. Raises `TimedOut`, or `Unavailable` where Postgres is away."""
        await self._waiting.wait(list(positions), seconds=seconds)

    async def get(self, thread_id: str, checkpoint_ns: str, checkpoint_id: str | None) -> Found:
        """A checkpoint, the newest of the namespace where none is named."""
        about = (thread_id, CHECKPOINTS, partition_of(thread_id), checkpoint_ns)
        if checkpoint_id is None:
            row = await self.database.row(_NEWEST, *about)
        else:
            row = await self.database.row(_ONE, *about, checkpoint_id)
        if row is None:
            raise Unavailable("Postgres answered nothing where one row must be")
        following, *found = row
        thread, damage, saved = found[:_THREAD], found[_THREAD : _THREAD + _DAMAGE], found[_THREAD + _DAMAGE :]
        return Found(
            None if thread[0] is None else CheckpointThread(*thread),
            None if damage[0] is None else CheckpointDamage(*damage),
            None if saved[0] is None else _saved(saved),
            following,
        )

    async def summary(self, thread_id: str) -> Summary:
        """The thread and the newest checkpoint of each namespace."""
        row = await self.database.row(_SQL["summary"], thread_id, CHECKPOINTS, partition_of(thread_id))
        if row is None:
            raise Unavailable("Postgres answered nothing where one row must be")
        following, namespaces, newest, *found = row
        thread, damage = found[:_THREAD], found[_THREAD:]
        return Summary(
            None if thread[0] is None else CheckpointThread(*thread),
            None if damage[0] is None else CheckpointDamage(*damage),
            dict(zip(namespaces or (), newest or (), strict=True)),
            following,
        )

    async def keys(self, thread_id: str) -> Keys:
        """Everything the thread has."""
        async with (
            self.database.connection() as connection,
            translated("read the keys of a thread"),
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            checkpoints = await connection.fetch(_SQL["checkpoint_keys"], thread_id)
            blobs = await connection.fetch(_SQL["blob_keys"], thread_id)
            writes = await connection.fetch(_SQL["write_keys"], thread_id)
        return Keys(
            [(row[0], row[1], orjson.loads(row[2])) for row in checkpoints],
            [(row[0], row[1], row[2]) for row in blobs],
            [(row[0], row[1], row[2]) for row in writes],
        )

    async def page(self, wanted: Wanted, *, limit: int, accept: Accept | None = None) -> list[Saved]:
        """The first `limit` checkpoints that are wanted and accepted, all as they were at one moment."""
        keys: list[Key] = []
        after = wanted.after
        async with (
            self.database.connection() as connection,
            translated("list checkpoints"),
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            while len(keys) < limit:
                found = await _look(connection, wanted, after)
                rows = [Checkpoint(*row) for row in found]
                keys += [Key(*row[:3]) for row in rows if accept is None or accept(row)]
                if len(rows) < _ROWS_A_LOOK:
                    break
                after = Key(*rows[-1][:3])
            keys = keys[:limit]
            if not keys:
                return []
            return [_saved(tuple(row)) for row in await connection.fetch(_THESE, *columns_of(keys))]

    async def keys_of_runs(self, run_ids: Iterable[str]) -> list[Key]:
        """The checkpoints that these runs made."""
        return [Key(*row) for row in await self.database.fetch(_SQL["keys_of_runs"], list(run_ids))]

    async def chain(self, key: Key) -> list[Ancestor]:
        """The ancestors of a checkpoint, nearest first."""
        found = await self.database.fetch(_SQL["chain"], *key, CHAIN_CHECKPOINTS_MAX)
        return [Ancestor(row[0], orjson.loads(row[1])) for row in found]

    async def blobs(
        self, thread_id: str, checkpoint_ns: str, versions: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], CheckpointBlob]:
        """The values of channels at versions, as far as there are any, by channel and version."""
        wanted = list(versions)
        if not wanted:
            return {}
        found = await self.database.fetch(_SQL["blobs"], thread_id, checkpoint_ns, *columns_of(wanted))
        rows = [CheckpointBlob(*row) for row in found]
        return {(row.channel, row.version): row for row in rows}

    async def writes(self, thread_id: str, checkpoint_ns: str, checkpoint_ids: Iterable[str]) -> list[CheckpointWrites]:
        """What was written after these checkpoints, in order within each."""
        found = await self.database.fetch(_SQL["writes"], thread_id, checkpoint_ns, list(checkpoint_ids))
        return [CheckpointWrites(*row) for row in found]

    async def close(self) -> None:
        await self._waiting.close()
        await self.database.close()

    async def _next(self) -> Mapping[tuple[str, int], int]:
        found = await self.database.fetch(_SQL["positions"], CHECKPOINTS)
        return {(row[0], row[1]): row[2] for row in found}


async def _look(connection: Connection, wanted: Wanted, after: Key | None) -> list[Any]:
    """The next rows of a listing. The statement is made for what is given, so that each has a plan of its own."""
    given: dict[str, object] = {
        "thread_id = ": wanted.thread_id,
        "checkpoint_ns = ": wanted.checkpoint_ns,
        "checkpoint_id = ": wanted.checkpoint_id,
        "checkpoint_id < ": wanted.before,
    }
    arguments = [value for value in given.values() if value is not None]
    clauses = [words for words, value in given.items() if value is not None]
    conditions = [f"{words}${number}" for number, words in enumerate(clauses, start=1)]
    if after is not None:
        places = ", ".join(f"${len(arguments) + number}" for number in (1, 2, 3))
        conditions.append(f"(checkpoint_id, thread_id, checkpoint_ns) < ({places})")
        arguments += [after.checkpoint_id, after.thread_id, after.checkpoint_ns]
    where = f"where {' and '.join(conditions)} " if conditions else ""
    order = "order by checkpoint_id desc, thread_id desc, checkpoint_ns desc"
    sql = f"select * from checkpoints {where}{order} limit {_ROWS_A_LOOK}"  # noqa: S608 - the words are ours
    return list(await connection.fetch(sql, *arguments))


def _saved(found: Sequence[Any]) -> Saved:
    row = Checkpoint(*found[:_ROW_COLUMNS])
    has_parent = cast("bool", found[_ROW_COLUMNS])
    blobs, writes = found[_ROW_COLUMNS + 1 : _ROW_COLUMNS + 7], found[_ROW_COLUMNS + 7 :]
    return Saved(
        row,
        [CheckpointBlob(row.thread_id, row.checkpoint_ns, *one) for one in _zipped(blobs)],
        [CheckpointWrites(*row[:3], *one) for one in _zipped(writes)],
        has_parent,
    )


def _zipped(columns: Sequence[list[Any] | None]) -> Iterable[tuple[Any, ...]]:
    """Rows of columns that were aggregated; null where there was no row."""
    return () if columns[0] is None else zip(*cast("Sequence[list[Any]]", columns), strict=True)
