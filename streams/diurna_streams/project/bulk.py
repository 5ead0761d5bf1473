"""Catches up when far behind: long stretches of the log, each one transaction, whose events are copied while they come.

Reading, decoding and folding go on here while Postgres takes in what was handed over before.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import Final

import structlog

from diurna_projections.errors import OutOfStep
from diurna_projections.records import Reading
from diurna_projections.store import Applied
from diurna_schemas.errors import Refused, Unavailable
from diurna_streams.log.port import Log, Reader, TopicPartition
from diurna_streams.project import metrics
from diurna_streams.project.places import Places, places_of
from diurna_streams.project.writer import Writer

logger = structlog.get_logger(__name__)

STRETCH_RECORDS_MAX: Final = 200_000
STRETCH_BYTES_MAX: Final = 128 * 1024 * 1024
"""So much of the log is one transaction; what it changed stands in memory until it ends."""
HAND_OVER_LAG_RECORDS: Final = 500
"""So close to the end the live stream takes over."""
_PATIENCE_MS: Final = 50
_READ_RECORDS_MAX: Final = 1_000
_CAREFUL_RECORDS_MAX: Final = 500
_IDLE_READS_MAX: Final = 50
_RETRY_SECONDS: Final = 0.5


async def catch_up(
    log: Log,
    writer: Writer,
    partitions: list[TopicPartition],
    *,
    hand_over_lag_records: int = HAND_OVER_LAG_RECORDS,
) -> int:
    """Projects until the end is so near, and returns how many records it projected.

    Raises `OutOfStep` where the log or another projector moved the positions backwards.
    """
    count = 0
    is_careful = False
    places = await places_of(log, writer.store, partitions)
    await writer.store.leave_search(places.lag)
    while places.lag > hand_over_lag_records:
        metrics.BULK_RUNS.inc()
        logger.info("catching up in bulk", lag_records=places.lag)
        reader = await log.reader(patience_ms=_PATIENCE_MS)
        try:
            with _uncollected():
                count += await (_carefully if is_careful else _quickly)(reader, writer, places)
            is_careful = False
        except OutOfStep:
            raise
        except Refused as error:
            logger.warning("a stretch of the log is projected record by record", error=str(error))
            is_careful = True
        except Unavailable as error:
            logger.warning("catching up again from where the tables stand", error=str(error))
            await asyncio.sleep(_RETRY_SECONDS)
        finally:
            await reader.close()
        places = await places_of(log, writer.store, partitions)
    await writer.store.index_search()
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


async def _quickly(reader: Reader, writer: Writer, places: Places) -> int:
    """Stretch by stretch to where the log ended when it was asked."""
    reading = _Reading(reader, writer, places)
    await reading.start()
    count = 0
    while reading.goes_on:
        count += _projected(await writer.load(reading.places, reading.stretch()))
    return count


async def _carefully(reader: Reader, writer: Writer, places: Places) -> int:
    """One stretch in small batches: what Postgres refuses is found, and becomes a dead letter."""
    reading = _Reading(reader, writer, places)
    await reading.start()
    count = 0
    async for readings in reading.stretch(records_max=_CAREFUL_RECORDS_MAX):
        count += _projected(await writer.write([one.record for one in readings], readings))
    return count


def _projected(applied: Applied) -> int:
    return applied.accepted + applied.duplicates + applied.aliens + applied.dead_letters


class _Reading:
    """From where the tables stand to where the log ended when it was asked."""

    def __init__(self, reader: Reader, writer: Writer, places: Places) -> None:
        self._reader = reader
        self._writer = writer
        self._ends = places.ends
        self._behind = {place: offset for place, offset in places.next.items() if places.lag_of(place)}
        self._missing = set(self._behind)
        self._idle = 0

    @property
    def goes_on(self) -> bool:
        """Whether there is more, as far as anybody can tell: a compacted topic may end before its end."""
        return bool(self._missing) and self._idle < _IDLE_READS_MAX

    @property
    def places(self) -> list[TopicPartition]:
        """The partitions that are read."""
        return list(self._behind)

    async def start(self) -> None:
        await self._reader.start_at(self._behind)

    async def stretch(self, *, records_max: int = _READ_RECORDS_MAX) -> AsyncGenerator[list[Reading]]:
        """The next records of one transaction, decoded, so many at a time."""
        count = size = 0
        while self.goes_on and count < STRETCH_RECORDS_MAX and size < STRETCH_BYTES_MAX:
            records = await self._reader.read(records_max=records_max, wait_ms=100)
            self._idle = 0 if records else self._idle + 1
            if not records:
                continue
            count += len(records)
            size += sum([len(record.value or b"") for record in records])
            for place in {TopicPartition(record.topic, record.partition) for record in records}:
                following = max(record.offset for record in records if record[:2] == place) + 1
                if following >= self._ends[place]:
                    self._missing.discard(place)
            yield await self._writer.understand(records)
