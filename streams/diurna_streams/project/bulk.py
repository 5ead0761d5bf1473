"""Catches up when far behind: large reads, large transactions, the next chunk decoded while one is written."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import structlog

from diurna_streams.log.port import Log, Reader, Record, TopicPartition
from diurna_streams.project import metrics
from diurna_streams.project.places import Places, places_of
from diurna_streams.project.writer import Writer

logger = structlog.get_logger(__name__)

CHUNK_RECORDS_MAX: Final = 20_000
CHUNK_BYTES_MAX: Final = 32 * 1024 * 1024
HAND_OVER_LAG_RECORDS: Final = 500
"""So close to the end the live stream takes over."""
_READ_RECORDS_MAX: Final = 5_000
_IDLE_READS_MAX: Final = 50


async def catch_up(
    log: Log,
    writer: Writer,
    partitions: list[TopicPartition],
    *,
    hand_over_lag_records: int = HAND_OVER_LAG_RECORDS,
) -> int:
    """Projects until the end is so near, and returns how many records it read.

    Raises `OutOfStep` where the log or another projector moved the positions backwards.
    """
    count = 0
    places = await places_of(log, writer.store, partitions)
    while places.lag > hand_over_lag_records:
        metrics.BULK_RUNS.inc()
        logger.info("catching up in bulk", lag_records=places.lag)
        reader = await log.reader()
        try:
            with _uncollected():
                count += await _read_to(reader, writer, places)
        finally:
            await reader.close()
        places = await places_of(log, writer.store, partitions)
    return count


@contextmanager
def _uncollected() -> Generator[None]:
    """Leaves the search for cycles out: there are none in records and rows, and each search walks a whole chunk."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


async def _read_to(reader: Reader, writer: Writer, places: Places) -> int:
    """Reads from where the tables stand to where the log ended when it was asked."""
    behind = {place: offset for place, offset in places.next.items() if places.lag_of(place)}
    missing = set(behind)
    count = idle = 0
    writing: asyncio.Task[object] | None = None
    await reader.start_at(behind)
    try:
        while missing and idle < _IDLE_READS_MAX:
            chunk = await _chunk(reader)
            idle = 0 if chunk else idle + 1
            for record in chunk:
                place = TopicPartition(record.topic, record.partition)
                if record.offset + 1 >= places.ends[place]:
                    missing.discard(place)
            count += len(chunk)
            readings = await writer.understand(chunk)  # while Postgres still works on the chunk before
            if writing is not None:
                await writing
                writing = None
            if chunk:
                writing = asyncio.create_task(writer.write(chunk, readings))
                await asyncio.sleep(0)
        return count
    finally:
        if writing is not None:
            await writing


async def _chunk(reader: Reader) -> list[Record]:
    """What can be read at once, bounded in records and bytes."""
    chunk: list[Record] = []
    size = 0
    while len(chunk) < CHUNK_RECORDS_MAX and size < CHUNK_BYTES_MAX:
        records = await reader.read(records_max=_READ_RECORDS_MAX, wait_ms=100)
        if not records:
            break
        chunk += records
        size += sum(len(record.value or b"") for record in records)
    return chunk
