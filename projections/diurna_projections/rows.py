"""The rows of the tables. Field order is column order, and the key's columns come first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

from diurna_projections.thread_rows import (
    Checkpoint,
    CheckpointBlob,
    CheckpointChunk,
    CheckpointDamage,
    CheckpointThread,
    CheckpointWrites,
)

Row = TypeVar("Row", bound=tuple[Any, ...])
Key = tuple[Any, ...]


class Agent(NamedTuple):
    """An agent as the best of its instances. `capabilities` and `metadata` are JSON."""

    agent_id: str
    agent_name: str
    base_url: str
    capabilities: str
    status: str
    metadata: str
    instances: int
    created_at_ms: int
    updated_at_ms: int
    partition: int
    record_offset: int


class AgentInstance(NamedTuple):
    """One process of an agent. `epoch` is the command offset of its registration."""

    agent_id: str
    instance_id: str
    agent_name: str
    base_url: str
    capabilities: str
    concurrency: int
    status: str
    metadata: str
    epoch: int
    registered_at_ms: int
    updated_at_ms: int
    partition: int
    record_offset: int


class Capability(NamedTuple):
    """Something an agent can do, with the words it is found by, in lower case."""

    agent_id: str
    name: str
    description: str
    tags: str
    words: str
    partition: int
    record_offset: int


class Request(NamedTuple):
    """A request and how it ended. `status` is the request's own; `response_status` what the requester is told."""

    request_id: str
    agent_id: str
    status: str
    source_agent: str
    target_agent: str
    request_type: str
    payload: str
    priority: str
    timeout_ms: int
    attempts_max: int
    correlation_id: str
    metadata: str
    command_id: str
    created_at_ms: int
    submitted_at_ms: int
    deadline_ms: int | None
    dispatched_at_ms: int | None
    instance_id: str | None
    attempts: int
    finished_at_ms: int | None
    response_id: str | None
    response_status: str | None
    result: str | None
    error: str | None
    error_code: str | None
    response_metadata: str
    processing_time_ms: int
    late_responses: int
    partition: int
    record_offset: int


class Workflow(NamedTuple):
    """A workflow at its newest version. `state` is a dictionary here and JSON in the table."""

    workflow_id: str
    workflow_type: str
    status: str
    current_step: str | None
    state: dict[str, Any]
    participating_agents: str
    metadata: str
    result: str | None
    error: str | None
    version: int
    started_at_ms: int
    updated_at_ms: int
    completed_at_ms: int | None
    partition: int
    record_offset: int


class Approval(NamedTuple):
    """A question a workflow waits on: pending, approved, rejected or expired. `roles` is JSON."""

    approval_id: str
    workflow_id: str
    status: str
    question: str
    details: str
    requested_at_ms: int
    expires_at_ms: int | None
    decided_at_ms: int | None
    decided_by: str | None
    reason: str | None
    partition: int
    record_offset: int
    roles: str


class WorkflowCheckpoint(NamedTuple):
    """The version of a workflow that was kept under an id, and the data noted beside it, as JSON.

    The state is not here: it is that of the version, which the events have.
    """

    workflow_id: str
    checkpoint_id: str
    step: str
    agent_id: str | None
    data: str
    version: int
    created_at_ms: int
    partition: int
    record_offset: int


class Lock(NamedTuple):
    """A lock that is held, by what the log says: a lease whose time has passed may still be here, until a tick ends it.

    `asked_offset` names its row in the history.
    """

    resource_id: str
    lock_id: str
    agent_id: str
    fencing_token: int
    lease_ms: int
    acquired_at_ms: int
    deadline_ms: int
    is_provisional: int
    waited_ms: int
    renewals: int
    reason: str
    metadata: str
    asked_offset: int
    partition: int
    record_offset: int


class LockWaiter(NamedTuple):
    """Somebody who waits for a lock; the smallest `asked_offset` is next."""

    resource_id: str
    lock_id: str
    agent_id: str
    lease_ms: int
    asked_at_ms: int
    until_ms: int
    reason: str
    metadata: str
    asked_offset: int
    partition: int
    record_offset: int


class LockHistory(NamedTuple):
    """One wish for a lock, from the first word to the last. `asked_offset` is where the log first speaks of it."""

    resource_id: str
    asked_offset: int
    lock_id: str
    agent_id: str
    status: str
    fencing_token: int | None
    lease_ms: int | None
    asked_at_ms: int
    acquired_at_ms: int | None
    deadline_ms: int | None
    ended_at_ms: int | None
    waited_ms: int | None
    held_ms: int | None
    renewals: int
    is_provisional: int
    reason: str
    metadata: str
    ended_by: str | None
    end_reason: str | None
    partition: int
    record_offset: int


class LockStatistics(NamedTuple):
    """How a resource was fought for, counted since the log began."""

    resource_id: str
    wishes: int
    acquisitions: int
    queued: int
    denials: int
    releases: int
    expirations: int
    forced_releases: int
    wait_timeouts: int
    wait_cancellations: int
    renewals: int
    waited_ms_total: int
    waited_ms_max: int
    held_ms_total: int
    held_ms_max: int
    last_acquired_at_ms: int | None
    partition: int
    record_offset: int


