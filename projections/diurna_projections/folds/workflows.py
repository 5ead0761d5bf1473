"""Events about workflows to rows: the newest version of each, and the approvals they wait for."""

from __future__ import annotations

from typing import Any, cast

import orjson

from diurna_projections.folds.text import json_of, json_text, plain
from diurna_projections.records import LogRecord
from diurna_projections.rows import Approval, Workflow
from diurna_projections.tables import Tables
from diurna_schemas.errors import Unreadable, shown
from diurna_schemas.message import Part
from diurna_schemas.workflows import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
    WorkflowStateUpdated,
    WorkflowStepChanged,
)

_Changed = WorkflowStateUpdated | WorkflowStepChanged | WorkflowCompleted | WorkflowFailed | WorkflowCancelled
_Decided = ApprovalDecided | ApprovalExpired


def fold(tables: Tables, event: Part, record: LogRecord) -> bool:
    """Writes what the event changes; false where it is about no workflow.

    Raises `Unreadable` where a state or its update is no JSON object.
    """
    match event:
        case (
            WorkflowStateUpdated()
            | WorkflowStepChanged()
            | WorkflowCompleted()
            | WorkflowFailed()
            | WorkflowCancelled()
        ):
            row = tables.workflows.get(event.workflow_id)
            if row is not None:
                tables.workflows.put(_evolve(row, event, record))
        case WorkflowCreated():
            tables.workflows.put(_created(event, record))
        case ApprovalRequested():
            tables.approvals.put(_requested(event, record))
        case ApprovalDecided() | ApprovalExpired():
            approval = tables.approvals.get(event.approval_id, event.workflow_id)
            if approval is not None:
                tables.approvals.put(_decided(approval, event, record))
        case _:
            return False
    return True


def _created(event: WorkflowCreated, record: LogRecord) -> Workflow:
    return Workflow(
        workflow_id=event.workflow_id,
        workflow_type=event.workflow_type,
        status="running",
        current_step=None,
        state=_object("state", event.state),
        participating_agents=json_of(event.participating_agents),
        metadata=json_text(event.metadata),
        result=None,
        error=None,
        version=event.version,
        started_at_ms=event.at_ms,
        updated_at_ms=event.at_ms,
        completed_at_ms=None,
        partition=record.partition,
        record_offset=record.offset,
    )


def _evolve(row: Workflow, event: _Changed, record: LogRecord) -> Workflow:
    if isinstance(event, WorkflowStateUpdated):  # by far the most frequent: one copy of the row, not two
        return row._replace(
            state={**row.state, **_object("updates", event.updates)},
            version=event.version,
            updated_at_ms=event.at_ms,
            partition=record.partition,
            record_offset=record.offset,
        )
    row = row._replace(
        version=event.version, updated_at_ms=event.at_ms, partition=record.partition, record_offset=record.offset
    )
    match event:
        case WorkflowStepChanged():
            return row._replace(current_step=event.step)
        case WorkflowCompleted():
            result = None if event.result is None else json_text(event.result)
            return row._replace(status="completed", result=result, completed_at_ms=event.at_ms)
        case WorkflowFailed():
            result = None if event.result is None else json_text(event.result)
            return row._replace(status="failed", error=plain(event.error), result=result, completed_at_ms=event.at_ms)
        case WorkflowCancelled():
            reason = f": {event.reason}" if event.reason else ""
            error = plain(f"cancelled by {event.cancelled_by}{reason}")
            return row._replace(status="cancelled", error=error, completed_at_ms=event.at_ms)


def _requested(event: ApprovalRequested, record: LogRecord) -> Approval:
    return Approval(
        approval_id=event.approval_id,
        workflow_id=event.workflow_id,
        status="pending",
        question=plain(event.question),
        details=json_text(event.details),
        requested_at_ms=event.at_ms,
        expires_at_ms=event.expires_at_ms,
        decided_at_ms=None,
        decided_by=None,
        reason=None,
        partition=record.partition,
        record_offset=record.offset,
    )


def _decided(row: Approval, event: _Decided, record: LogRecord) -> Approval:
    row = row._replace(decided_at_ms=event.at_ms, partition=record.partition, record_offset=record.offset)
    match event:
        case ApprovalDecided():
            status = "approved" if event.is_approved else "rejected"
            return row._replace(status=status, decided_by=event.decided_by, reason=plain(event.reason))
        case ApprovalExpired():
            return row._replace(status="expired")


def _object(field: str, text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"{field} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise Unreadable(f"{field} is no JSON object: {shown(text)}")
    return cast("dict[str, Any]", value)
