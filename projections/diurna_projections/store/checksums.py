"""What the tables hold, in one hash each, and at which positions that is so."""

from __future__ import annotations

from dataclasses import dataclass

from diurna_schemas.ids import Position


@dataclass(frozen=True, slots=True)
class Checksums:
    """The hash of each table once all records below `next` were projected."""

    next: dict[tuple[str, int], int]
    tables: dict[str, str]

    @property
    def positions(self) -> list[Position]:
        """The last record of each partition that is in the tables."""
        return [Position(*place, offset - 1) for place, offset in sorted(self.next.items()) if offset > 0]
