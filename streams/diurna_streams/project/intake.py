"""Between the stream and the tables: records gather while a transaction runs, and the next one takes them all."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from diurna_projections.records import LogRecord

INTAKE_RECORDS_MAX: Final = 2_000


class Intake:
    """A bounded queue whose reader takes whatever is there: batches are as large as the last one was slow."""

    def __init__(self, *, records_max: int = INTAKE_RECORDS_MAX) -> None:
        self._records: deque[LogRecord] = deque()
        self._records_max = records_max
        self._wanted = 1
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def put(self, record: LogRecord) -> None:
        """Adds a record; waits while the intake is full."""
        while len(self._records) >= self._records_max:
            self._has_room.clear()
            await self._has_room.wait()
        self._records.append(record)
        if len(self._records) >= self._wanted:
            self._filled.set()

    async def first(self) -> LogRecord:
        """Waits for a record and shows it."""
        await self._until(1)
        return self._records[0]

    def take(self, records_max: int) -> list[LogRecord]:
        """Takes all that are there, at most `records_max`."""
        taken = [self._records.popleft() for _ in range(min(records_max, len(self._records)))]
        self._has_room.set()
        return taken

    async def gather(self, records: int, within_seconds: float) -> None:
        """Waits until so many are there, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._until(min(records, self._records_max))

    async def _until(self, wanted: int) -> None:
        self._wanted = wanted
        if len(self._records) < wanted:
            self._filled.clear()
            await self._filled.wait()

    def __len__(self) -> int:
        return len(self._records)
