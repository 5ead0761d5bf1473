"""The reads about workflows beside the plain lists: checkpoints, statistics, and a version's entity tag."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime
from starlette.responses import Response

from diurna_projections.api.answers import document_answer, page_answer
from diurna_projections.api.hot import READ_PARAMETERS
from diurna_projections.documents import Document
from diurna_projections.paging import LIMIT, LIMIT_MAX
from diurna_projections.queries import Queries
from diurna_projections.workflow_queries import WorkflowQueries

VersionOf = Annotated[int | None, Query(ge=1, le=2**53, description="A past version, folded from the events.")]
EndedBefore = Annotated[AwareDatetime | None, Query(description="Only what was over by then.")]
_Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="At most so many.")]
_Cursor = Annotated[str | None, Query(max_length=2_000, description="From the Link header of the page before.")]
_EXTRA: Final[dict[str, Any]] = {"parameters": READ_PARAMETERS}


def tagged(document: Document, positions: str) -> Response:
    """A workflow, its version as the entity tag: what `If-Match` takes."""
    answer = document_answer(document, positions)
    answer.headers["ETag"] = f'"{document["version"]}"'
    return answer


def add_workflow_parts(router: APIRouter, queries: Queries) -> None:
    """Adds checkpoints and statistics."""
    workflows = WorkflowQueries(queries)

    @router.get("/workflows/{workflow_id}/checkpoints", tags=["workflows"], openapi_extra=_EXTRA)
    async def list_checkpoints(
        request: Request, workflow_id: str, limit: _Limit = LIMIT, cursor: _Cursor = None
    ) -> Response:
        """The checkpoints of a workflow, the newest first."""
        return page_answer(request, await workflows.checkpoints(workflow_id, limit=limit, cursor=cursor))

    @router.get("/workflows/{workflow_id}/checkpoints/{checkpoint_id}", tags=["workflows"], openapi_extra=_EXTRA)
    async def show_checkpoint(workflow_id: str, checkpoint_id: str) -> Response:
        """A checkpoint with the whole state as it was."""
        return document_answer(*await workflows.checkpoint(workflow_id, checkpoint_id))

    @router.get("/workflow-statistics", tags=["workflows"], openapi_extra=_EXTRA)
    async def show_statistics(request: Request) -> Response:
        """How many workflows of each type there are in which status, and how long the completed ones took."""
        return page_answer(request, await workflows.statistics())
