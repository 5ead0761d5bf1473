"""The table of events by places of the log: which record stands where, and the checksum of each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from diurna_projections.folds.dead_letters import STAGE
from diurna_projections.rows import EVENTS, LoggedEvent
from diurna_projections.store.moves import Place
from diurna_projections.store.statements import row_checksum, statements
from diurna_projections.store.store import Store

_SQL: Final = statements("logged")


class LoggedEvents:
    """What the table holds of a partition."""

    def __init__(self, store: Store) -> None:
        self._database = store.database
        self._store = store

    async def ends(self) -> Mapping[Place, int]:
        """For each partition the offset that is projected next."""
        return {place: head.next_offset for place, head in (await self._store.heads()).items()}

    async def last_before(self, place: Place, offset: int) -> int | None:
        """The offset of the last event before another; none where there is none."""
        row = await self._database.row(_SQL["last_before"], *place, offset)
        return None if row is None or row[0] is None else int(row[0])

    async def checksums(self, place: Place, start: int, end: int) -> dict[int, str]:
        """The checksum of each row from an offset to before another, in order."""
        sql = _SQL["checksums"].format(row=row_checksum(EVENTS))
        return {row[0]: row[1] for row in await self._database.fetch(sql, *place, start, end)}

    async def buried(self, place: Place, start: int, end: int) -> set[int]:
        """The offsets of records the tables could not take, and hold as dead letters."""
        return {row[0] for row in await self._database.fetch(_SQL["buried"], *place, start, end, STAGE)}

    async def row(self, place: Place, offset: int) -> LoggedEvent | None:
        """One row."""
        found = await self._database.row(_SQL["row"], *place, offset)
        return None if found is None else LoggedEvent(*[found[column] for column in EVENTS.columns])
