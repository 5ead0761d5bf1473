"""The reads about locks: held ones, queues, the history, statistics."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from diurna_projections.api.answers import document_answer, page_answer
from diurna_projections.api.hot import READ_PARAMETERS
from diurna_projections.folds.locks import STATUSES
from diurna_projections.paging import LIMIT, LIMIT_MAX
from diurna_projections.queries import Queries
from diurna_schemas.ids import ID_PATTERN
from diurna_schemas.shapes import LockInfo, LockRecord, LockStatistics, LockStatus, LockWaiter

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="At most so many.")]
Cursor = Annotated[str | None, Query(max_length=2_000, description="From the Link header of the page before.")]
Word = Annotated[str | None, Query(pattern=ID_PATTERN)]
assert LockStatus.__args__ == STATUSES  # type: ignore[attr-defined]

_EXTRA: Final[dict[str, Any]] = {"parameters": READ_PARAMETERS}


def add_locks(router: APIRouter, queries: Queries) -> None:
    """Adds the routes. Those with fixed names come first: a lock's id would take them."""

    @router.get("/locks", tags=["locks"], responses={200: {"model": list[LockInfo]}}, openapi_extra=_EXTRA)
    async def list_locks(
        request: Request, resource_id: Word = None, agent_id: Word = None, limit: Limit = LIMIT, cursor: Cursor = None
    ) -> Response:
        """The locks that are held now, in order of their resources; a lease whose time has passed is not."""
        filters = {"resource_id": resource_id, "agent_id": agent_id}
        return page_answer(request, await queries.locks.page("held", filters, limit=limit, cursor=cursor))

    @router.get("/locks/queue", tags=["locks"], responses={200: {"model": list[LockWaiter]}}, openapi_extra=_EXTRA)
    async def list_waiters(
        request: Request, resource_id: Word = None, agent_id: Word = None, limit: Limit = LIMIT, cursor: Cursor = None
    ) -> Response:
        """Who waits, resource by resource, the next one first."""
        filters = {"resource_id": resource_id, "agent_id": agent_id}
        return page_answer(request, await queries.locks.page("queue", filters, limit=limit, cursor=cursor))

    @router.get("/locks/history", tags=["locks"], responses={200: {"model": list[LockRecord]}}, openapi_extra=_EXTRA)
    async def list_history(  # noqa: PLR0917 - FastAPI passes them by name
        request: Request,
        resource_id: Word = None,
        agent_id: Word = None,
        lock_id: Word = None,
        status: LockStatus | None = None,
        limit: Limit = LIMIT,
        cursor: Cursor = None,
    ) -> Response:
        """Every wish for a lock and how it ended, the newest first."""
        filters = {"resource_id": resource_id, "agent_id": agent_id, "lock_id": lock_id, "status": status}
        return page_answer(request, await queries.locks.page("history", filters, limit=limit, cursor=cursor))

    @router.get(
        "/locks/statistics", tags=["locks"], responses={200: {"model": list[LockStatistics]}}, openapi_extra=_EXTRA
    )
    async def list_statistics(
        request: Request, resource_id: Word = None, limit: Limit = LIMIT, cursor: Cursor = None
    ) -> Response:
        """How each resource is fought for, counted since the log began, in order of their ids."""
        filters = {"resource_id": resource_id}
        return page_answer(request, await queries.locks.page("statistics", filters, limit=limit, cursor=cursor))

    @router.get("/locks/{lock_id}", tags=["locks"], responses={200: {"model": LockRecord}}, openapi_extra=_EXTRA)
    async def show_lock(lock_id: str) -> Response:
        """One wish for a lock, and where it stands: queued, held, or how it ended."""
        return document_answer(*await queries.locks.lock(lock_id))
