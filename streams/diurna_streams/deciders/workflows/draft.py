"""A decision about workflows in the making."""

from __future__ import annotations

from typing import TypedDict

from diurna_schemas.workflows import (
    CancelWorkflow,
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
    UpdateWorkflowState,
    UpdateWorkflowStep,
    WorkflowCommandRefused,
    WorkflowsEvent,
)
from diurna_streams.deciders.rules import Decision
from diurna_streams.deciders.workflows.evolve import evolve
from diurna_streams.deciders.workflows.state import Workflow, WorkflowsState

Change = (
    UpdateWorkflowState
    | UpdateWorkflowStep
    | CompleteWorkflow
    | FailWorkflow
    | CancelWorkflow
    | PauseWorkflow
    | ResumeWorkflow
    | TakeCheckpoint
    | RestoreWorkflow
    | RemoveWorkflow
    | RequestApproval
    | DecideApproval
)
"""What may be said about a workflow that is there."""


class Refusal(Exception):
    """The state does not allow the command: nothing but this is decided."""

    def __init__(self, code: str, reason: str, size_bytes: int | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.size_bytes = size_bytes


class About(TypedDict):
    """The fields every event of workflows has."""

    command_id: str
    at_ms: int
    workflow_id: str


class Draft:
    """Each event is folded in as it is emitted, so that the next rule sees it."""

    def __init__(self, state: WorkflowsState, command_id: str, now_ms: int, offset: int) -> None:
        self.state = state
        self.now_ms = now_ms
        self._command_id = command_id
        self._offset = offset
        self._events: list[WorkflowsEvent] = []

    def decision(self) -> Decision[WorkflowsState, WorkflowsEvent]:
        return Decision(self.state, tuple(self._events))

    def about(self, workflow_id: str) -> About:
        return {"command_id": self._command_id, "at_ms": self.now_ms, "workflow_id": workflow_id}

    def emit(self, event: WorkflowsEvent) -> None:
        self._events.append(event)
        self.state = evolve(self.state, event, self._offset)

    def refuse(self, command: CreateWorkflow | Change, refusal: Refusal, workflow: Workflow | None) -> None:
        """Answers no, with the version the workflow is at."""
        self.emit(
            WorkflowCommandRefused(
                **self.about(command.workflow_id),
                command_type=command.type_name,
                code=refusal.code,
                reason=refusal.reason,
                version=0 if workflow is None else workflow.version,
                size_bytes=refusal.size_bytes,
            )
        )
