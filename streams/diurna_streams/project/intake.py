"""Between the stream and the tables: records gather while a transaction runs, and the next one takes them all."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from diurna_projections.records import LogRecord

INTAKE_RECORDS_MAX: Final = 2_000


class Intake:
    """A bounded queue whose reader takes whatever is there: batches are as large as the last one was slow."""

    def __init__(self, *, records_max: int = INTAKE_RECORDS_MAX) -> None:
        self._records: deque[LogRecord] = deque()
        self._records_max = records_max
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def put(self, record: LogRecord) -> None:
        """Adds a record; waits while the intake is full."""
        while len(self._records) >= self._records_max:
            self._has_room.clear()
            await self._has_room.wait()
        self._records.append(record)
        self._filled.set()

    async def take(self, records_max: int) -> list[LogRecord]:
        """Waits for a record and takes all that are there, at most `records_max`."""
        await self._filled.wait()
        count = min(records_max, len(self._records))
        taken = [self._records.popleft() for _ in range(count)]
        if not self._records:
            self._filled.clear()
        self._has_room.set()
        return taken

    def __len__(self) -> int:
        return len(self._records)