class Heartbeat(NamedTuple):
    """The last sign of life of an instance, at the broker's time."""

    agent_id: str
    instance_id: str
    last_ms: int
    in_flight: int
    status: str
    sent_at_ms: int
    partition: int
    record_offset: int


class DeadLetter(NamedTuple):
    """A record nobody could understand: its source position, its bytes, what was wrong."""

    id: str
    stage: str
    topic: str
    source_partition: int
    source_offset: int
    record_key: bytes | None
    record_value: bytes | None
    record_headers: str
    error_type: str
    error: str
    timestamp_ms: int


class DeadLetterSettlement(NamedTuple):
    """What became of a dead letter: the first verdict."""

    id: str
    verdict: str
    settled_by: str
    reason: str
    answered_at: str | None
    at_ms: int


class LoggedEvent(NamedTuple):
    """An accepted record as it stands on the log: its bytes are decoded when somebody reads it."""

    topic: str
    partition: int
    record_offset: int
    event_id: str
    type: str
    subject: str
    source: str
    correlation_id: str | None
    causation_id: str | None
    at_ms: int
    record_key: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True)
class Table(Generic[Row]):
    """A table: its row, the Postgres type of each column, how many columns are the key.

    `is_checked`: whether equal positions of the log imply equal rows, so that checksums may be compared.
    `is_grouped`: whether folds or readers in memory ask for all rows whose key begins alike.
    """

    name: str
    row: type[Row]
    types: tuple[str, ...]
    key_columns: int
    is_checked: bool = True
    is_grouped: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.row.__annotations__)

    @property
    def key(self) -> tuple[str, ...]:
        return self.columns[: self.key_columns]

    def key_of(self, row: Row) -> Key:
        return row[: self.key_columns]


_POSTGRES: Final = {
    "str": "text",
    "str | None": "text",
    "int": "bigint",
    "int | None": "bigint",
    "bytes": "bytea",
    "bytes | None": "bytea",
    "dict[str, Any]": "json",
}


def _table(
    name: str, row: type[Row], key_columns: int, *, is_checked: bool = True, is_grouped: bool = False
) -> Table[Row]:
    types = tuple(_POSTGRES[str(getattr(kind, "__forward_arg__", kind))] for kind in row.__annotations__.values())
    return Table(name, row, types, key_columns, is_checked, is_grouped)


AGENTS: Final = _table("agents", Agent, 1)
AGENT_INSTANCES: Final = _table("agent_instances", AgentInstance, 2, is_grouped=True)
CAPABILITIES: Final = _table("capabilities", Capability, 2, is_grouped=True)
REQUESTS: Final = _table("requests", Request, 2, is_grouped=True)
WORKFLOWS: Final = _table("workflows", Workflow, 1)
APPROVALS: Final = _table("approvals", Approval, 2, is_grouped=True)
WORKFLOW_CHECKPOINTS: Final = _table("workflow_checkpoints", WorkflowCheckpoint, 2, is_grouped=True)
LOCKS: Final = _table("locks", Lock, 1)
LOCK_WAITERS: Final = _table("lock_waiters", LockWaiter, 2)
LOCK_HISTORY: Final = _table("lock_history", LockHistory, 2)
LOCK_STATISTICS: Final = _table("lock_statistics", LockStatistics, 1)
CHECKPOINT_THREADS: Final = _table("checkpoint_threads", CheckpointThread, 1)
CHECKPOINT_DAMAGES: Final = _table("checkpoint_damages", CheckpointDamage, 1)
CHECKPOINTS: Final = _table("checkpoints", Checkpoint, 3, is_grouped=True)
CHECKPOINT_BLOBS: Final = _table("checkpoint_blobs", CheckpointBlob, 4, is_grouped=True)
CHECKPOINT_WRITES: Final = _table("checkpoint_writes", CheckpointWrites, 4, is_grouped=True)
CHECKPOINT_CHUNKS: Final = _table("checkpoint_chunks", CheckpointChunk, 3, is_grouped=True)
HEARTBEATS: Final = _table("heartbeats", Heartbeat, 2, is_checked=False)
DEAD_LETTERS: Final = _table("dead_letters", DeadLetter, 1, is_checked=False)
DEAD_LETTER_SETTLEMENTS: Final = _table("dead_letter_settlements", DeadLetterSettlement, 1, is_checked=False)
EVENTS: Final = _table("events", LoggedEvent, 3)

TABLES: Final[tuple[Table[Any], ...]] = (
    AGENTS,
    AGENT_INSTANCES,
    CAPABILITIES,
    REQUESTS,
    WORKFLOWS,
    APPROVALS,
    WORKFLOW_CHECKPOINTS,
    LOCKS,
    LOCK_WAITERS,
    LOCK_HISTORY,
    LOCK_STATISTICS,
    CHECKPOINT_THREADS,
    CHECKPOINT_DAMAGES,
    CHECKPOINTS,
    CHECKPOINT_BLOBS,
    CHECKPOINT_WRITES,
    CHECKPOINT_CHUNKS,
    HEARTBEATS,
    DEAD_LETTERS,
    DEAD_LETTER_SETTLEMENTS,
    EVENTS,
)
"""Heartbeats are compacted and dead letters are kept for 30 days, so that neither can be checked against a refill."""
