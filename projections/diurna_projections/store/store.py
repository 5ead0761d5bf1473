"""Applies records of the log to the tables: the rows and how far the log is projected, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Final, Self

from diurna_projections import rows
from diurna_projections.errors import OutOfStep, Overtaken
from diurna_projections.folds import fold, needs_of
from diurna_projections.folds.dead_letters import letter_of
from diurna_projections.logged import packed
from diurna_projections.records import Reading
from diurna_projections.store.checksums import Checksums
from diurna_projections.store.database import SCHEMA, Connection, Database, translated
from diurna_projections.store.kept import Kept
from diurna_projections.store.moves import Moves, Place
from diurna_projections.store.schema import migrate
from diurna_projections.store.statements import checksum, statements
from diurna_projections.store.writing import copy, write, write_at_once
from diurna_schemas import topics
from diurna_schemas.chain import Head
from diurna_schemas.errors import Refused, Unreadable
from diurna_schemas.records import DeadLetter

DeadLetterSink = Callable[[DeadLetter], Awaitable[None]]
"""Where a record that cannot be projected is written down before it is passed over."""

_SQL: Final = statements("store")
_SEARCH: Final = statements("search")
_OVERTAKEN_MAX: Final = 10
"""So often another writer may be faster before somebody else must decide what to do about it."""
_LEAVE_RECORDS_MIN: Final = 20_000
_INDEX_SECONDS_MAX: Final = 3_600.0
_PLACE: Final = attrgetter("record.topic", "record.partition")


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch, in records."""

    accepted: int = 0
    repeated: int = 0
    duplicates: int = 0
    aliens: int = 0
    dead_letters: int = 0

    @classmethod
    def of(cls, moves: Moves) -> Self:
        """What became of the records the positions moved over."""
        accepted = moves.accepted - moves.dead_letters
        return cls(accepted, moves.repeated, moves.duplicates, moves.aliens, moves.dead_letters)

    @property
    def records(self) -> int:
        """How many the positions moved over."""
        return self.accepted + self.duplicates + self.aliens + self.dead_letters

    def __add__(self, other: Applied) -> Applied:
        return Applied(
            self.accepted + other.accepted,
            self.repeated + other.repeated,
            self.duplicates + other.duplicates,
            self.aliens + other.aliens,
            self.dead_letters + other.dead_letters,
        )


@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """How far a partition is projected, and what was passed over on the way, in records."""

    topic: str
    partition: int
    head: Head
    duplicates: int
    aliens: int
    dead_letters: int


