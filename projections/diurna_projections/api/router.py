"""The read routes: registry, requests, workflows, the log, and how the tables stand to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from diurna_projections.api.answers import document_answer, page_answer, wait_for_positions
from diurna_projections.api.hot import READ_PARAMETERS, add_hot_routes
from diurna_projections.api.locks import add_locks
from diurna_projections.api.operations import add_operations
from diurna_projections.api.workflows import EndedBefore, VersionOf, add_workflow_parts, tagged
from diurna_projections.folds.requests import STATUSES as REQUEST_STATUSES
from diurna_projections.paging import LIMIT, LIMIT_MAX
from diurna_projections.queries import Ends, Queries
from diurna_projections.raw_path import RawPathRoute
from diurna_projections.workflow_queries import WorkflowQueries
from diurna_schemas.errors import NotFound
from diurna_schemas.ids import ID_PATTERN, Position, checked_id
from diurna_schemas.shapes import CapabilityMatch

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="At most so many.")]
Cursor = Annotated[str | None, Query(max_length=2_000, description="From the Link header of the page before.")]
Word = Annotated[str | None, Query(pattern=ID_PATTERN)]
RequestStatus = Literal["queued", "dispatched", "completed", "rejected", "timed_out", "cancelled", "dead_lettered"]
WorkflowStatus = Literal["running", "paused", "completed", "failed", "cancelled"]
ApprovalStatus = Literal["pending", "approved", "rejected", "expired", "closed"]
assert RequestStatus.__args__ == REQUEST_STATUSES  # type: ignore[attr-defined]

_EXTRA: dict[str, Any] = {"parameters": READ_PARAMETERS}


def read_router(queries: Queries, *, ends: Ends | None = None) -> APIRouter:
    """All read routes. With `ends`, which asks the log where it ends, the lag is told too.

    The app that includes it must `install_problems`.
    """
    router = APIRouter(route_class=RawPathRoute)
    add_hot_routes(router, queries)
    add_operations(router, queries, ends)

    async def waited(request: Request) -> None:
        await wait_for_positions(request, queries)

    reads = APIRouter(dependencies=[Depends(waited)], route_class=RawPathRoute)
    _add_capabilities(reads, queries)
    _add_requests(reads, queries)
    _add_workflows(reads, queries)
    add_workflow_parts(reads, queries)
    add_locks(reads, queries)
    _add_events(reads, queries)
    router.include_router(reads)
    return router


def _add_capabilities(router: APIRouter, queries: Queries) -> None:
    @router.get(
        "/capabilities/search",
        tags=["registry"],
        responses={200: {"model": list[CapabilityMatch]}},
        openapi_extra=_EXTRA,
    )
    async def search_capabilities(
        request: Request,
        q: Annotated[str, Query(max_length=500, description="Words to be found in name, description or tags.")] = "",
        limit: Limit = LIMIT,
        cursor: Cursor = None,
    ) -> Response:
        """What live agents can do."""
        return page_answer(request, await queries.search_capabilities(q, limit=limit, cursor=cursor))


def _add_requests(router: APIRouter, queries: Queries) -> None:
    @router.get("/requests", tags=["requests"], openapi_extra=_EXTRA)
    async def list_requests(  # noqa: PLR0917 - FastAPI passes them by name
        request: Request,
        status: RequestStatus | None = None,
        source_agent: Word = None,
        target_agent: Word = None,
        correlation_id: Word = None,
        command_id: Word = None,
        limit: Limit = LIMIT,
        cursor: Cursor = None,
    ) -> Response:
        """Requests, the newest first."""
        filters: Mapping[str, str | None] = {
            "status": status,
            "source_agent": source_agent,
            "target_agent": target_agent,
            "correlation_id": correlation_id,
            "command_id": command_id,
        }
        return page_answer(request, await queries.requests(filters, limit=limit, cursor=cursor))

    @router.get("/requests/{request_id}", tags=["requests"], openapi_extra=_EXTRA)
    async def show_request(request_id: str) -> Response:
        """A request and its answer."""
        return document_answer(*await queries.request(request_id))


def _add_workflows(router: APIRouter, queries: Queries) -> None:
    versions = WorkflowQueries(queries)

    @router.get("/workflows", tags=["workflows"], openapi_extra=_EXTRA)
    async def list_workflows(  # noqa: PLR0917 - FastAPI passes them by name
        request: Request,
        status: WorkflowStatus | None = None,
        workflow_type: Word = None,
        ended_before: EndedBefore = None,
        limit: Limit = LIMIT,
        cursor: Cursor = None,
    ) -> Response:
        """Workflows, the newest first."""
        ended_before_ms = None if ended_before is None else round(ended_before.timestamp() * 1000)
        filters = {"status": status, "workflow_type": workflow_type, "ended_before_ms": ended_before_ms}
        return page_answer(request, await queries.workflows(filters, limit=limit, cursor=cursor))

    @router.get("/workflows/{workflow_id}", tags=["workflows"], openapi_extra=_EXTRA)
    async def show_workflow(workflow_id: str, version: VersionOf = None) -> Response:
        """A workflow at its newest version, which `ETag` names, or at a past one."""
        return tagged(*await versions.workflow(workflow_id, version=version))

    @router.get("/workflows/{workflow_id}/history", tags=["workflows"], openapi_extra=_EXTRA)
    async def show_history(
        request: Request, workflow_id: str, limit: Limit = LIMIT_MAX, cursor: Cursor = None
    ) -> Response:
        """Every event of a workflow, the oldest first."""
        filters = {"topic": "workflows.events", "subject": checked_id("workflow_id", workflow_id)}
        page = await queries.events(filters, limit=limit, cursor=cursor)
        if not page.documents and cursor is None:
            raise NotFound("workflow", workflow_id)
        return page_answer(request, page)

    @router.get("/approvals", tags=["workflows"], openapi_extra=_EXTRA)
    async def list_approvals(
        request: Request,
        status: ApprovalStatus | None = None,
        workflow_id: Word = None,
        limit: Limit = LIMIT,
        cursor: Cursor = None,
    ) -> Response:
        """What workflows wait for people to decide, the oldest first."""
        filters = {"status": status, "workflow_id": workflow_id}
        return page_answer(request, await queries.approvals(filters, limit=limit, cursor=cursor))


def _add_events(router: APIRouter, queries: Queries) -> None:
    @router.get("/events", tags=["events"], openapi_extra=_EXTRA)
    async def list_events(  # noqa: PLR0917 - FastAPI passes them by name
        request: Request,
        topic: Word = None,
        type: Word = None,  # noqa: A002 - CloudEvents' own word
        subject: Word = None,
        correlation_id: Word = None,
        command_id: Word = None,
        after: Annotated[str | None, Query(description="Only what stands after this position in time.")] = None,
        order: Literal["asc", "desc"] = "asc",
        limit: Limit = LIMIT,
        cursor: Cursor = None,
    ) -> Response:
        """The accepted events and broadcasts, in order of time."""
        filters = {
            "topic": topic,
            "type": type,
            "subject": subject,
            "correlation_id": correlation_id,
            "command_id": command_id,
        }
        page = await queries.events(
            filters,
            after=None if after is None else Position.parse(after, field="after"),
            limit=limit,
            cursor=cursor,
            is_descending=order == "desc",
        )
        return page_answer(request, page)

    @router.get("/events/{position}", tags=["events"], openapi_extra=_EXTRA)
    async def show_event(position: str) -> Response:
        """The accepted event at `topic:partition:offset`."""
        return document_answer(*await queries.event(Position.parse(position)))

    @router.get("/timeline/{correlation_id}", tags=["events"], openapi_extra=_EXTRA)
    async def show_timeline(
        request: Request, correlation_id: str, limit: Limit = LIMIT_MAX, cursor: Cursor = None
    ) -> Response:
        """Every event of one piece of work, in order of time."""
        filters = {"correlation_id": checked_id("correlation_id", correlation_id)}
        page = await queries.events(filters, limit=limit, cursor=cursor)
        if not page.documents and cursor is None:
            raise NotFound("correlation", correlation_id)
        return page_answer(request, page)

    @router.get("/dead-letters", tags=["operations"], openapi_extra=_EXTRA)
    async def list_dead_letters(  # noqa: PLR0917 - query parameters have names
        request: Request,
        topic: Word = None,
        stage: Word = None,
        status: Annotated[Literal["open", "redriven", "discarded"] | None, Query()] = None,
        limit: Limit = LIMIT,
        cursor: Cursor = None,
    ) -> Response:
        """Records nobody could understand, the newest first, and what became of each; of large ones the beginning."""
        filters = {"topic": topic, "stage": stage, "status": status}
        return page_answer(request, await queries.dead_letters(filters, limit=limit, cursor=cursor))

    @router.get("/dead-letters/{letter_id}", tags=["operations"], openapi_extra=_EXTRA)
    async def show_dead_letter(letter_id: str) -> Response:
        """One of them, with all that is kept of it; its id is `topic:partition:offset`."""
        return document_answer(*await queries.dead_letter(str(Position.parse(letter_id, field="letter_id"))))
