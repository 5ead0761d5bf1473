"""The commands and events of workflows and of the approvals they wait for."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diurna_schemas import topics
from diurna_schemas.ids import Id, Name
from diurna_schemas.message import Command, Event, JsonText, Milliseconds, Offset, SmallJson, Text

WorkflowStatus = Literal["running", "paused", "completed", "failed", "cancelled"]
Version = Annotated[int, Field(ge=1)]


class _WorkflowsCommand(Command):
    topic: ClassVar[str] = topics.WORKFLOWS.commands
    workflow_id: Id

    @property
    def key(self) -> str:
        return self.workflow_id

    @property
    def correlation(self) -> str | None:
        return self.workflow_id


class CreateWorkflow(_WorkflowsCommand):
    """A workflow begins, at version 1. `state` and `metadata` are JSON objects."""

    type_name: ClassVar[str] = "workflow.create"
    workflow_type: Name
    state: JsonText = "{}"
    participating_agents: list[Name] = []
    metadata: SmallJson = "{}"


class UpdateWorkflowState(_WorkflowsCommand):
    """`updates` (a JSON object) is merged into the state; with `expected_version`, only at that version."""

    type_name: ClassVar[str] = "workflow.update_state"
    updates: JsonText
    agent_id: Name | None = None
    expected_version: Version | None = None


class UpdateWorkflowStep(_WorkflowsCommand):
    """The workflow is at another step now."""

    type_name: ClassVar[str] = "workflow.update_step"
    step: Name
    agent_id: Name | None = None
    expected_version: Version | None = None


class CompleteWorkflow(_WorkflowsCommand):
    """The workflow is done. `result` is any JSON value."""

    type_name: ClassVar[str] = "workflow.complete"
    result: JsonText | None = None


class FailWorkflow(_WorkflowsCommand):
    """The workflow cannot go on."""

    type_name: ClassVar[str] = "workflow.fail"
    error: Text
    result: JsonText | None = None


class CancelWorkflow(_WorkflowsCommand):
    """Somebody no longer wants the workflow."""

    type_name: ClassVar[str] = "workflow.cancel"
    cancelled_by: Name = "unknown"
    reason: Text = ""


class RequestApproval(_WorkflowsCommand):
    """A person is to decide `question` until `expires_after_ms` have passed; null waits for ever."""

    type_name: ClassVar[str] = "workflow.request_approval"
    approval_id: Id
    question: Text
    details: JsonText = "{}"
    expires_after_ms: Annotated[int, Field(gt=0)] | None = None


class DecideApproval(_WorkflowsCommand):
    """A person, or a policy, approves or rejects."""

    type_name: ClassVar[str] = "workflow.decide_approval"
    approval_id: Id
    is_approved: bool
    decided_by: Name
    reason: Text = ""


class TickWorkflows(Command):
    """Time has passed: approvals may have expired."""

    type_name: ClassVar[str] = "workflows.tick"
    topic: ClassVar[str] = topics.WORKFLOWS.commands
    partition: Annotated[int, Field(ge=0)]

    @property
    def key(self) -> str:
        return f"tick-{self.partition}"

    @property
    def is_tick(self) -> bool:
        return True


class _WorkflowsEvent(Event):
    topic: ClassVar[str] = topics.WORKFLOWS.events
    workflow_id: Id

    @property
    def key(self) -> str:
        return self.workflow_id

    @property
    def correlation(self) -> str | None:
        return self.workflow_id


class WorkflowCreated(_WorkflowsEvent):
    """A workflow began, at version 1."""

    type_name: ClassVar[str] = "workflow.created"
    workflow_type: Name
    state: JsonText
    participating_agents: list[Name]
    metadata: SmallJson
    version: Version


class WorkflowStateUpdated(_WorkflowsEvent):
    """`updates` (a JSON object) was merged into the state, giving `version`."""

    type_name: ClassVar[str] = "workflow.state_updated"
    updates: JsonText
    agent_id: Name | None
    version: Version


class WorkflowStepChanged(_WorkflowsEvent):
    """The workflow is at `step`, giving `version`."""

    type_name: ClassVar[str] = "workflow.step_changed"
    step: Name
    agent_id: Name | None
    version: Version


class WorkflowCompleted(_WorkflowsEvent):
    """The workflow is done."""

    type_name: ClassVar[str] = "workflow.completed"
    result: JsonText | None
    version: Version


class WorkflowFailed(_WorkflowsEvent):
    """The workflow could not go on."""

    type_name: ClassVar[str] = "workflow.failed"
    error: Text
    result: JsonText | None
    version: Version


class WorkflowCancelled(_WorkflowsEvent):
    """Somebody no longer wanted the workflow."""

    type_name: ClassVar[str] = "workflow.cancelled"
    cancelled_by: Name
    reason: Text
    version: Version


class ApprovalRequested(_WorkflowsEvent):
    """A person is to decide `question`, until `expires_at_ms` where it is given."""

    type_name: ClassVar[str] = "workflow.approval_requested"
    approval_id: Id
    question: Text
    details: JsonText
    expires_at_ms: Milliseconds | None


class ApprovalDecided(_WorkflowsEvent):
    """A person, or a policy, approved or rejected."""

    type_name: ClassVar[str] = "workflow.approval_decided"
    approval_id: Id
    is_approved: bool
    decided_by: Name
    reason: Text


class ApprovalExpired(_WorkflowsEvent):
    """Nobody decided in time."""

    type_name: ClassVar[str] = "workflow.approval_expired"
    approval_id: Id


class WorkflowCommandRefused(_WorkflowsEvent):
    """The state did not allow the command. `version` is the current one, 0 where there is no workflow."""

    type_name: ClassVar[str] = "workflows.command_refused"
    command_type: Name
    code: Name
    reason: Text
    version: Annotated[int, Field(ge=0)]


class WorkflowCommandRepeated(_WorkflowsEvent):
    """The command had been decided before, at command offset `first_offset`: nothing else happened."""

    type_name: ClassVar[str] = "workflows.command_repeated"
    command_type: Name
    first_offset: Offset


WorkflowsCommand = (
    CreateWorkflow
    | UpdateWorkflowState
    | UpdateWorkflowStep
    | CompleteWorkflow
    | FailWorkflow
    | CancelWorkflow
    | RequestApproval
    | DecideApproval
    | TickWorkflows
)
WorkflowsEvent = (
    WorkflowCreated
    | WorkflowStateUpdated
    | WorkflowStepChanged
    | WorkflowCompleted
    | WorkflowFailed
    | WorkflowCancelled
    | ApprovalRequested
    | ApprovalDecided
    | ApprovalExpired
    | WorkflowCommandRefused
    | WorkflowCommandRepeated
)