class Store:
    """The tables in one Postgres schema."""

    def __init__(self, database: Database, *, dead_letters: DeadLetterSink | None = None) -> None:
        self.database = database
        self._sink = dead_letters
        self._kept = Kept()
        self._indexing = asyncio.Lock()

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        schema: str = SCHEMA,
        dead_letters: DeadLetterSink | None = None,
        connections_max: int = 3,
        is_durable: bool = False,
    ) -> Self:
        """Connects for writing. Commits do not wait for the disk: what a crash takes away is on the log."""
        database = await Database.connect(
            url, schema=schema, connections_max=connections_max, name="diurna-projector", is_durable=is_durable
        )
        return cls(database, dead_letters=dead_letters)

    @property
    def writes_dead_letters(self) -> bool:
        """Whether what cannot be projected is written down anywhere but in the tables."""
        return self._sink is not None

    async def migrate(self) -> list[str]:
        """Makes the tables where they are missing, and returns the names of the migrations that were applied."""
        self._kept.forget()
        async with self.database.connection() as connection:
            return await migrate(connection, self.database.schema)

    async def drop(self) -> None:
        """Drops the whole schema: the log makes it anew."""
        self._kept.forget()
        async with self.database.connection() as connection:
            await connection.execute(f"drop schema if exists {self.database.schema} cascade")

    async def index_search(self) -> None:
        """Makes the indexes readers search events by, where they are missing: two at a time."""
        async with (
            self._indexing,
            self.database.connection() as connection,
            self.database.connection() as other,
            translated("index"),
            connection.transaction(),
        ):
            await connection.execute("select pg_advisory_xact_lock(hashtext('diurna search ' || current_schema()))")
            waiting = list(_SEARCH.values())
            ends = await asyncio.gather(
                _execute_all(connection, waiting), _execute_all(other, waiting), return_exceptions=True
            )
            for error in ends:
                if error is not None:
                    raise error

    async def leave_search(self, lag_records: int) -> None:
        """Drops those indexes where so many records are to come that making them anew is quicker than keeping them."""
        async with self.database.connection() as connection, translated("leave indexes out"):
            count = await connection.fetchval(_SQL["events_estimate"])
            if lag_records > max(_LEAVE_RECORDS_MIN, 2 * count):
                await connection.execute(f"drop index if exists {', '.join(_SEARCH)}")

    async def positions(self) -> list[PartitionPosition]:
        """How far each partition is projected."""
        return [
            PartitionPosition(found[0], found[1], Head(*found[2:7]), found[7], found[8], found[9])
            for found in await self.database.fetch(_SQL["positions"])
        ]

    async def heads(self) -> dict[Place, Head]:
        """The head of each partition that was ever projected: where to read on, and what must link."""
        return {(found.topic, found.partition): found.head for found in await self.positions()}

    async def apply(self, readings: Sequence[Reading]) -> Applied:
        """Projects decoded records, those of a partition in order: all of them in effect exactly once, or none.

        Records that were projected before are passed over. What Postgres itself refuses becomes a dead letter. Raises
        `OutOfStep` where a record is missing, `Unavailable` where the effect is unknown: then apply them again.
        """
        if not readings:
            return Applied()
        try:
            return await self._apply(readings)
        except Refused as error:
            if len(readings) > 1:
                middle = len(readings) // 2
                return await self.apply(readings[:middle]) + await self.apply(readings[middle:])
            if isinstance(readings[0].content, Unreadable):
                raise
            return await self._apply([readings[0]._replace(content=Unreadable(str(error)))])

    async def load(self, places: Iterable[Place], batches: AsyncIterable[Sequence[Reading]]) -> Applied:
        """Projects a long stretch of these partitions in one transaction; events are copied while others are folded.

        Other writers of these partitions wait meanwhile. Raises `Refused` where Postgres refuses a record (then
        `apply` tells which), `OutOfStep`, or `Unavailable`: then nothing is written.
        """
        moves = Moves()
        async with (
            self._knowing(),
            self.database.connection() as side,
            self.database.connection() as connection,
            translated("load records"),
        ):
            async with connection.transaction():
                self._kept.forget()
                moves.begin(await self._kept.heads(side, sorted(places), locking=connection))
                await copy(connection, self._packed(side, moves, batches))
                await write_at_once(connection, self._kept.tables, moves.rows())
            # Plans made while a table was empty pass by its indexes, and are kept until Postgres knows better.
            if changed := [keyed.table.name for keyed in self._kept.tables.keyed() if keyed.changed]:
                await side.execute(f"analyze {', '.join(changed)}")
        self._kept.settle(moves.heads, 0)
        self._kept.forget()  # it holds a whole stretch
        return Applied.of(moves)

    async def _packed(
        self, side: Connection, moves: Moves, batches: AsyncIterable[Sequence[Reading]]
    ) -> AsyncGenerator[bytes]:
        """Folds the batches, and gives their events, packed, meanwhile."""
        logged = self._kept.tables.events.records
        async for readings in batches:
            await self._fold(await self._accepted(side, moves, readings), moves)
            yield packed(logged)
            logged.clear()

    async def checksums(self) -> Checksums:
        """The hash of each table that can be checked, all at the same positions."""
        async with (
            self.database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            found = await connection.fetch(_SQL["positions"])
            hashes = {
                table.name: str(await connection.fetchval(checksum(table))) for table in rows.TABLES if table.is_checked
            }
        return Checksums({(row["topic"], row["partition"]): row["next"] for row in found}, hashes)

    async def close(self) -> None:
        await self.database.close()

    async def _apply(self, readings: Sequence[Reading]) -> Applied:
        """All of it, or nothing."""
        async with self._knowing():
            for _ in range(_OVERTAKEN_MAX):
                was_known = self._kept.is_any
                try:
                    return await self._try(readings)
                except Overtaken:
                    self._kept.forget()
                except OutOfStep:
                    if not was_known:
                        raise
                    self._kept.forget()  # another writer may have gone on meanwhile
            return await self._try(readings)

    async def _try(self, readings: Sequence[Reading]) -> Applied:
        kept, moves = self._kept, Moves()
        async with self.database.connection() as connection, translated("apply records"):
            await self._fold(await self._accepted(connection, moves, readings), moves)
            await write(connection, kept.tables, moves.rows())
        kept.settle(moves.heads, sum(len(reading.record.value or b"") for reading in readings))
        return Applied.of(moves)

    async def _accepted(self, connection: Connection, moves: Moves, readings: Sequence[Reading]) -> list[Reading]:
        """Those that count, and the rows that folding them will look at at hand."""
        by_place: dict[Place, list[Reading]] = {}
        for place, run in groupby(readings, key=_PLACE):
            by_place.setdefault(place, []).extend(run)
        if new := moves.missing(by_place):
            moves.begin(await self._kept.heads(connection, new))
        accepted = [reading for place in sorted(by_place) for reading in moves.over(place, by_place[place])]
        await self._kept.load(connection, {need for reading in accepted for need in needs_of(reading.content)})
        return accepted

    async def _fold(self, accepted: Sequence[Reading], moves: Moves) -> None:
        """Folds what counts; writes a dead letter down first, so that a crash can repeat one but lose none."""
        tables = self._kept.tables
        for reading in accepted:
            if (error := fold(tables, reading)) is not None:
                record = reading.record
                moves.bury((record.topic, record.partition))
                if self._sink is not None and record.topic not in topics.DEAD_LETTER_TOPICS:
                    await self._sink(letter_of(record, error))

    @asynccontextmanager
    async def _knowing(self) -> AsyncGenerator[None]:
        """After any error the writer knows nothing, for it may know wrong."""
        try:
            yield
        except BaseException:
            self._kept.forget()
            raise


async def _execute_all(connection: Connection, waiting: list[str]) -> None:
    """Executes statement after statement until none waits any more; another may be taking from the same list."""
    while waiting:
        await connection.execute(waiting.pop(0), timeout=_INDEX_SECONDS_MAX)
