"""Where the manager of locks reads: the API, or the tables themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, Self

import orjson

from diurna.api_client import ApiClient
from diurna.past_reads import PastTables
from diurna_schemas.codec import Codec
from diurna_schemas.ids import Position
from diurna_schemas.topics import LOCKS

What = Literal["held", "queue", "history", "statistics"]
Filters = Mapping[str, str | None]
_PATHS: Final[dict[What, str]] = {
    "held": "/locks",
    "queue": "/locks/queue",
    "history": "/locks/history",
    "statistics": "/locks/statistics",
}
_WAIT_SECONDS: Final = 10.0


class LockReads(Protocol):
    """The projection, as far as locks need it."""

    async def read(
        self, what: What, filters: Filters, *, limit: int, after: Sequence[Position], as_of: str | None
    ) -> list[dict[str, Any]]:
        """The documents of a list, once the tables hold the records at `after`; of now, or as they were `as_of`.

        Raises `Unavailable`, and `NotFound` for the position of no event.
        """
        ...

    async def close(self) -> None: ...


class ApiReads:
    """Asks the API."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def read(
        self, what: What, filters: Filters, *, limit: int, after: Sequence[Position], as_of: str | None
    ) -> list[dict[str, Any]]:
        positions = ",".join(str(position) for position in after) or None
        found: list[dict[str, Any]] = await self._api.read(
            _PATHS[what], {**filters, "limit": limit, "min_position": positions, "as_of": as_of}
        )
        return found

    async def close(self) -> None:
        await self._api.close()


class TableReads:
    """Asks the database the log is projected to."""

    def __init__(self, tables: PastTables) -> None:
        self._tables = tables

    @classmethod
    async def connect(cls, url: str, codec: Codec, clock_ms: Callable[[], int]) -> Self:
        """Raises `Unavailable` where nobody answers there."""
        from diurna_projections.queries import Queries  # Postgres is spoken only where somebody wants it

        return cls(PastTables(await Queries.connect(url, codec, connections_max=2), url, codec, clock_ms))

    async def read(
        self, what: What, filters: Filters, *, limit: int, after: Sequence[Position], as_of: str | None
    ) -> list[dict[str, Any]]:
        await self._tables.now.wait(list(after), seconds=_WAIT_SECONDS)
        async with self._tables.at(as_of, LOCKS.events) as queries:
            page = await queries.locks.page(what, filters, limit=limit)
        found: list[dict[str, Any]] = orjson.loads(page.found.body)
        return found

    async def close(self) -> None:
        await self._tables.close()
