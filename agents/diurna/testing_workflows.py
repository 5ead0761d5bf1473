"""The reads about workflows of a team in memory: the documents of the real routes, from the tables folded here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import orjson
from fastapi import APIRouter, Response

from diurna_projections import documents
from diurna_projections.documents import Document
from diurna_projections.raw_path import RawPathRoute
from diurna_projections.rows import APPROVALS, EVENTS, WORKFLOW_CHECKPOINTS, Approval, Workflow
from diurna_projections.tables import Tables
from diurna_projections.workflow_fold import WorkflowFold, as_stored, stored_workflow
from diurna_schemas.codec import Codec
from diurna_schemas.errors import NotFound
from diurna_schemas.topics import WORKFLOWS
from diurna_schemas.workflows import WorkflowCreated


class MemoryWorkflows:
    """The reads, over tables that are up to date whenever somebody asks. Lists come whole: nobody pages in memory."""

    def __init__(self, tables: Callable[[], Tables], codec: Codec) -> None:
        self._tables = tables
        self._codec = codec

    def workflow(self, workflow_id: str, version: int | None = None) -> Document:
        """A workflow, at its newest version or a past one. Raises `NotFound`."""
        row: Workflow | None = self._tables().workflows.get(workflow_id)
        if row is None:
            raise NotFound("workflow", workflow_id)
        if version is not None and version != row.version:
            row = WorkflowFold(workflow_id, self._codec).up_to(self._last_life(workflow_id), version)
        if row is None:
            raise NotFound(f"version {version} of a workflow", workflow_id)
        return documents.workflow_document(stored_workflow(row))

    def workflows(self, **filters: str | None) -> list[Document]:
        """Those that fit, the newest first."""
        found = [
            row
            for row in self._tables().workflows
            if filters.get("status") in {None, row.status} and filters.get("workflow_type") in {None, row.workflow_type}
        ]
        if (moment := filters.get("ended_before")) is not None:
            before_ms = datetime.fromisoformat(moment).timestamp() * 1000
            found = [row for row in found if row.completed_at_ms is not None and row.completed_at_ms <= before_ms]
        found.sort(key=lambda row: (row.started_at_ms, row.workflow_id), reverse=True)
        return [documents.workflow_document(stored_workflow(row)) for row in found]

    def checkpoints(self, workflow_id: str) -> list[Document]:
        """The checkpoints of a workflow, the newest first. Raises `NotFound`."""
        self.workflow(workflow_id)
        rows = self._tables().workflow_checkpoints.group(workflow_id)
        rows.sort(key=lambda row: row.record_offset, reverse=True)
        return [documents.checkpoint_document(as_stored(WORKFLOW_CHECKPOINTS, row)) for row in rows]

    def checkpoint(self, workflow_id: str, checkpoint_id: str) -> Document:
        """A checkpoint with its state. Raises `NotFound`."""
        row = self._tables().workflow_checkpoints.get(workflow_id, checkpoint_id)
        if row is None:
            raise NotFound("checkpoint", checkpoint_id)
        taken = documents.checkpoint_document(as_stored(WORKFLOW_CHECKPOINTS, row))
        return {**taken, "state_data": self.workflow(workflow_id, row.version)["state_data"]}

    def history(self, workflow_id: str) -> list[Document]:
        """Every event of a workflow, the oldest first. Raises `NotFound`."""
        found = [documents.event_document(row, self._codec) for row in self._events(workflow_id)]
        if not found:
            raise NotFound("workflow", workflow_id)
        return found

    def approvals(self, status: str | None, workflow_id: str | None) -> list[Document]:
        """What workflows wait for, the oldest first."""
        every = [self._with_end(row) for row in self._tables().approvals]
        found = [row for row in every if status in {None, row.status} and workflow_id in {None, row.workflow_id}]
        found.sort(key=lambda row: (row.requested_at_ms, row.approval_id))
        return [documents.approval_document(as_stored(APPROVALS, row)) for row in found]

    def _with_end(self, row: Approval) -> Approval:
        """What still waits ends with its workflow, as in the view of that name."""
        workflow = self._tables().workflows.get(row.workflow_id)
        is_live = workflow is not None and workflow.completed_at_ms is None
        is_its_own = workflow is not None and workflow.started_at_ms <= row.requested_at_ms
        return row if row.status != "pending" or (is_live and is_its_own) else row._replace(status="closed")

    def statistics(self) -> list[Document]:
        """Counts by type."""
        by_type: dict[str, dict[str, int]] = {}
        for row in self._tables().workflows:
            counts = by_type.setdefault(row.workflow_type, dict.fromkeys(_COUNTED, 0))
            counts["total"] += 1
            counts[row.status] += 1
            if row.status == "completed" and row.completed_at_ms is not None:
                counts["completed_ms"] += row.completed_at_ms - row.started_at_ms
        return [documents.statistics_document({"workflow_type": name, **by_type[name]}) for name in sorted(by_type)]

    def ended(self, before_ms: int, limit: int) -> list[str]:
        """The ids of workflows that were over by a time, those that ended first."""
        found = [
            (row.completed_at_ms, row.workflow_id)
            for row in self._tables().workflows
            if row.completed_at_ms is not None and row.completed_at_ms <= before_ms
        ]
        return [workflow_id for _, workflow_id in sorted(found)[:limit]]

    def _events(self, workflow_id: str) -> list[Mapping[str, Any]]:
        rows = [row for row in self._tables().events if (row.topic, row.subject) == (WORKFLOWS.events, workflow_id)]
        return [as_stored(EVENTS, row) for row in rows]

    def _last_life(self, workflow_id: str) -> list[Mapping[str, Any]]:
        events = self._events(workflow_id)
        births = [at for at, row in enumerate(events) if row["type"] == WorkflowCreated.type_name]
        return events[births[-1] :] if births else []


_COUNTED = ("total", "running", "paused", "completed", "failed", "cancelled", "completed_ms")


def workflow_routes(workflows_at: Callable[[str | None], MemoryWorkflows]) -> APIRouter:
    """The reads as routes, each of them of now or of a moment."""
    router = APIRouter(route_class=RawPathRoute)

    @router.get("/workflows")
    async def list_workflows(
        status: str | None = None,
        workflow_type: str | None = None,
        ended_before: str | None = None,
        as_of: str | None = None,
    ) -> Response:
        filters = {"status": status, "workflow_type": workflow_type, "ended_before": ended_before}
        return _json(workflows_at(as_of).workflows(**filters))

    @router.get("/workflows/{workflow_id}")
    async def show_workflow(workflow_id: str, version: int | None = None, as_of: str | None = None) -> Response:
        found = workflows_at(as_of).workflow(workflow_id, version)
        answer = _json(found)
        answer.headers["ETag"] = f'"{found["version"]}"'
        return answer

    @router.get("/workflows/{workflow_id}/checkpoints")
    async def list_checkpoints(workflow_id: str, limit: int = 100, as_of: str | None = None) -> Response:
        return _json(workflows_at(as_of).checkpoints(workflow_id)[:limit])

    @router.get("/workflows/{workflow_id}/checkpoints/{checkpoint_id}")
    async def show_checkpoint(workflow_id: str, checkpoint_id: str, as_of: str | None = None) -> Response:
        return _json(workflows_at(as_of).checkpoint(workflow_id, checkpoint_id))

    @router.get("/workflows/{workflow_id}/history")
    async def show_history(workflow_id: str, as_of: str | None = None) -> Response:
        return _json(workflows_at(as_of).history(workflow_id))

    @router.get("/approvals")
    async def list_approvals(
        status: str | None = None, workflow_id: str | None = None, as_of: str | None = None
    ) -> Response:
        return _json(workflows_at(as_of).approvals(status, workflow_id))

    @router.get("/workflow-statistics")
    async def show_statistics(as_of: str | None = None) -> Response:
        return _json(workflows_at(as_of).statistics())

    return router


def _json(content: Document | Iterable[Document]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
