"""How far the log is, thread by thread: what a read must hold so that it holds all that was written before it.

The end of the partition would do, but then every read waits for whatever else was written there a moment ago. So the
partitions are followed: which records are a thread's own is known without asking anybody, and most often none is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import structlog

from diurna_schemas.errors import DiurnaError, TimedOut, Unavailable
from diurna_schemas.ids import Position
from diurna_schemas.topics import CHECKPOINTS, TOPICS, partition_of
from diurna_streams.log import Log, Reader, Record, TopicPartition

logger = structlog.get_logger(__name__)

THREADS_MAX: Final = 50_000
"""So many threads' last records are remembered; those of others are taken to be the last forgotten one."""
_FOLLOW_SECONDS_MAX: Final = 30.0
_READ_RECORDS_MAX: Final = 5_000
_RETRY_SECONDS: Final = 0.2

Ends = dict[TopicPartition, int]


class Frontier:
    """Follows the partitions of threads from the moment it is first asked."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._places = [TopicPartition(CHECKPOINTS, number) for number in range(TOPICS[CHECKPOINTS].partitions)]
        self._asking: asyncio.Task[Ends] | None = None
        self._asking_next: asyncio.Task[Ends] | None = None
        self._asked_next: set[TopicPartition] = set()
        self._next: Ends = {}
        self._floor: Ends = {}
        self._last: dict[str, int] = {}
        self._moved = asyncio.Condition()
        self._starting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def of(self, thread_id: str) -> list[Position]:
        """The last record of a thread at this moment, or one after it. Raises `Unavailable`."""
        place = self._places[partition_of(thread_id)]
        if self._task is None:
            await self._start()
        end = (await self._ends([place]))[place]
        if self._next[place] < end:
            await self._followed(place, end)
        last = self._last.get(thread_id, self._floor[place] - 1)
        return [] if last < 0 else [Position(*place, last)]

    async def of_all(self) -> list[Position]:
        """The last record of every partition at this moment. Raises `Unavailable`."""
        return [Position(*place, end - 1) for place, end in (await self._ends(self._places)).items() if end > 0]

    async def close(self) -> None:
        """Follows no longer."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _start(self) -> None:
        async with self._starting:
            if self._task is None:
                self._floor = await self._ends(self._places)
                self._next = dict(self._floor)
                self._task = asyncio.create_task(self._follow(), name="diurna-checkpoint-frontier")

    async def _followed(self, place: TopicPartition, end: int) -> None:
        try:
            async with asyncio.timeout(_FOLLOW_SECONDS_MAX), self._moved:
                await self._moved.wait_for(lambda: self._next[place] >= end)
        except TimeoutError as error:
            raise TimedOut(f"following {place.topic}:{place.partition} to {end}", _FOLLOW_SECONDS_MAX) from error

    async def _follow(self) -> None:
        while True:
            try:
                reader = await self._log.reader()
                try:
                    await reader.start_at(self._next)
                    await self._read(reader)
                finally:
                    await reader.close()
            except DiurnaError as error:
                logger.warning("following the checkpoints starts again", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _read(self, reader: Reader) -> None:
        while True:
            if records := await reader.read(records_max=_READ_RECORDS_MAX, wait_ms=1_000):
                self._take(records)
                async with self._moved:
                    self._moved.notify_all()

    def _take(self, records: Iterable[Record]) -> None:
        last = self._last
        for record in records:
            self._next[TopicPartition(record.topic, record.partition)] = record.offset + 1
            thread_id = (record.key or b"").decode("utf-8", "replace")
            last.pop(thread_id, None)  # so that the longest unchanged is the first to be forgotten
            last[thread_id] = record.offset
        while len(last) > THREADS_MAX:
            thread_id = next(iter(last))
            place = self._places[partition_of(thread_id)]
            self._floor[place] = max(self._floor[place], last.pop(thread_id) + 1)

    async def _ends(self, places: Iterable[TopicPartition]) -> Ends:
        """Where partitions end. Those who ask while an answer is on its way share the next one: that one is older."""
        self._asked_next.update(places)
        if self._asking_next is None or self._asking_next.done():
            self._asking_next = asyncio.create_task(self._ask(self._asking))
            self._asking_next.add_done_callback(_retrieved)
        return await asyncio.shield(self._asking_next)

    async def _ask(self, running: asyncio.Task[Ends] | None) -> Ends:
        if running is not None:
            await asyncio.wait({running})
        self._asking, self._asking_next = self._asking_next, None
        places, self._asked_next = self._asked_next, set()
        found = await self._log.ends(places)
        if missing := [place for place in places if place not in found]:
            raise Unavailable(f"{missing[0].topic}:{missing[0].partition} is not there: provision the topics first")
        return found


def _retrieved(task: asyncio.Task[Ends]) -> None:
    """Whoever asked may have been cancelled."""
    if not task.cancelled():
        task.exception()
