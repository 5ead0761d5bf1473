"""Waits until the tables have passed positions of the log: one look at the positions for all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from diurna_projections.records import PROJECTED
from diurna_schemas.errors import InvalidInput, TimedOut, Unavailable
from diurna_schemas.ids import Position
from diurna_schemas.topics import TOPICS

WAITERS_MAX: Final = 1_000
POSITIONS_MAX: Final = 100
_LOOK_SECONDS: Final = 0.003
_LOOK_SECONDS_MAX: Final = 0.05

Next = Callable[[], Awaitable[Mapping[tuple[str, int], int]]]


class Waiting:
    """Looks while somebody waits: quickly at first, more slowly while nothing moves."""

    def __init__(self, positions: Next) -> None:
        self._positions = positions
        self._waiters: dict[asyncio.Future[None], list[Position]] = {}
        self._task: asyncio.Task[None] | None = None

    async def wait(self, positions: list[Position], *, seconds: float) -> None:
        """Waits until every record is in the tables.

        Raises `TimedOut` after `seconds`, `InvalidInput` for a place that is not projected, `Unavailable` where too
        many wait already or the positions cannot be read.
        """
        for position in positions:
            if position.topic not in PROJECTED:
                raise InvalidInput("min_position", str(position), "its topic is not projected")
            if position.partition >= (partitions := TOPICS[position.topic].partitions):
                raise InvalidInput("min_position", str(position), f"its topic has {partitions} partitions")
        if len(positions) > POSITIONS_MAX:
            raise InvalidInput("min_position", len(positions), f"at most {POSITIONS_MAX} positions are allowed")
        if not positions:
            return
        if len(self._waiters) >= WAITERS_MAX:
            raise Unavailable(f"{WAITERS_MAX} reads are waiting for the projection already")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = positions
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError as error:
            where = ", ".join(str(position) for position in positions[:3])
            raise TimedOut(f"the projection to pass {where}", seconds) from error
        finally:
            self._waiters.pop(waiter, None)

    async def close(self) -> None:
        """Nobody looks any longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        pause = _LOOK_SECONDS
        before: Mapping[tuple[str, int], int] = {}
        while self._waiters:
            try:
                found = await self._positions()
            except Unavailable as error:
                for waiter in self._waiters:
                    if not waiter.done():
                        waiter.set_exception(error)
                return
            for waiter, positions in self._waiters.items():
                is_there = all(found.get((wanted.topic, wanted.partition), 0) > wanted.offset for wanted in positions)
                if is_there and not waiter.done():
                    waiter.set_result(None)
            pause = _LOOK_SECONDS if found != before else min(pause * 1.3, _LOOK_SECONDS_MAX)
            before = found
            await asyncio.sleep(pause)
