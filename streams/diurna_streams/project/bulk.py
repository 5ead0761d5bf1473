"""Catches up when far behind: long stretches of the log, each one transaction, whose events are copied while they come.

Reading, decoding and folding go on here while Postgres takes in what was handed over before.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from typing import Final

import structlog

from diurna_projections.errors import OutOfStep
from diurna_projections.records import Reading
from diurna_schemas.errors import Refused, Unavailable
from diurna_streams.log.port import Log, Reader, Record, TopicPartition
from diurna_streams.project import metrics
from diurna_streams.project.hands import Told, share_out
from diurna_streams.project.places import Places, places_of
from diurna_streams.project.writer import Writer

logger = structlog.get_logger(__name__)

STRETCH_RECORDS_MAX: Final = 200_000
STRETCH_BYTES_MAX: Final = 128 * 1024 * 1024
"""So much of the log is one transaction; what it changed stands in memory until it ends."""
HAND_OVER_LAG_RECORDS: Final = 500
"""So close to the end the live stream takes over."""
_PATIENCE_MS: Final = 50
_READ_RECORDS_MAX: Final = 200
"""So many go through all stages at a time: each has dozens of objects, which are to be in the cache still."""
_CAREFUL_RECORDS_MAX: Final = 500
_IDLE_READS_MAX: Final = 50
_RETRY_SECONDS: Final = 0.5
_PLACE: Final = attrgetter("topic", "partition")


async def catch_up(
    log: Log,
    writer: Writer,
    partitions: list[TopicPartition],
    *,
    hand_over_lag_records: int = HAND_OVER_LAG_RECORDS,
    until: Mapping[TopicPartition, int] | None = None,
    told: Told = lambda _: None,
    processes: int = 1,
) -> int:
    """Projects until the end is so near, and returns how many records it projected.

    With `until`, the end is what it says, however the log goes on: who writes as quickly as this reads would keep it
    for ever. A long way is shared out among so many `processes`, where that is more than one.

    Raises `OutOfStep` where the log or another projector moved the positions backwards.
    """

    async def look() -> Places:
        found = await places_of(log, writer.store, partitions)
        return found if until is None else found.until(until)

    places = await look()
    await writer.store.leave_search(places.lag)
    if count := await share_out(log, writer, places, told, processes=processes):
        places = await look()
    while places.lag > hand_over_lag_records:
        count += await project_to(places.ends, log, writer, told=told)
        places = await look()
    await writer.store.index_search()
    return count


async def fill(
    ends: Mapping[TopicPartition, int], log: Log, writer: Writer, *, told: Told = lambda _: None, processes: int = 1
) -> int:
    """Projects exactly the records below `ends`, a long way as `catch_up` does: with many hands, indexes made last."""
    places = (await places_of(log, writer.store, list(ends))).until(ends)
    await writer.store.leave_search(places.lag)
    count = await share_out(log, writer, places, told, processes=processes)
    count += await project_to(ends, log, writer, told=told)
    await writer.store.index_search()
    return count


async def project_to(
    ends: Mapping[TopicPartition, int], log: Log, writer: Writer, *, told: Told = lambda _: None
) -> int:
    """Projects exactly the records below `ends`, as far as they are there; returns how many it projected.

    Raises `OutOfStep` where the log or another projector moved the positions backwards.
    """
    count = 0
    is_careful = False
    while (places := (await places_of(log, writer.store, list(ends))).until(ends)).lag:
        metrics.BULK_RUNS.inc()
        logger.info("projecting in bulk", lag_records=places.lag)
        reading = _Reading(await log.reader(patience_ms=_PATIENCE_MS), writer, places, told)
        is_over = False
        try:
            with _uncollected():
                moved = await (_carefully if is_careful else _quickly)(reading, writer)
            count += moved
            is_careful = False
            is_over = not moved and not reading.goes_on  # what is left below the ends was compacted away
        except OutOfStep:
            raise
        except Refused as error:
            logger.warning("a stretch of the log is projected record by record", error=str(error))
            is_careful = True
        except Unavailable as error:
            logger.warning("projecting again from where the tables stand", error=str(error))
            await asyncio.sleep(_RETRY_SECONDS)
        finally:
            await reading.close()
        if reading.is_idle or is_over:
            return count  # a compacted topic may end before its end
    return count


@contextmanager
def _uncollected() -> Generator[None]:
    """Leaves the search for cycles out: there are none in records and rows, and each search walks a whole stretch."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


async def _quickly(reading: _Reading, writer: Writer) -> int:
    """Stretch by stretch to the end."""
    await reading.start()
    count = 0
    while reading.goes_on:
        count += (await writer.load(reading.places, reading.stretch())).records
    return count


async def _carefully(reading: _Reading, writer: Writer) -> int:
    """One stretch in small batches: what Postgres refuses is found, and becomes a dead letter."""
    await reading.start()
    count = 0
    async for readings in reading.stretch(records_max=_CAREFUL_RECORDS_MAX):
        count += (await writer.write([one.record for one in readings], readings)).records
    return count


class _Reading:
    """From where the tables stand to given ends."""

    def __init__(self, reader: Reader, writer: Writer, places: Places, told: Told) -> None:
        self._reader = reader
        self._writer = writer
        self._told = told
        self._ends = places.ends
        self._behind = {place: offset for place, offset in places.next.items() if places.lag_of(place)}
        self._missing = set(self._behind)
        self._idle_reads = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing more came, although the end was not reached."""
        return self._idle_reads >= _IDLE_READS_MAX

    @property
    def goes_on(self) -> bool:
        """Whether there is more, as far as anybody can tell."""
        return bool(self._missing) and not self.is_idle

    @property
    def places(self) -> list[TopicPartition]:
        """The partitions that are read."""
        return list(self._behind)

    async def start(self) -> None:
        await self._reader.start_at(self._behind)

    async def close(self) -> None:
        await self._reader.close()

    async def stretch(self, *, records_max: int = _READ_RECORDS_MAX) -> AsyncGenerator[list[Reading]]:
        """The next records of one transaction, decoded, so many at a time."""
        count = size = 0
        while self.goes_on and count < STRETCH_RECORDS_MAX and size < STRETCH_BYTES_MAX:
            found = await self._reader.read(records_max=records_max, wait_ms=100)
            self._idle_reads = 0 if found else self._idle_reads + 1
            records = self._below_the_ends(found)
            if records:
                count += len(records)
                size += sum([len(record.value or b"") for record in records])
                yield await self._writer.understand(records)
                self._told(len(records))

    def _below_the_ends(self, found: list[Record]) -> list[Record]:
        """What is to be projected of these; those that reached their end are noted."""
        kept: list[Record] = []
        for (topic, partition), run in groupby(found, key=_PLACE):
            records, place = list(run), TopicPartition(topic, partition)
            end = self._ends[place]
            if records[-1].offset + 1 >= end:
                self._missing.discard(place)
                records = [record for record in records if record.offset < end]
            kept += records
        return kept
