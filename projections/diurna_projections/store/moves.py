"""How positions move: from where each was found, over the records of a batch or of many, to where it is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from diurna_projections.advance import Advance, advance
from diurna_projections.records import Reading
from diurna_schemas.chain import Head

Place = tuple[str, int]
Move = tuple[Any, ...]
"""A row of the statement that moves positions."""


class Moves:
    """The positions of some partitions while records are projected."""

    def __init__(self) -> None:
        self._before: dict[Place, Head] = {}
        self.heads: dict[Place, Head] = {}
        self._letters: dict[Place, int] = {}
        self._duplicates: dict[Place, int] = {}
        self._aliens: dict[Place, int] = {}
        self.accepted = 0
        self.repeated = 0

    def missing(self, places: Iterable[Place]) -> list[Place]:
        """Those whose position is not known yet, in order."""
        return sorted(place for place in places if place not in self.heads)

    def begin(self, heads: dict[Place, Head]) -> None:
        """Goes on from these positions."""
        self._before |= heads
        self.heads |= heads

    def over(self, place: Place, readings: Sequence[Reading]) -> list[Reading]:
        """Goes over the next records of a partition and returns those that count.

        Raises `OutOfStep` where one is missing.
        """
        step: Advance = advance(*place, self.heads[place], readings)
        self.heads[place] = step.head
        self._duplicates[place] = self._duplicates.get(place, 0) + step.duplicates
        self._aliens[place] = self._aliens.get(place, 0) + step.aliens
        self.accepted += len(step.accepted)
        self.repeated += step.repeated
        return step.accepted

    def bury(self, place: Place) -> None:
        """Counts a record that became a dead letter."""
        self._letters[place] = self._letters.get(place, 0) + 1

    @property
    def duplicates(self) -> int:
        return sum(self._duplicates.values())

    @property
    def aliens(self) -> int:
        return sum(self._aliens.values())

    @property
    def dead_letters(self) -> int:
        return sum(self._letters.values())

    def rows(self) -> list[Move]:
        """What is to be written of the partitions that moved at all."""
        return [
            (
                *place,
                self._before[place].next_offset,
                self._before[place].hash,
                head.next_offset,
                head.hash,
                head.incarnation,
                head.command_offset,
                head.index,
                self._duplicates.get(place, 0),
                self._aliens.get(place, 0),
                self._letters.get(place, 0),
            )
            for place, head in sorted(self.heads.items())
            if head.next_offset != self._before[place].next_offset
        ]
