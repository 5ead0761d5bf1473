"""The reads about workflows beside the plain lists: past versions, checkpoints, statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from diurna_projections import documents, paging
from diurna_projections.documents import Document
from diurna_projections.found import Page
from diurna_projections.paging import LIMIT
from diurna_projections.queries import Queries
from diurna_projections.store.statements import statements
from diurna_projections.workflow_fold import WorkflowFold, stored_workflow
from diurna_schemas.errors import NotFound
from diurna_schemas.ids import checked_id

_SQL: Final = statements("workflows")
_EVENTS_AT_ONCE: Final = 500


class WorkflowQueries:
    """Reads from the tables that `queries` reads from."""

    def __init__(self, queries: Queries) -> None:
        self.queries = queries

    async def workflow(self, workflow_id: str, *, version: int | None = None) -> tuple[Document, str]:
        """A workflow at its newest version or at a past one, and the positions that is true at. Raises `NotFound`."""
        newest, positions = await self.queries.workflow(workflow_id)
        if version is None or version == newest["version"]:
            return newest, positions
        fold = WorkflowFold(workflow_id, self.queries.codec)
        last_offset = -1
        while version < newest["version"]:
            rows = await self.queries.database.fetch(_SQL["events_of"], workflow_id, last_offset, _EVENTS_AT_ONCE)
            if (found := fold.up_to(_mappings(rows), version)) is not None:
                return documents.workflow_document(stored_workflow(found)), positions
            if len(rows) < _EVENTS_AT_ONCE:
                break
            last_offset = rows[-1]["record_offset"]
        raise NotFound(f"version {version} of a workflow", workflow_id)

    async def checkpoints(self, workflow_id: str, *, limit: int = LIMIT, cursor: str | None = None) -> Page:
        """The checkpoints of a workflow, the newest first, without their states. Raises `NotFound`."""
        filters = {"workflow_id": checked_id("workflow_id", workflow_id)}
        page = await self.queries.page(
            paging.CHECKPOINTS, filters, documents.checkpoint_document, limit=limit, cursor=cursor
        )
        if not page.documents and cursor is None:
            await self.queries.workflow(workflow_id)
        return page

    async def checkpoint(self, workflow_id: str, checkpoint_id: str) -> tuple[Document, str]:
        """A checkpoint with its state, and the positions that is true at. Raises `NotFound`."""
        filters = {
            "workflow_id": checked_id("workflow_id", workflow_id),
            "checkpoint_id": checked_id("checkpoint_id", checkpoint_id),
        }
        page = await self.queries.page(paging.CHECKPOINTS, filters, documents.checkpoint_document, limit=1)
        if not page.documents:
            raise NotFound("checkpoint", checkpoint_id)
        taken = page.documents[0]
        then, _ = await self.workflow(workflow_id, version=taken["version"])
        return {**taken, "state_data": then["state_data"]}, page.positions

    async def statistics(self) -> Page:
        """How many workflows of each type there are in which status, and how long the completed ones took."""
        rows = await self.queries.database.fetch(_SQL["statistics"])
        found = [documents.statistics_document(row) for row in _mappings(rows) if row["workflow_type"] is not None]
        return Page(found, (rows[0]["positions"] if rows else None) or "")

    async def driven_type(self, workflow_id: str) -> str | None:
        """The type of a workflow that a graph drives, whose checkpoints are kept; none of any other."""
        row = await self.queries.database.row(_SQL["driven_type"], workflow_id)
        return None if row is None else cast("str", row["workflow_type"])

    async def ended(self, before_ms: int, *, limit: int) -> list[str]:
        """The ids of workflows that ended before a time, those that ended first."""
        return [row["workflow_id"] for row in await self.queries.database.fetch(_SQL["ended"], before_ms, limit)]


def _mappings(rows: Iterable[Any]) -> list[Mapping[str, Any]]:
    return list(rows)
