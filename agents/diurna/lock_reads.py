"""Where the manager of locks reads: the API, or the tables themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self

import orjson

from diurna.api_client import ApiClient
from diurna_schemas.codec import Codec
from diurna_schemas.ids import Position

if TYPE_CHECKING:
    from diurna_projections.queries import Queries

What = Literal["held", "queue", "history", "statistics"]
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
        self, what: What, filters: Mapping[str, str | None], *, limit: int, after: Sequence[Position]
    ) -> list[dict[str, Any]]:
        """The documents of a list, once the tables hold the records at `after`. Raises `Unavailable`."""
        ...

    async def close(self) -> None: ...


class ApiReads:
    """Asks the API."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def read(
        self, what: What, filters: Mapping[str, str | None], *, limit: int, after: Sequence[Position]
    ) -> list[dict[str, Any]]:
        positions = ",".join(str(position) for position in after) or None
        found: list[dict[str, Any]] = await self._api.read(
            _PATHS[what], {**filters, "limit": limit, "min_position": positions}
        )
        return found

    async def close(self) -> None:
        await self._api.close()


class TableReads:
    """Asks the database the log is projected to."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    @classmethod
    async def connect(cls, url: str, codec: Codec) -> Self:
        """Raises `Unavailable` where nobody answers there."""
        from diurna_projections.queries import Queries  # Postgres is spoken only where somebody wants it

        return cls(await Queries.connect(url, codec, connections_max=2))

    async def read(
        self, what: What, filters: Mapping[str, str | None], *, limit: int, after: Sequence[Position]
    ) -> list[dict[str, Any]]:
        await self._queries.wait(list(after), seconds=_WAIT_SECONDS)
        page = await self._queries.locks.page(what, filters, limit=limit)
        found: list[dict[str, Any]] = orjson.loads(page.found.body)
        return found

    async def close(self) -> None:
        await self._queries.close()
