"""Reads of the past: the same queries on tables as they were, kept for a while because nobody asks only once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from diurna_projections.moment import Moment, parse
from diurna_projections.queries import Queries
from diurna_projections.store.past import PastDatabase, Scope, time_of
from diurna_schemas.codec import Codec
from diurna_schemas.errors import DiurnaError, InvalidInput, TimedOut
from diurna_schemas.ids import Position

PASTS_MAX: Final = 8
"""So many are kept, each with a connection and tables of its own."""
LOOK_SECONDS_MAX: Final = 2.0
"""What was written a moment ago is not in the tables yet; so long a position that is unknown is waited for."""


class PastQueries(Queries):
    """The queries at a moment. What a position waits for has happened, or never will."""

    async def wait(self, positions: list[Position], *, seconds: float) -> None:
        """Returns at once."""


@dataclass(eq=False, slots=True)
class _Past:
    """A past that is opened, or being opened, and how many read from it now."""

    queries: asyncio.Task[PastQueries]
    users: int = 0


class Pasts:
    """The pasts somebody asked for lately."""

    def __init__(self, now: Queries, url: str, codec: Codec) -> None:
        self.now = now
        self._url = url
        self._codec = codec
        self._kept: OrderedDict[tuple[Moment, Scope], _Past] = OrderedDict()
        self._left = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()

    async def moment(self, text: str, *, clock_ms: Callable[[], int]) -> Moment:
        """The moment a text names, at the latest now. Raises `InvalidInput`, or `NotFound` for an unknown position."""
        found = parse(text)
        if isinstance(found, Position):
            with suppress(InvalidInput, TimedOut):  # who has just been given it is told of it all the same
                await self.now.wait([found], seconds=LOOK_SECONDS_MAX)
            return await time_of(self.now.database, found)
        return Moment(min(found.at_ms, clock_ms()))

    @asynccontextmanager
    async def at(self, moment: Moment, scope: Scope) -> AsyncGenerator[PastQueries]:
        """The queries at a moment, while the block lasts, folded anew where it was not over when it was folded.

        Where all that are kept are in use, it waits for one to be left.
        """
        key = (moment, scope)
        known = self._kept.get(key)
        if known is not None and not await self._is_whole(known.queries) and self._kept.get(key) is known:
            self.forget(moment, scope)  # nobody else has noticed meanwhile
        while (past := self._kept.get(key)) is None and not self._has_room():
            await self._left.wait()
        if past is None:
            past = self._kept[key] = _Past(asyncio.create_task(self._open(moment, scope)))
        self._kept.move_to_end(key)
        past.users += 1
        try:
            yield await asyncio.shield(past.queries)
        except DiurnaError:
            if _has_failed(past.queries) and self._kept.get(key) is past:
                del self._kept[key]
            raise
        finally:
            past.users -= 1
            if past.users == 0 and self._kept.get(key) is not past:
                self._later(past.queries)
            self._left.set()
            self._left = asyncio.Event()

    def _has_room(self) -> bool:
        """Gives up the one that was asked for longest ago, where there are as many as there may be."""
        if len(self._kept) < PASTS_MAX:
            return True
        unused = next((key for key, past in self._kept.items() if past.users == 0), None)
        if unused is None:
            return False
        self._later(self._kept.pop(unused).queries)
        return True

    def forget(self, moment: Moment, scope: Scope) -> None:
        """Gives a past up: its connection was lost, or it is not whole. Whoever reads from it still, is the last to."""
        if (past := self._kept.pop((moment, scope), None)) is not None and past.users == 0:
            self._later(past.queries)

    async def close(self) -> None:
        """Closes all connections."""
        for past in self._kept.values():
            self._later(past.queries)
        self._kept.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _is_whole(self, task: asyncio.Task[PastQueries]) -> bool:
        if not task.done() or task.cancelled() or task.exception() is not None:
            return True  # whoever waits for it is told
        database = task.result().database
        return not isinstance(database, PastDatabase) or await database.is_whole(self.now.database)

    async def _open(self, moment: Moment, scope: Scope) -> PastQueries:
        database = await PastDatabase.open(
            self._url, schema=self.now.database.schema, moment=moment, scope=scope, codec=self._codec
        )
        return PastQueries(database, self._codec, clock_ms=lambda: moment.at_ms)

    def _later(self, opened: asyncio.Task[PastQueries]) -> None:
        task = asyncio.create_task(_close(opened))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _has_failed(task: asyncio.Task[PastQueries]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def _close(opened: asyncio.Task[PastQueries]) -> None:
    try:
        queries = await opened
    except DiurnaError:
        return
    await queries.close()
