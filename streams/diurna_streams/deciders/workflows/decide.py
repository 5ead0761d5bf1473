"""The rules about workflows: whose version counts, what fits into a state, what a pause and an end forbid."""

from __future__ import annotations

from typing import Final, assert_never

from diurna_schemas.message import Heading
from diurna_schemas.workflows import (
    ApprovalExpired,
    CancelWorkflow,
    CheckpointTaken,
    CompleteWorkflow,
    CreateWorkflow,
    DecideApproval,
    FailWorkflow,
    PauseWorkflow,
    RemoveWorkflow,
    RequestApproval,
    RestoreWorkflow,
    ResumeWorkflow,
    TakeCheckpoint,
    TickWorkflows,
    UpdateWorkflowState,
    UpdateWorkflowStep,
    WorkflowCancelled,
    WorkflowCommandRepeated,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowRemoved,
    WorkflowRestored,
    WorkflowResumed,
    WorkflowsCommand,
    WorkflowsEvent,
    WorkflowStateUpdated,
    WorkflowStepChanged,
)
from diurna_streams.deciders.rules import Decision
from diurna_streams.deciders.workflows.approvals import decide_approval, request_approval
from diurna_streams.deciders.workflows.documents import Unfit, patched, whole
from diurna_streams.deciders.workflows.draft import Change, Draft, Refusal
from diurna_streams.deciders.workflows.state import Workflow, WorkflowsState

DUE_MAX: Final = 160
"""Expiries one command settles, at most 2 kB each: beside them a batch must hold the largest restore, half a MiB. The
rest is settled by the tick that follows at once."""

_AtVersion = UpdateWorkflowState | UpdateWorkflowStep | RestoreWorkflow
"""What may insist on a version."""
_Work = UpdateWorkflowState | UpdateWorkflowStep | TakeCheckpoint | CompleteWorkflow | FailWorkflow | RequestApproval
"""What those who work on a workflow say. While it is paused they are refused; people may still decide about it."""


def decide(
    state: WorkflowsState, command: WorkflowsCommand, heading: Heading
) -> Decision[WorkflowsState, WorkflowsEvent]:
    """Time first, then the command; a command seen before is answered and changes nothing."""
    draft = Draft(state, command.command_id, max(state.now_ms, heading.now_ms), heading.offset)
    _let_time_pass(draft)
    if isinstance(command, TickWorkflows):
        return draft.decision()
    first_offset = state.seen.get(command.command_id, draft.now_ms)
    if first_offset is not None:
        about = draft.about(command.workflow_id)
        draft.emit(WorkflowCommandRepeated(**about, command_type=command.type_name, first_offset=first_offset))
        return draft.decision()
    workflow = draft.state.workflows.get(command.workflow_id)
    try:
        if isinstance(command, CreateWorkflow):
            _create(draft, command, workflow)
        else:
            _change(draft, command, workflow)
    except Refusal as refusal:
        draft.refuse(command, refusal, workflow)
    except Unfit as fault:
        draft.refuse(command, Refusal(fault.code, fault.reason, fault.size_bytes), workflow)
    return draft.decision()


def _let_time_pass(draft: Draft) -> None:
    """Every approval whose time is over, in order of its time."""
    for _ in range(DUE_MAX):
        due = draft.state.due.first
        if due is None or due.at_ms > draft.now_ms:
            return
        draft.emit(ApprovalExpired(**draft.about(due.workflow_id), approval_id=due.approval_id))


def _create(draft: Draft, command: CreateWorkflow, workflow: Workflow | None) -> None:
    if workflow is not None:
        raise Refusal("workflow_exists", f"workflow {command.workflow_id} exists already")
    whole(command.state)
    draft.emit(
        WorkflowCreated(
            **draft.about(command.workflow_id),
            workflow_type=command.workflow_type,
            state=command.state,
            participating_agents=command.participating_agents,
            metadata=command.metadata,
            version=1,
            step=command.step,
        )
    )


def _change(draft: Draft, command: Change, workflow: Workflow | None) -> None:
    if workflow is None:
        raise Refusal("not_found", f"no workflow with id {command.workflow_id!r}")
    if isinstance(command, RemoveWorkflow):
        _remove(draft, command, workflow)
        return
    if workflow.is_over:
        advice = ": fork it instead" if isinstance(command, RestoreWorkflow) else ""
        raise Refusal("workflow_over", f"workflow {command.workflow_id} is {workflow.status}{advice}")
    if workflow.status == "paused" and isinstance(command, _Work):
        raise Refusal("workflow_paused", f"workflow {command.workflow_id} is paused")
    if isinstance(command, _AtVersion) and command.expected_version not in {None, workflow.version}:
        reason = f"{command.workflow_id} is at version {workflow.version}, not {command.expected_version}"
        raise Refusal("version_conflict", reason)
    match command:
        case UpdateWorkflowState():
            _update(draft, command, workflow)
        case UpdateWorkflowStep():
            about = draft.about(command.workflow_id)
            step = WorkflowStepChanged(
                **about, step=command.step, agent_id=command.agent_id, version=workflow.version + 1
            )
            draft.emit(step)
        case TakeCheckpoint():
            _checkpoint(draft, command, workflow)
        case RestoreWorkflow():
            _restore(draft, command, workflow)
        case RequestApproval():
            request_approval(draft, command, workflow)
        case DecideApproval():
            decide_approval(draft, command, workflow)
        case PauseWorkflow() | ResumeWorkflow():
            _pause_or_resume(draft, command, workflow)
        case CompleteWorkflow() | FailWorkflow() | CancelWorkflow():
            _end(draft, command, workflow)
        case _:
            assert_never(command)


