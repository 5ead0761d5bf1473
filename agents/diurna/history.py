"""Looks back into a partition of events: what a command became when it was decided the first time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from diurna.seen import Seen
from diurna_schemas.chain import Acceptor, Verdict
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import link_of
from diurna_schemas.errors import BrokenChain
from diurna_streams.log import Log, Reader, Record, TopicPartition

_LOOK_BACK_RECORDS = 50
RECENT_RECORDS = 2_000
"""So many are read at once before anything is searched for: each further look costs half a second on Kafka."""
_READ_WAIT_MS = 500


class History:
    """The events of one partition, as they were decided. Command offsets grow with the events, so it can be searched.

    A few records of zombies may stand out of order; the search therefore lands a little early, and what follows is
    judged by the chain. What is looked for is recent nearly always: somebody was interrupted and says it again.
    """

    def __init__(self, log: Log, codec: Codec, place: TopicPartition) -> None:
        self._log = log
        self._codec = codec
        self._place = place

    async def find(self, command_offset: int, is_wanted: Callable[[Seen], bool]) -> Seen | None:
        """The first event from a command's offset on that is wanted, up to the present end; none where there is none.

        A look at the whole log: the caller bounds it in time.
        """
        first, end = await self._bounds()
        reader = await self._log.reader()
        try:
            recent = max(first, end - RECENT_RECORDS)
            records = await self._from(reader, recent, end)
            if recent > first and _command_offset(records[0]) >= command_offset:
                start = await self._search(reader, command_offset, first, recent)
                records = await self._from(reader, start, end)
            acceptor = Acceptor(None)
            while records:
                for record in records:
                    if acceptor.accept(record.offset, record.headers) is not Verdict.ACCEPTED:
                        continue
                    if link_of(record.headers).command_offset >= command_offset:
                        seen = Seen(record, self._codec)
                        if is_wanted(seen):
                            return seen
                records = await self._read(reader, records[-1].offset + 1, end)
            return None
        finally:
            await reader.close()

    async def command_offset_at(self, at_ms: int) -> int:
        """The command offset of the first event at or after a time; that of the end where there is none."""
        offset = (await self._log.offsets_at([self._place], at_ms))[self._place]
        end = (await self._log.ends([self._place]))[self._place]
        if offset >= end:
            return 0 if end == 0 else 2**62
        reader = await self._log.reader()
        try:
            return _command_offset(await self._one(reader, offset))
        finally:
            await reader.close()

    async def _bounds(self) -> tuple[int, int]:
        first = (await self._log.starts([self._place]))[self._place]
        return first, (await self._log.ends([self._place]))[self._place]

    async def _search(self, reader: Reader, command_offset: int, low: int, high: int) -> int:
        first = low
        while low < high:
            middle = (low + high) // 2
            record = await self._one(reader, middle)
            if _command_offset(record) < command_offset:
                low = middle + 1
            else:
                high = middle
        return max(first, low - _LOOK_BACK_RECORDS)

    async def _from(self, reader: Reader, start: int, end: int) -> list[Record]:
        """The first records from an offset on; none where the log ends there."""
        await reader.start_at({self._place: start})
        return await self._read(reader, start, end)

    async def _read(self, reader: Reader, start: int, end: int) -> list[Record]:
        """The next records, the first of which is at `start` or after a gap; none where the log ends there."""
        records: list[Record] = []
        while start < end and not records:
            records = await reader.read(wait_ms=_READ_WAIT_MS)
        return records

    async def _one(self, reader: Reader, offset: int) -> Record:
        await reader.start_at({self._place: offset})
        while True:
            for record in await reader.read(records_max=1, wait_ms=_READ_WAIT_MS):
                if record.offset >= offset:
                    return record
            await asyncio.sleep(0)


def _command_offset(record: Record) -> int:
    try:
        return link_of(record.headers).command_offset
    except BrokenChain:
        return -1
