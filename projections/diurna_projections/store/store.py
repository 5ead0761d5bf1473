"""Applies records of the log to the tables: the rows and how far the log is projected, in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self, cast

import orjson

from diurna_projections import folds, rows
from diurna_projections.advance import Advance, advance
from diurna_projections.folds import Needs
from diurna_projections.folds.dead_letters import letter_of
from diurna_projections.memory import stored
from diurna_projections.records import Reading
from diurna_projections.store.checksums import Checksums
from diurna_projections.store.database import SCHEMA, Connection, Database, columns_of, translated
from diurna_projections.store.schema import migrate
from diurna_projections.store.statements import checksum, delete, statements, upsert
from diurna_projections.tables import Rows, Tables
from diurna_schemas import topics
from diurna_schemas.chain import Head
from diurna_schemas.errors import Refused, Unavailable, Unreadable
from diurna_schemas.records import DeadLetter

Place = tuple[str, int]
DeadLetterSink = Callable[[DeadLetter], Awaitable[None]]
"""Where a record that cannot be projected is written down before it is passed over."""

_COPY_ROWS_MIN: Final = 200
"""From so many rows on COPY is quicker than an insert, although it asks for the columns' types each time."""
_SQL: Final = statements("store")


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch, in records."""

    accepted: int = 0
    repeated: int = 0
    duplicates: int = 0
    aliens: int = 0
    dead_letters: int = 0

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
        self._known: set[Place] = set()

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

    async def migrate(self) -> list[str]:
        """Makes the tables where they are missing, and returns the names of the migrations that were applied."""
        self._known.clear()
        async with self.database.connection() as connection:
            return await migrate(connection, self.database.schema)

    async def drop(self) -> None:
        """Drops the whole schema: the log makes it anew."""
        self._known.clear()
        async with self.database.connection() as connection:
            await connection.execute(f"drop schema if exists {self.database.schema} cascade")

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
            return await self._apply([replace(readings[0], content=Unreadable(str(error)))])

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
        by_place: dict[Place, list[Reading]] = {}
        for reading in readings:
            by_place.setdefault((reading.record.topic, reading.record.partition), []).append(reading)
        places = sorted(by_place)
        async with self.database.connection() as connection:
            await self._know(connection, places)
            async with translated("apply records"), connection.transaction():
                before = await self._lock(connection, places)
                steps = {place: advance(*place, before[place], by_place[place]) for place in places}
                accepted = [reading for place in places for reading in steps[place].accepted]
                tables = await _loaded(connection, accepted)
                letters = await self._fold(tables, accepted)
                for changed in tables:
                    await _write(connection, changed)
                await _move(connection, before, steps, letters)
        return Applied(
            len(accepted) - sum(letters.values()),
            sum(step.repeated for step in steps.values()),
            sum(step.duplicates for step in steps.values()),
            sum(step.aliens for step in steps.values()),
            sum(letters.values()),
        )

    async def _know(self, connection: Connection, places: Iterable[Place]) -> None:
        """Makes sure that each partition has a row to be locked."""
        new = [place for place in places if place not in self._known]
        if new:
            await connection.execute(_SQL["known_positions"], *columns_of(new))
            self._known.update(new)

    async def _lock(self, connection: Connection, places: list[Place]) -> dict[Place, Head]:
        found = await connection.fetch(_SQL["lock_positions"], *columns_of(places))
        heads = {(row[0], row[1]): Head(*row[2:]) for row in found}
        if len(heads) != len(places):
            self._known.clear()
            raise Unavailable("the positions are gone: the tables were emptied while they were written")
        return heads

    async def _fold(self, tables: Tables, accepted: Iterable[Reading]) -> dict[Place, int]:
        """Folds what counts; writes dead letters down first, so that a crash can repeat one but lose none."""
        letters: dict[Place, int] = {}
        for reading in accepted:
            error = folds.fold(tables, reading)
            if error is not None:
                record = reading.record
                place = (record.topic, record.partition)
                letters[place] = letters.get(place, 0) + 1
                if self._sink is not None and record.topic not in topics.DEAD_LETTER_TOPICS:
                    await self._sink(letter_of(record, error))
        return letters


async def _loaded(connection: Connection, accepted: Iterable[Reading]) -> Tables:
    """The rows the batch will look at."""
    needs = Needs()
    for reading in accepted:
        if not isinstance(reading.content, Unreadable):
            needs.add(reading.content)
    tables = Tables()
    if needs.agents:
        names = list(needs.agents)
        tables.agents.load(rows.Agent(*row) for row in await connection.fetch(_SQL["load_agents"], names))
        found = await connection.fetch(_SQL["load_agent_instances"], names)
        tables.agent_instances.load(rows.AgentInstance(*row) for row in found)
        found = await connection.fetch(_SQL["load_capabilities"], names)
        tables.capabilities.load(rows.Capability(*row) for row in found)
    if needs.requests:
        found = await connection.fetch(_SQL["load_requests"], *columns_of(list(needs.requests)))
        tables.requests.load(rows.Request(*row) for row in found)
    if needs.workflows:
        found = await connection.fetch(_SQL["load_workflows"], list(needs.workflows))
        loaded = (rows.Workflow(*row) for row in found)
        tables.workflows.load(row._replace(state=orjson.loads(cast("str", row.state))) for row in loaded)
    if needs.approvals:
        found = await connection.fetch(_SQL["load_approvals"], *columns_of(list(needs.approvals)))
        tables.approvals.load(rows.Approval(*row) for row in found)
    return tables


async def _write(connection: Connection, changed: Rows[Any]) -> None:
    table = changed.table
    written = [stored(table, row) for row in changed.changed.values() if row is not None]
    gone = [key for key, row in changed.changed.items() if row is None]
    if gone:
        await connection.execute(delete(table), *columns_of(gone))
    if table is rows.EVENTS and len(written) >= _COPY_ROWS_MIN:
        await connection.copy_records_to_table(table.name, columns=list(table.columns), records=written)
    elif written:
        await connection.execute(upsert(table), *columns_of(written))


async def _move(
    connection: Connection, before: dict[Place, Head], steps: dict[Place, Advance], letters: dict[Place, int]
) -> None:
    """Moves the positions, each from exactly where it was found."""
    moved = [
        (
            *place,
            before[place].next_offset,
            before[place].hash,
            step.head.next_offset,
            step.head.hash,
            step.head.incarnation,
            step.head.command_offset,
            step.head.index,
            step.duplicates,
            step.aliens,
            letters.get(place, 0),
        )
        for place, step in steps.items()
        if step.head.next_offset != before[place].next_offset
    ]
    if not moved:
        return
    answer = await connection.execute(_SQL["move_positions"], *columns_of(moved))
    if answer != f"UPDATE {len(moved)}":
        raise Unavailable(f"the positions moved while they were locked: {answer}, {len(moved)} were expected")
