"""Reads of the past: what `as_of` may be, and the tables as they were for clients that stand beside the database."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from diurna_projections.moment import Moment, parse
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import iso
from diurna_schemas.errors import InvalidInput, Unavailable

if TYPE_CHECKING:  # asyncpg is loaded only where tables are read
    from diurna_projections.past import Pasts
    from diurna_projections.queries import Queries

AsOf = datetime | str | None
"""A time, or the text of a time or of a position. None is now."""


def as_of_text(as_of: AsOf) -> str | None:
    """A moment as the API takes it.

    A text that names no zone is UTC, as over HTTP. A datetime without one is refused: Python takes it for local time,
    and whoever forgot the zone is not to be answered about another hour. Raises `InvalidInput` naming `as_of`.
    """
    match as_of:
        case None:
            return None
        case datetime():
            if as_of.utcoffset() is None:
                raise InvalidInput("as_of", as_of.isoformat(), "a datetime with a zone is expected")
            found = parse(as_of.isoformat())
        case str():
            found = parse(as_of)
        case _:
            raise InvalidInput("as_of", as_of, "a datetime, or the text of a time or a position is expected")
    return iso(found.at_ms) if isinstance(found, Moment) else str(found)


class PastTables:
    """The queries of now and, once somebody asks for them, those of past moments."""

    def __init__(self, now: Queries, url: str, codec: Codec, clock_ms: Callable[[], int]) -> None:
        self.now = now
        self._url = url
        self._codec = codec
        self._clock_ms = clock_ms
        self._pasts: Pasts | None = None

    @asynccontextmanager
    async def at(self, as_of: str | None, topic: str, partition: int | None = None) -> AsyncGenerator[Queries]:
        """The queries at a moment, over what the events of a topic make, or of one of its partitions.

        Raises `NotFound` for the position of no event, `Unavailable` where the connection to the past is lost.
        """
        if as_of is None:
            yield self.now
            return
        from diurna_projections.past import Pasts
        from diurna_projections.store.past import Scope

        if self._pasts is None:
            self._pasts = Pasts(self.now, self._url, self._codec)
        pasts, scope = self._pasts, Scope((topic,), partition)
        moment = await pasts.moment(as_of, clock_ms=self._clock_ms)
        try:
            async with pasts.at(moment, scope) as queries:
                yield queries
        except Unavailable:
            pasts.forget(moment, scope)  # its connection was lost, and its tables with it
            raise

    async def close(self) -> None:
        """Closes all connections."""
        if self._pasts is not None:
            await self._pasts.close()
        await self.now.close()
