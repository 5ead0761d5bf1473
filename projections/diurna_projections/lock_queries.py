"""What is asked about locks. A lease or a wait whose time has passed counts as over, though the log has not said so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Protocol

from diurna_projections import lock_documents, paging
from diurna_projections.documents import Document
from diurna_projections.found import Page
from diurna_projections.paging import LIMIT, Listing
from diurna_schemas.errors import NotFound
from diurna_schemas.ids import checked_id

What = Literal["held", "queue", "history", "statistics"]


class ReadsPages(Protocol):
    """The queries, as far as these lists need them."""

    async def __call__(
        self,
        listing: Listing,
        filters: Mapping[str, object],
        document: Callable[[Mapping[str, Any]], Document],
        *,
        limit: int,
        cursor: str | None = None,
    ) -> Page: ...


_LISTINGS: Final[dict[What, tuple[Listing, lock_documents.AsDocument]]] = {
    "held": (paging.LOCKS, lock_documents.lock_document),
    "queue": (paging.LOCK_QUEUE, lock_documents.waiter_document),
    "history": (paging.LOCK_HISTORY, lock_documents.history_document),
    "statistics": (paging.LOCK_STATISTICS, lock_documents.statistics_document),
}


class LockQueries:
    """Reads about locks."""

    def __init__(self, page: ReadsPages, clock_ms: Callable[[], int]) -> None:
        self._page = page
        self._clock_ms = clock_ms

    async def page(
        self, what: What, filters: Mapping[str, str | None], *, limit: int = LIMIT, cursor: str | None = None
    ) -> Page:
        """Locks that are held, who waits, the history (the newest first), or the statistics.

        Filters: resource_id; but for the statistics agent_id; of the history also lock_id and status.
        """
        listing, document = _LISTINGS[what]
        now_ms = self._clock_ms()
        known: dict[str, object] = {name: value for name, value in filters.items() if name in listing.filters}
        if "after_ms" in listing.filters:
            known["after_ms"] = now_ms
        match known.get("status"):
            case "held":
                known |= {"status": None, "held_after_ms": now_ms}
            case "expired":
                known |= {"status": None, "over_by_ms": now_ms}
            case _:
                pass
        return await self._page(listing, known, lambda row: document(row, now_ms), limit=limit, cursor=cursor)

    async def lock(self, lock_id: str) -> tuple[Document, str]:
        """One wish for a lock and what became of it, and the positions that is true at. Raises `NotFound`."""
        page = await self.page("history", {"lock_id": checked_id("lock_id", lock_id)}, limit=1)
        if not page.documents:
            raise NotFound("lock", lock_id)
        return page.documents[0], page.positions
