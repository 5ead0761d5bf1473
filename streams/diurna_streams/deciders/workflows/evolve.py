"""How an event changes what is remembered of workflows."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from immutables import Map

from diurna_schemas.workflows import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    WorkflowCancelled,
    WorkflowCommandRefused,
    WorkflowCommandRepeated,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
    WorkflowsEvent,
    WorkflowStateUpdated,
    WorkflowStatus,
    WorkflowStepChanged,
)
from diurna_streams.deciders.workflows.state import Due, Workflow, WorkflowsState


def evolve(state: WorkflowsState, event: WorkflowsEvent, command_offset: int) -> WorkflowsState:
    """The state after an event that the command at `command_offset` led to."""
    state = replace(state, now_ms=event.at_ms, seen=state.seen.put(event.command_id, command_offset, event.at_ms))
    match event:
        case WorkflowCreated():
            return _with(state, event.workflow_id, Workflow(event.version, "running"))
        case WorkflowStateUpdated() | WorkflowStepChanged():
            workflow = replace(state.workflows[event.workflow_id], version=event.version)
            return _with(state, event.workflow_id, workflow)
        case WorkflowCompleted():
            return _ended(state, event.workflow_id, "completed", event.version)
        case WorkflowFailed():
            return _ended(state, event.workflow_id, "failed", event.version)
        case WorkflowCancelled():
            return _ended(state, event.workflow_id, "cancelled", event.version)
        case ApprovalRequested():
            return _asked(state, event)
        case ApprovalDecided() | ApprovalExpired():
            return _settled(state, event.workflow_id, event.approval_id)
        case WorkflowCommandRefused() | WorkflowCommandRepeated():
            return state
        case _:
            assert_never(event)


def _with(state: WorkflowsState, workflow_id: str, workflow: Workflow) -> WorkflowsState:
    return replace(state, workflows=state.workflows.set(workflow_id, workflow))


def _asked(state: WorkflowsState, event: ApprovalRequested) -> WorkflowsState:
    workflow = state.workflows[event.workflow_id]
    approvals = workflow.approvals.set(event.approval_id, event.expires_at_ms)
    due = state.due
    if event.expires_at_ms is not None:
        due = due.push(Due(event.expires_at_ms, event.workflow_id, event.approval_id))
    state = replace(state, due=due, open_approvals=state.open_approvals + 1)
    return _with(state, event.workflow_id, replace(workflow, approvals=approvals))


def _settled(state: WorkflowsState, workflow_id: str, approval_id: str) -> WorkflowsState:
    workflow = state.workflows[workflow_id]
    workflow = replace(
        workflow, approvals=workflow.approvals.delete(approval_id), settled=workflow.settled | {approval_id}
    )
    return _pruned(_with(replace(state, open_approvals=state.open_approvals - 1), workflow_id, workflow))


def _ended(state: WorkflowsState, workflow_id: str, status: WorkflowStatus, version: int) -> WorkflowsState:
    """An end closes what was still to be approved: nobody waits for it."""
    workflow = state.workflows[workflow_id]
    closed = len(workflow.approvals)
    settled = workflow.settled | frozenset(workflow.approvals)
    ended = replace(workflow, status=status, version=version, approvals=Map[str, int | None](), settled=settled)
    return _pruned(_with(replace(state, open_approvals=state.open_approvals - closed), workflow_id, ended))


def _pruned(state: WorkflowsState) -> WorkflowsState:
    due = state.due.pruned(state.is_due_live, state.open_approvals)
    return state if due is state.due else replace(state, due=due)
