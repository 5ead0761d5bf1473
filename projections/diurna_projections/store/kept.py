"""What a writer knows of the tables without asking: right for as long as nobody else has moved the positions.

Every row belongs to one partition of the log, and changes only together with that partition's position. Whoever moves
a position from exactly where he believes it to be therefore also knows the rows right; whoever cannot, forgets all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from diurna_projections import rows
from diurna_projections.errors import OutOfStep
from diurna_projections.store.database import Connection, columns_of
from diurna_projections.store.moves import Place
from diurna_projections.store.statements import select, statements
from diurna_projections.stored import restored
from diurna_projections.tables import Need, Rows, Tables
from diurna_schemas.chain import Head

KEPT_BYTES_MAX: Final = 64 * 1024 * 1024
"""More than this is forgotten, and loaded again where it is needed. Counted in bytes folded and loaded."""
_SQL: Final = statements("store")
_TABLES: Final = {table.name: table for table in rows.TABLES}


class Kept:
    """The positions and the rows a writer has read or written."""

    def __init__(self) -> None:
        self.tables = Tables()
        self._heads: dict[Place, Head] = {}
        self._loaded: set[Need] = set()
        self._bytes = 0
        self._reached: dict[Place, int] = {}

    def forget(self) -> None:
        """Asks again for everything."""
        self.tables = Tables()
        self._heads = {}
        self._loaded = set()
        self._bytes = 0

    @property
    def is_any(self) -> bool:
        """Whether something is believed that may have changed since."""
        return bool(self._heads)

    async def heads(
        self, connection: Connection, places: list[Place], *, locking: Connection | None = None
    ) -> dict[Place, Head]:
        """The positions of these partitions. Where there is none yet, one is written.

        With `locking`, nobody else moves them until that connection's transaction ends. Raises `OutOfStep` where one
        went backwards: the tables were emptied while they were written.
        """
        new = [place for place in places if place not in self._heads]
        if new:
            await connection.execute(_SQL["known_positions"], *columns_of(new))
            asked = "positions_of" if locking is None else "lock_positions"
            found = await (locking or connection).fetch(_SQL[asked], *columns_of(new))
            self._heads |= {(row[0], row[1]): Head(*row[2:]) for row in found}
            for place in new:
                head = self._heads.get(place, Head())
                if head.next_offset < (reached := self._reached.get(place, 0)):
                    raise OutOfStep(*place, expected=head.next_offset, found=reached)
        return {place: self._heads[place] for place in places}

    async def load(self, connection: Connection, needs: Iterable[Need]) -> None:
        """Has these rows at hand, where they are in the tables."""
        missing = set(needs) - self._loaded
        by_kind: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
        for name, *key in missing:
            by_kind.setdefault((name, len(key)), []).append(tuple(key))
        for (name, width), keys in by_kind.items():
            table = _TABLES[name]
            found = await connection.fetch(select(table, width), *columns_of(keys))
            self._bytes += sum(len(value) for row in found for value in row if isinstance(value, str))
            cast("Rows[Any]", self.tables.of(table)).load(restored(table, row) for row in found)
        self._loaded |= missing

    def settle(self, heads: Mapping[Place, Head], bytes_folded: int) -> None:
        """All that was folded is in the tables now, and the positions are these."""
        self._reached |= {place: head.next_offset for place, head in heads.items()}
        self._bytes += bytes_folded
        if self._bytes > KEPT_BYTES_MAX:
            self.forget()
            return
        self.tables.settle()
        self._heads |= heads
