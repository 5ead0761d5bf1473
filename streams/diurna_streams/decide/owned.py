"""What deciding a partition needs to remember, and the events on their way to the log."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from diurna_streams.decide.history import Expected, History
from diurna_streams.decide.pace import Pace
from diurna_streams.log import Outgoing


@dataclass(slots=True)
class Owned:
    """The state ahead of what was read back, and the chain's hash there."""

    history: History
    state: Any
    hash: str
    incarnation: int
    next_command: int
    pace: Pace = field(default_factory=Pace)
    behind_ms: int = 0
    """How far our clock was behind the log's when a command was read last: what is due is due by the log's."""
    writes: deque[asyncio.Task[int]] = field(default_factory=deque[asyncio.Task[int]])
    """Batches on their way to the log, in order. What comes next is decided meanwhile."""
    snapshot_count: int = 0
    snapshot_ms: int = 0

    def writing(self, write: asyncio.Task[int]) -> None:
        """Adds a write that has begun."""
        write.add_done_callback(_looked_at)
        self.writes.append(write)

    async def written(self, *, under_way_max: int) -> None:
        """Waits until no more writes than these are under way. Raises `Unavailable` where one failed."""
        while self.writes and (len(self.writes) > under_way_max or self.writes[0].done()):
            await self.writes.popleft()

    @property
    def failure(self) -> BaseException | None:
        """Why the oldest write failed, where it did."""
        if not self.writes or not self.writes[0].done():
            return None
        return self.writes[0].exception()


def _looked_at(write: asyncio.Task[int]) -> None:
    """A write whose partition was taken away may fail, and nobody asks any more."""
    if not write.cancelled():
        write.exception()


@dataclass(slots=True)
class Batch:
    """Events of one or more whole commands, to be written as one record batch.

    `burials` are the dead letters of records between them, under way together: each alone would keep the next command
    waiting for the log. They are there before the events are, or a crash could lose them.
    """

    records: list[Outgoing] = field(default_factory=list[Outgoing])
    expected: list[Expected] = field(default_factory=list[Expected])
    size_bytes: int = 0
    burials: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    buried_bytes: int = 0

    def burying(self, burial: asyncio.Task[None], size_bytes: int) -> None:
        """Adds a dead letter that is under way."""
        self.burials.append(burial)
        self.buried_bytes += size_bytes

    async def buried(self) -> None:
        """Waits until the dead letters are durable. Raises `Unavailable` where one is not."""
        burials, self.burials, self.buried_bytes = self.burials, [], 0
        for ended in await asyncio.gather(*burials, return_exceptions=True):
            if ended is not None:
                raise ended
