"""How an event changes what is remembered of workflows."""

from __future__ import annotations

from typing import assert_never

from diurna_schemas.workflows import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    CheckpointTaken,
    WorkflowCancelled,
    WorkflowCommandRefused,
    WorkflowCommandRepeated,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowRemoved,
    WorkflowRestored,
    WorkflowResumed,
    WorkflowsEvent,
    WorkflowStateUpdated,
    WorkflowStatus,
    WorkflowStepChanged,
)
from diurna_streams.deciders.workflows.documents import EMPTY, Unfit, patched, whole
from diurna_streams.deciders.workflows.state import Approval, Checkpoint, Due, Workflow, WorkflowsState, kept


def evolve(state: WorkflowsState, event: WorkflowsEvent, command_offset: int) -> WorkflowsState:
    """The state after an event that the command at `command_offset` led to."""
    state = state._replace(now_ms=event.at_ms, seen=state.seen.put(event.command_id, command_offset, event.at_ms))
    match event:
        case WorkflowStateUpdated():
            workflow = state.workflows[event.workflow_id]
            document = _patched(workflow.state, event.updates)
            return _with(state, event.workflow_id, workflow._replace(version=event.version, state=document))
        case WorkflowStepChanged():
            workflow = state.workflows[event.workflow_id]
            return _with(state, event.workflow_id, workflow._replace(version=event.version))
        case WorkflowCreated():
            return _with(state, event.workflow_id, Workflow(event.version, "running", _whole(event.state)))
        case CheckpointTaken():
            return _checkpointed(state, event)
        case WorkflowRestored():
            workflow = state.workflows[event.workflow_id]
            restored = workflow._replace(version=event.version, state=_whole(event.state))
            return _with(state, event.workflow_id, restored)
        case WorkflowPaused():
            return _changed(state, event.workflow_id, "paused", event.version)
        case WorkflowResumed():
            return _changed(state, event.workflow_id, "running", event.version)
        case WorkflowCompleted():
            return _ended(state, event, "completed")
        case WorkflowFailed():
            return _ended(state, event, "failed")
        case WorkflowCancelled():
            return _ended(state, event, "cancelled")
        case WorkflowRemoved():
            return state._replace(workflows=state.workflows.delete(event.workflow_id))
        case ApprovalRequested():
            return _asked(state, event)
        case ApprovalDecided() | ApprovalExpired():
            return _settled(state, event.workflow_id, event.approval_id)
        case WorkflowCommandRefused() | WorkflowCommandRepeated():
            return state
        case _:
            assert_never(event)


def _with(state: WorkflowsState, workflow_id: str, workflow: Workflow) -> WorkflowsState:
    return state._replace(workflows=state.workflows.set(workflow_id, workflow))


def _changed(state: WorkflowsState, workflow_id: str, status: WorkflowStatus, version: int) -> WorkflowsState:
    workflow = state.workflows[workflow_id]
    return _with(state, workflow_id, workflow._replace(status=status, version=version))


def _checkpointed(state: WorkflowsState, event: CheckpointTaken) -> WorkflowsState:
    workflow = state.workflows[event.workflow_id]
    taken = Checkpoint(event.checkpoint_id, event.step, workflow.state, event.data.encode())
    return _with(state, event.workflow_id, workflow._replace(checkpoints=kept((*workflow.checkpoints, taken))))


def _ended(
    state: WorkflowsState, event: WorkflowCompleted | WorkflowFailed | WorkflowCancelled, status: WorkflowStatus
) -> WorkflowsState:
    """An end closes what was still to be approved: nobody waits for it. All that stays is that it is over."""
    closed = len(state.workflows[event.workflow_id].approvals)
    state = state._replace(open_approvals=state.open_approvals - closed)
    return _pruned(_with(state, event.workflow_id, Workflow(event.version, status, ended_ms=event.at_ms)))


def _asked(state: WorkflowsState, event: ApprovalRequested) -> WorkflowsState:
    workflow = state.workflows[event.workflow_id]
    approvals = workflow.approvals.set(event.approval_id, Approval(event.expires_at_ms, tuple(event.roles)))
    due = state.due
    if event.expires_at_ms is not None:
        due = due.push(Due(event.expires_at_ms, event.workflow_id, event.approval_id))
    state = state._replace(due=due, open_approvals=state.open_approvals + 1)
    return _with(state, event.workflow_id, workflow._replace(approvals=approvals))


def _settled(state: WorkflowsState, workflow_id: str, approval_id: str) -> WorkflowsState:
    workflow = state.workflows[workflow_id]
    workflow = workflow._replace(
        approvals=workflow.approvals.delete(approval_id), settled=workflow.settled | {approval_id}
    )
    return _pruned(_with(state._replace(open_approvals=state.open_approvals - 1), workflow_id, workflow))


def _pruned(state: WorkflowsState) -> WorkflowsState:
    due = state.due.pruned(state.is_due_live, state.open_approvals)
    return state if due is state.due else state._replace(due=due)


def _whole(text: str) -> bytes:
    """A fact is folded whatever it says: rules that were less strict may have written it."""
    try:
        return whole(text)
    except Unfit:
        return EMPTY


def _patched(state: bytes, patch: str) -> bytes:
    try:
        return patched(state, patch)
    except Unfit:
        return state