def _update(draft: Draft, command: UpdateWorkflowState, workflow: Workflow) -> None:
    patched(workflow.state, command.updates)
    draft.emit(
        WorkflowStateUpdated(
            **draft.about(command.workflow_id),
            updates=command.updates,
            agent_id=command.agent_id,
            version=workflow.version + 1,
        )
    )


def _checkpoint(draft: Draft, command: TakeCheckpoint, workflow: Workflow) -> None:
    if workflow.checkpoint(command.checkpoint_id) is not None:
        raise Refusal("checkpoint_exists", f"checkpoint {command.checkpoint_id} was taken before")
    patched(workflow.state, command.data)  # what cannot be restored is not taken
    draft.emit(
        CheckpointTaken(
            **draft.about(command.workflow_id),
            checkpoint_id=command.checkpoint_id,
            step=command.step,
            agent_id=command.agent_id,
            data=command.data,
            version=workflow.version,
        )
    )


def _restore(draft: Draft, command: RestoreWorkflow, workflow: Workflow) -> None:
    """The state as it was, with the checkpoint's data merged in: what the step had come to is part of it."""
    checkpoint = workflow.checkpoint(command.checkpoint_id)
    if checkpoint is None:
        reason = f"no checkpoint with id {command.checkpoint_id!r} to restore {command.workflow_id} to"
        if workflow.checkpoints:
            reason += f": the oldest is {workflow.checkpoints[0].checkpoint_id}, older ones can be forked from"
        raise Refusal("checkpoint_not_found", reason)
    data = checkpoint.data.decode()
    draft.emit(
        WorkflowRestored(
            **draft.about(command.workflow_id),
            checkpoint_id=checkpoint.checkpoint_id,
            step=checkpoint.step,
            state=patched(checkpoint.state, data).decode(),
            data=data,
            agent_id=command.agent_id,
            version=workflow.version + 1,
        )
    )


def _pause_or_resume(draft: Draft, command: PauseWorkflow | ResumeWorkflow, workflow: Workflow) -> None:
    about, version = draft.about(command.workflow_id), workflow.version + 1
    match command:
        case PauseWorkflow():
            if workflow.status == "paused":
                raise Refusal("workflow_paused", f"workflow {command.workflow_id} is paused already")
            draft.emit(WorkflowPaused(**about, paused_by=command.paused_by, reason=command.reason, version=version))
        case ResumeWorkflow():
            if workflow.status != "paused":
                raise Refusal("workflow_running", f"workflow {command.workflow_id} is not paused")
            draft.emit(WorkflowResumed(**about, resumed_by=command.resumed_by, reason=command.reason, version=version))


def _end(draft: Draft, command: CompleteWorkflow | FailWorkflow | CancelWorkflow, workflow: Workflow) -> None:
    about, version = draft.about(command.workflow_id), workflow.version + 1
    if isinstance(command, CancelWorkflow):
        by, reason = command.cancelled_by, command.reason
        draft.emit(WorkflowCancelled(**about, cancelled_by=by, reason=reason, version=version))
        return
    if command.updates is not None:
        patched(workflow.state, command.updates)
    match command:
        case CompleteWorkflow():
            draft.emit(WorkflowCompleted(**about, result=command.result, version=version, updates=command.updates))
        case FailWorkflow():
            draft.emit(
                WorkflowFailed(
                    **about, error=command.error, result=command.result, version=version, updates=command.updates
                )
            )


def _remove(draft: Draft, command: RemoveWorkflow, workflow: Workflow) -> None:
    if workflow.ended_ms is None:
        raise Refusal("workflow_live", f"workflow {command.workflow_id} is {workflow.status}: cancel it first")
    over_ms = draft.now_ms - workflow.ended_ms
    if over_ms < command.older_than_ms:
        reason = f"workflow {command.workflow_id} has been over for {over_ms} ms, not for {command.older_than_ms}"
        raise Refusal("workflow_recent", reason)
    draft.emit(WorkflowRemoved(**draft.about(command.workflow_id), version=workflow.version))
