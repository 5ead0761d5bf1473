"""Reads all events of a family and folds them, whether this process decides them or not: the hot standby."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from diurna_schemas.codec import Codec
from diurna_schemas.errors import BrokenChain, Unavailable, UnknownSchema, Unreadable
from diurna_streams import snapshots
from diurna_streams.decide.history import History
from diurna_streams.deciders.rules import Rules
from diurna_streams.log import Log, Reader, Record, TopicPartition

logger = structlog.get_logger(__name__)


PATIENCE_MS: Final = 100
"""A decider goes on from what it decided, not from what it reads back: that may come late, many at a time."""

Learn = Callable[[int], Awaitable[None]]
"""Makes a schema id known to the codec, where anybody knows it."""


async def learns_nothing(_schema_id: int) -> None:
    """Where there is nobody to ask."""


class Follower:
    """Keeps the histories of all partitions up to date.

    It reads from the newest snapshot on, then the events to their end by explicit offsets, then whatever comes.
    """

    def __init__(
        self, log: Log, codec: Codec, rules: Rules[Any, Any, Any], partitions: int, learn: Learn = learns_nothing
    ) -> None:
        self._log = log
        self._learn = learn
        self._codec = codec
        self._rules = rules
        self.histories = [History(rules, codec, number) for number in range(partitions)]
        self._moved = asyncio.Event()

    async def run(self, *, ready: asyncio.Event) -> None:
        """Follows for ever. Sets `ready` once every history has reached the end it had at the start."""
        reader = await self._log.reader(patience_ms=PATIENCE_MS)
        try:
            await self._restore(reader)
            ends = await self._log.ends(self._places())
            while True:
                await self._read_some(reader)
                if not ready.is_set() and all(
                    self.histories[place.partition].head.next_offset >= end for place, end in ends.items()
                ):
                    ready.set()
        finally:
            await reader.close()

    async def reached(self, partition: int, offset: int) -> None:
        """Waits until a history has read up to `offset`."""
        history = self.histories[partition]
        while history.head.next_offset < offset:
            await self._moved.wait()

    def _places(self) -> list[TopicPartition]:
        return [TopicPartition(self._rules.family.events, history.partition) for history in self.histories]

    async def _restore(self, reader: Reader) -> None:
        found = await asyncio.gather(
            *(snapshots.load(self._log, self._codec, self._rules, history.partition) for history in self.histories)
        )
        for history, settled in zip(self.histories, found, strict=True):
            if settled is not None:
                history.restore(settled)
        starts = {place: self.histories[place.partition].head.next_offset for place in self._places()}
        await reader.start_at(starts)

    async def _read_some(self, reader: Reader) -> None:
        try:
            records = await reader.read(records_max=2_000, wait_ms=500)
        except Unavailable as error:
            logger.warning("the events cannot be read; trying again", error=str(error))
            await asyncio.sleep(0.2)
            return
        rewound: set[int] = set()
        for record in records:
            history = self.histories[record.partition]
            if record.partition in rewound or record.offset < history.head.next_offset:
                continue
            try:
                await self._fold(history, record)
            except BrokenChain as error:
                logger.error("history is read again", error=str(error))
                place = TopicPartition(record.topic, record.partition)
                await reader.start_at({place: history.rewind()})
                rewound.add(record.partition)
        if records:
            self._moved.set()
            self._moved = asyncio.Event()

    async def _fold(self, history: History, record: Record) -> None:
        """An accepted event that stays unreadable ends the process: deciding without it would be wrong."""
        try:
            try:
                history.read(record)
            except UnknownSchema as error:
                await self._learn(error.schema_id)
                history.read(record)
        except BrokenChain:
            raise
        except Unreadable as error:
            logger.critical(
                "an accepted event cannot be read: nothing more is decided",
                position=str(record.position),
                error=str(error),
            )
            raise
