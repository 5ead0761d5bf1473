"""Which event answers which command, and what a refusal means to the one who asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from diurna.seen import Seen
from diurna.workflow_refusals import workflow_refusal
from diurna_schemas import agents, locks, workflows
from diurna_schemas.errors import AgentOffline, Conflict, NotFound, Refused, ResourceLockError
from diurna_schemas.ids import Position
from diurna_schemas.message import Command, Event
from diurna_schemas.topics import FAMILIES, Family, partition_of
from diurna_streams.log import TopicPartition

REFUSED: Final = frozenset(
    event.type_name
    for event in (agents.AgentCommandRefused, locks.LockCommandRefused, workflows.WorkflowCommandRefused)
)
REPEATED: Final = frozenset(
    event.type_name
    for event in (agents.AgentCommandRepeated, locks.LockCommandRepeated, workflows.WorkflowCommandRepeated)
)
Repeated = agents.AgentCommandRepeated | locks.LockCommandRepeated | workflows.WorkflowCommandRepeated

_FACTS: Final[dict[type[Command], tuple[type[Event], ...]]] = {
    agents.RegisterAgent: (agents.AgentRegistered,),
    agents.DeregisterAgent: (agents.AgentDeregistered,),
    agents.ChangeStatus: (agents.AgentStatusChanged,),
    agents.MarkStale: (agents.AgentWentStale,),
    agents.SubmitRequest: (agents.RequestSubmitted, agents.RequestRejected),
    agents.CompleteRequest: (agents.RequestCompleted, agents.ResponseLate),
    agents.CancelRequest: (agents.RequestCancelled,),
    locks.AcquireLock: (locks.ResourceLocked, locks.LockQueued, locks.LockDenied),
    locks.RenewLock: (locks.LockRenewed,),
    locks.ReleaseLock: (locks.ResourceUnlocked, locks.LockWaitCancelled),
    locks.ForceReleaseLock: (locks.LockForceReleased,),
    workflows.CreateWorkflow: (workflows.WorkflowCreated,),
    workflows.UpdateWorkflowState: (workflows.WorkflowStateUpdated,),
    workflows.UpdateWorkflowStep: (workflows.WorkflowStepChanged,),
    workflows.CompleteWorkflow: (workflows.WorkflowCompleted,),
    workflows.FailWorkflow: (workflows.WorkflowFailed,),
    workflows.CancelWorkflow: (workflows.WorkflowCancelled,),
    workflows.PauseWorkflow: (workflows.WorkflowPaused,),
    workflows.ResumeWorkflow: (workflows.WorkflowResumed,),
    workflows.TakeCheckpoint: (workflows.CheckpointTaken,),
    workflows.RestoreWorkflow: (workflows.WorkflowRestored,),
    workflows.RemoveWorkflow: (workflows.WorkflowRemoved,),
    workflows.RequestApproval: (workflows.ApprovalRequested,),
    workflows.DecideApproval: (workflows.ApprovalDecided,),
}

TERMINAL: Final = frozenset(
    event.type_name
    for event in (
        agents.RequestCompleted,
        agents.RequestRejected,
        agents.RequestTimedOut,
        agents.RequestCancelled,
        agents.RequestDeadLettered,
    )
)
"""The types of the one event that ends a request."""


_FAMILY_OF: Final = {family.commands: family for family in FAMILIES}


@dataclass(frozen=True, slots=True)
class Answer:
    """The event that answers a command, where it stands, and whether the command had been decided before.

    `repetition` is the event that says so, which of a lock also tells where it stands now.
    """

    event: Event
    position: Position
    id: str = ""
    repetition: Repeated | None = None

    @property
    def is_repeated(self) -> bool:
        return self.repetition is not None


def answers_of(command: type[Command]) -> frozenset[str]:
    """The types of the facts a command may become. Time passes with every command, so other facts may come with it."""
    return frozenset(fact.type_name for fact in _FACTS.get(command, ()))


def is_answer(command: Command, seen: Seen) -> bool:
    """Whether a fact of the right type, caused by this command, is its answer.

    Time passes with a command: whoever asks for a lock may by that give it to another who waits.
    """
    if not isinstance(command, locks.AcquireLock) or seen.type_name != locks.ResourceLocked.type_name:
        return True
    event = seen.decoded()
    return isinstance(event, locks.ResourceLocked) and event.lock_id == command.lock_id


def family_of(topic: str) -> Family:
    """The family whose commands stand on this topic."""
    return _FAMILY_OF[topic]


def events_of(command: Command) -> TopicPartition:
    """The partition in which a command is answered."""
    return TopicPartition(family_of(command.topic).events, partition_of(command.key))


def raise_refusal(command: Command, event: Event) -> None:
    """Raises what a refusal says.

    `NotFound`, `VersionConflict`, `ResourceLockError`, `Conflict`, `AgentOffline` or `Refused`.
    """
    match event:
        case agents.AgentCommandRefused():
            raise _refusal(command, event.code, event.reason, event.about)
        case workflows.WorkflowCommandRefused():
            raise workflow_refusal(command, event)
        case locks.LockCommandRefused():
            raise ResourceLockError(event.resource_id, event.reason, code=event.code)
        case _:
            return


_CONFLICTS: Final = frozenset({"request_over", "request_exists", "already_exists", "not_dispatched", "conflict"})


def _refusal(command: Command, code: str, reason: str, about: str) -> Refused:
    error: Refused
    if code.endswith("not_found") or code.startswith("no_such"):
        error = NotFound(_KINDS.get(type(command), "agent"), about)
    elif code == "agent_offline":
        error = AgentOffline(command.key, reason)
    elif code in _CONFLICTS or code.endswith(("_exists", "_over", "_expired", "_decided")):
        error = Conflict(reason)
    else:
        error = Refused(reason)
    error.code = code
    error.reason = reason
    return error


_KINDS: Final[dict[type[Command], str]] = {
    agents.CancelRequest: "request",
    agents.CompleteRequest: "request",
    agents.DeregisterAgent: "agent",
    agents.ChangeStatus: "agent",
}
