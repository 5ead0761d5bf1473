"""The rules about workflows: whose version counts, what an end ends, who may still approve."""

from __future__ import annotations

from typing import Final, TypedDict, assert_never

from diurna_schemas.message import Heading
from diurna_schemas.workflows import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    CancelWorkflow,
    CompleteWorkflow,
    CreateWorkflow,
    DecideApproval,
    FailWorkflow,
    RequestApproval,
    TickWorkflows,
    UpdateWorkflowState,
    UpdateWorkflowStep,
    WorkflowCancelled,
    WorkflowCommandRefused,
    WorkflowCommandRepeated,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
    WorkflowsCommand,
    WorkflowsEvent,
    WorkflowStateUpdated,
    WorkflowStepChanged,
)
from diurna_streams.deciders.rules import Decision
from diurna_streams.deciders.workflows.evolve import evolve
from diurna_streams.deciders.workflows.state import Workflow, WorkflowsState

DUE_MAX: Final = 500
"""Expiries one command settles; the rest is settled by the tick that follows at once."""
APPROVALS_MAX: Final = 100
"""Approvals one workflow may wait for at a time."""


def decide(
    state: WorkflowsState, command: WorkflowsCommand, heading: Heading
) -> Decision[WorkflowsState, WorkflowsEvent]:
    """Time first, then the command; a command seen before is answered and changes nothing."""
    draft = _Draft(state, command.command_id, max(state.now_ms, heading.now_ms), heading.offset)
    draft.let_time_pass()
    if isinstance(command, TickWorkflows):
        return draft.decision()
    first_offset = state.seen.get(command.command_id)
    if first_offset is not None:
        draft.emit(
            WorkflowCommandRepeated(
                **draft.about(command.workflow_id), command_type=command.type_name, first_offset=first_offset
            )
        )
    elif isinstance(command, CreateWorkflow):
        draft.create(command)
    else:
        draft.change(command)
    return draft.decision()


_Change = (
    UpdateWorkflowState
    | UpdateWorkflowStep
    | CompleteWorkflow
    | FailWorkflow
    | CancelWorkflow
    | RequestApproval
    | DecideApproval
)


class _About(TypedDict):
    """The fields every event of workflows has."""

    command_id: str
    at_ms: int
    workflow_id: str


class _Draft:
    """A decision in the making: each event is folded in as it is emitted, so that the next rule sees it."""

    def __init__(self, state: WorkflowsState, command_id: str, now_ms: int, offset: int) -> None:
        self.state = state
        self.now_ms = now_ms
        self._command_id = command_id
        self._offset = offset
        self._events: list[WorkflowsEvent] = []

    def decision(self) -> Decision[WorkflowsState, WorkflowsEvent]:
        return Decision(self.state, tuple(self._events))

    def about(self, workflow_id: str) -> _About:
        return {"command_id": self._command_id, "at_ms": self.now_ms, "workflow_id": workflow_id}

    def emit(self, event: WorkflowsEvent) -> None:
        self._events.append(event)
        self.state = evolve(self.state, event, self._offset)

    def let_time_pass(self) -> None:
        """Every approval whose time is over, in order of its time."""
        for _ in range(DUE_MAX):
            due = self.state.due.first
            if due is None or due.at_ms > self.now_ms:
                return
            self.emit(ApprovalExpired(**self.about(due.workflow_id), approval_id=due.approval_id))

    def create(self, command: CreateWorkflow) -> None:
        there = self.state.workflows.get(command.workflow_id)
        if there is not None:
            self._refuse(command, "workflow_exists", f"workflow {command.workflow_id} exists already", there)
            return
        self.emit(
            WorkflowCreated(
                **self.about(command.workflow_id),
                workflow_type=command.workflow_type,
                state=command.state,
                participating_agents=command.participating_agents,
                metadata=command.metadata,
                version=1,
            )
        )

    def change(self, command: _Change) -> None:
        workflow = self.state.workflows.get(command.workflow_id)
        if workflow is None:
            self._refuse(command, "not_found", f"no workflow with id {command.workflow_id!r}", None)
        elif workflow.is_over:
            self._refuse(command, "workflow_over", f"workflow {command.workflow_id} is {workflow.status}", workflow)
        elif isinstance(command, RequestApproval | DecideApproval):
            self._approve(command, workflow)
        else:
            self._advance(command, workflow)

    def _advance(
        self,
        command: UpdateWorkflowState | UpdateWorkflowStep | CompleteWorkflow | FailWorkflow | CancelWorkflow,
        workflow: Workflow,
    ) -> None:
        about, version = self.about(command.workflow_id), workflow.version + 1
        if isinstance(command, UpdateWorkflowState | UpdateWorkflowStep):
            expected = command.expected_version
            if expected is not None and expected != workflow.version:
                reason = f"{command.workflow_id} is at version {workflow.version}, not {expected}"
                self._refuse(command, "version_conflict", reason, workflow)
                return
        match command:
            case UpdateWorkflowState():
                self.emit(
                    WorkflowStateUpdated(**about, updates=command.updates, agent_id=command.agent_id, version=version)
                )
            case UpdateWorkflowStep():
                self.emit(WorkflowStepChanged(**about, step=command.step, agent_id=command.agent_id, version=version))
            case CompleteWorkflow():
                self.emit(WorkflowCompleted(**about, result=command.result, version=version))
            case FailWorkflow():
                self.emit(WorkflowFailed(**about, error=command.error, result=command.result, version=version))
            case CancelWorkflow():
                self.emit(
                    WorkflowCancelled(
                        **about, cancelled_by=command.cancelled_by, reason=command.reason, version=version
                    )
                )
            case _:
                assert_never(command)

    def _approve(self, command: RequestApproval | DecideApproval, workflow: Workflow) -> None:
        about, approval_id = self.about(command.workflow_id), command.approval_id
        is_open, is_settled = approval_id in workflow.approvals, approval_id in workflow.settled
        match command:
            case RequestApproval() if is_open or is_settled:
                self._refuse(command, "approval_exists", f"approval {approval_id} was asked for before", workflow)
            case RequestApproval() if len(workflow.approvals) >= APPROVALS_MAX:
                reason = f"{len(workflow.approvals)} approvals are open already"
                self._refuse(command, "too_many_approvals", reason, workflow)
            case RequestApproval():
                after_ms = command.expires_after_ms
                self.emit(
                    ApprovalRequested(
                        **about,
                        approval_id=approval_id,
                        question=command.question,
                        details=command.details,
                        expires_at_ms=None if after_ms is None else self.now_ms + after_ms,
                    )
                )
            case DecideApproval() if is_open:
                self.emit(
                    ApprovalDecided(
                        **about,
                        approval_id=approval_id,
                        is_approved=command.is_approved,
                        decided_by=command.decided_by,
                        reason=command.reason,
                    )
                )
            case DecideApproval() if is_settled:
                self._refuse(command, "approval_settled", f"approval {approval_id} is settled already", workflow)
            case DecideApproval():
                self._refuse(command, "not_found", f"no approval with id {approval_id!r}", workflow)

    def _refuse(self, command: CreateWorkflow | _Change, code: str, reason: str, workflow: Workflow | None) -> None:
        self.emit(
            WorkflowCommandRefused(
                **self.about(command.workflow_id),
                command_type=command.type_name,
                code=code,
                reason=reason,
                version=0 if workflow is None else workflow.version,
            )
        )
