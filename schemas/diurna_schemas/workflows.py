"""The commands and events of workflows and of the approvals they wait for."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from diurna_schemas import topics
from diurna_schemas.ids import Id, Name
from diurna_schemas.message import (
    PAYLOAD_BYTES_MAX,
    Command,
    Event,
    JsonText,
    Milliseconds,
    Offset,
    SmallJson,
    Text,
)

WorkflowStatus = Literal["running", "paused", "completed", "failed", "cancelled"]
Version = Annotated[int, Field(ge=1, le=2**53)]
Roles = Annotated[list[Name], Field(max_length=20)]

EXPIRY_MS_MAX: Final = 3_660 * 86_400_000
"""Ten years: whoever wants to wait longer waits for ever."""
STATE_BYTES_MAX: Final = PAYLOAD_BYTES_MAX
"""The largest state a workflow may have, as compact JSON in UTF-8."""


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
    step: Name | None = None


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
    """The workflow is done. `result` is any JSON value; `updates` are merged into the state first."""

    type_name: ClassVar[str] = "workflow.complete"
    result: JsonText | None = None
    updates: JsonText | None = None


class FailWorkflow(_WorkflowsCommand):
    """The workflow cannot go on. `updates` are merged into the state first."""

    type_name: ClassVar[str] = "workflow.fail"
    error: Text
    result: JsonText | None = None
    updates: JsonText | None = None


class CancelWorkflow(_WorkflowsCommand):
    """Somebody no longer wants the workflow."""

    type_name: ClassVar[str] = "workflow.cancel"
    cancelled_by: Name = "unknown"
    reason: Text = ""


class PauseWorkflow(_WorkflowsCommand):
    """Nobody is to work on the workflow for now."""

    type_name: ClassVar[str] = "workflow.pause"
    paused_by: Name = "unknown"
    reason: Text = ""


class ResumeWorkflow(_WorkflowsCommand):
    """The workflow goes on."""

    type_name: ClassVar[str] = "workflow.resume"
    resumed_by: Name = "unknown"
    reason: Text = ""


class TakeCheckpoint(_WorkflowsCommand):
    """The state as it is now is to be kept under an id, with `data` (a JSON object) beside it."""

    type_name: ClassVar[str] = "workflow.take_checkpoint"
    checkpoint_id: Id
    step: Name
    agent_id: Name | None = None
    data: JsonText = "{}"


class RestoreWorkflow(_WorkflowsCommand):
    """The workflow goes back to a checkpoint; with `expected_version`, only at that version."""

    type_name: ClassVar[str] = "workflow.restore"
    checkpoint_id: Id
    agent_id: Name | None = None
    expected_version: Version | None = None


class RemoveWorkflow(_WorkflowsCommand):
    """A workflow that has been over for at least `older_than_ms` is to be forgotten; its events stay."""

    type_name: ClassVar[str] = "workflow.remove"
    older_than_ms: Milliseconds = 0


class RequestApproval(_WorkflowsCommand):
    """A person is to decide `question` until `expires_after_ms` have passed; null waits for ever.

    With `roles`, only somebody who has one of them.
    """

    type_name: ClassVar[str] = "workflow.request_approval"
    approval_id: Id
    question: Text
    details: JsonText = "{}"
    expires_after_ms: Annotated[int, Field(gt=0, le=EXPIRY_MS_MAX)] | None = None
    roles: Roles = []


class DecideApproval(_WorkflowsCommand):
    """A person, or a policy, approves or rejects. `roles` are those of who decides."""

    type_name: ClassVar[str] = "workflow.decide_approval"
    approval_id: Id
    is_approved: bool
    decided_by: Name
    reason: Text = ""
    roles: Roles = []


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
    step: Name | None = None


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
    """The workflow is done; `updates` were merged into the state."""

    type_name: ClassVar[str] = "workflow.completed"
    result: JsonText | None
    version: Version
    updates: JsonText | None = None


class WorkflowFailed(_WorkflowsEvent):
    """The workflow could not go on; `updates` were merged into the state."""

    type_name: ClassVar[str] = "workflow.failed"
    error: Text
    result: JsonText | None
    version: Version
    updates: JsonText | None = None


class WorkflowCancelled(_WorkflowsEvent):
    """Somebody no longer wanted the workflow."""

    type_name: ClassVar[str] = "workflow.cancelled"
    cancelled_by: Name
    reason: Text
    version: Version


class WorkflowPaused(_WorkflowsEvent):
    """Nobody is to work on the workflow for now."""

    type_name: ClassVar[str] = "workflow.paused"
    paused_by: Name
    reason: Text
    version: Version


class WorkflowResumed(_WorkflowsEvent):
    """The workflow goes on."""

    type_name: ClassVar[str] = "workflow.resumed"
    resumed_by: Name
    reason: Text
    version: Version


class CheckpointTaken(_WorkflowsEvent):
    """The state at `version` is kept under an id, with `data` (a JSON object) beside it. The version stays."""

    type_name: ClassVar[str] = "workflow.checkpoint"
    checkpoint_id: Id
    step: Name
    agent_id: Name | None
    data: JsonText
    version: Version


class WorkflowRestored(_WorkflowsEvent):
    """The workflow is at a checkpoint again: `state` is its whole state now. `data` is the checkpoint's own."""

    type_name: ClassVar[str] = "workflow.restored"
    checkpoint_id: Id
    step: Name
    state: JsonText
    data: JsonText
    agent_id: Name | None
    version: Version


class WorkflowRemoved(_WorkflowsEvent):
    """A workflow that was over is forgotten, its checkpoints with it; `version` was its last."""

    type_name: ClassVar[str] = "workflow.removed"
    version: Version


class ApprovalRequested(_WorkflowsEvent):
    """A person is to decide `question`, until `expires_at_ms` where it is given; with `roles`, who has one of them."""

    type_name: ClassVar[str] = "workflow.approval_requested"
    approval_id: Id
    question: Text
    details: JsonText
    expires_at_ms: Milliseconds | None
    roles: Roles = []


class ApprovalDecided(_WorkflowsEvent):
    """A person, or a policy, approved or rejected. `roles` are those of who decided."""

    type_name: ClassVar[str] = "workflow.approval_decided"
    approval_id: Id
    is_approved: bool
    decided_by: Name
    reason: Text
    roles: Roles = []


class ApprovalExpired(_WorkflowsEvent):
    """Nobody decided in time."""

    type_name: ClassVar[str] = "workflow.approval_expired"
    approval_id: Id


class WorkflowCommandRefused(_WorkflowsEvent):
    """The state did not allow the command. `version` is the current one, 0 where there is no workflow.

    `size_bytes` is how large the state would have been, where it would have been too large.
    """

    type_name: ClassVar[str] = "workflows.command_refused"
    command_type: Name
    code: Name
    reason: Text
    version: Annotated[int, Field(ge=0)]
    size_bytes: Annotated[int, Field(ge=0)] | None = None


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
    | PauseWorkflow
    | ResumeWorkflow
    | TakeCheckpoint
    | RestoreWorkflow
    | RemoveWorkflow
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
    | WorkflowPaused
    | WorkflowResumed
    | CheckpointTaken
    | WorkflowRestored
    | WorkflowRemoved
    | ApprovalRequested
    | ApprovalDecided
    | ApprovalExpired
    | WorkflowCommandRefused
    | WorkflowCommandRepeated
)
