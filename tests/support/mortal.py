"""A log whose client dies while it appends: before its record is written, or after, without ever knowing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn, cast

from diurna_schemas.errors import Refused
from diurna_streams.log import Log, Outgoing, Producer


class Mortality:
    """When a process dies: at which of its appends, and whether that record is still written."""

    def __init__(self, *, at_append: int | None = None, is_written: bool = False) -> None:
        self.appends = 0
        self.died = asyncio.Event()
        self._buried = asyncio.Event()
        self._at_append = at_append
        self._is_written = is_written

    async def before(self) -> None:
        """Dies here, or counts the append."""
        if not self.died.is_set():
            self.appends += 1
            if self.appends != self._at_append:
                return
            if self._is_written:
                return
        await self._die()

    async def after(self) -> None:
        if self.died.is_set() or (self.appends == self._at_append and self._is_written):
            await self._die()

    def bury(self) -> None:
        """Lets what still waits for an answer end."""
        self._buried.set()

    async def _die(self) -> NoReturn:
        """The dead say nothing more, and nobody answers them."""
        self.died.set()
        await self._buried.wait()
        raise Refused("this process is dead")


def mortal(log: Log, mortality: Mortality) -> Log:
    """The same log, for a process that may die."""
    return cast("Log", _MortalLog(log, mortality))


class _MortalLog:
    def __init__(self, log: Log, mortality: Mortality) -> None:
        self._log = log
        self._mortality = mortality

    async def producer(self) -> Producer:
        return _MortalProducer(await self._log.producer(), self._mortality)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class _MortalProducer:
    def __init__(self, producer: Producer, mortality: Mortality) -> None:
        self._producer = producer
        self._mortality = mortality

    async def send(self, topic: str, partition: int, record: Outgoing) -> int:
        await self._mortality.before()
        offset = await self._producer.send(topic, partition, record)
        await self._mortality.after()
        return offset

    async def send_batch(self, topic: str, partition: int, records: Sequence[Outgoing]) -> int:
        await self._mortality.before()
        offset = await self._producer.send_batch(topic, partition, records)
        await self._mortality.after()
        return offset

    async def close(self) -> None:
        await self._producer.close()
