"""The commands and events of locks on resources."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from diurna_schemas import topics
from diurna_schemas.ids import Id, Name
from diurna_schemas.message import Command, Event, Milliseconds, Offset, SmallJson, Text

LEASE_MS_MIN: Final = 1_000
LEASE_MS_MAX: Final = 3_600_000
WAIT_MS_MAX: Final = 86_400_000

Lease = Annotated[int, Field(ge=LEASE_MS_MIN, le=LEASE_MS_MAX)]
Token = Annotated[int, Field(ge=0, lt=2**53)]
LockStanding = Literal["held", "queued", "gone"]


class _LocksCommand(Command):
    topic: ClassVar[str] = topics.LOCKS.commands
    resource_id: Id

    @property
    def key(self) -> str:
        return self.resource_id


class AcquireLock(_LocksCommand):
    """An agent wants the resource for `lease_ms`, and waits for it up to `wait_ms`; 0 does not wait."""

    type_name: ClassVar[str] = "lock.acquire"
    lock_id: Id
    agent_id: Name
    lease_ms: Lease
    wait_ms: Annotated[int, Field(ge=0, le=WAIT_MS_MAX)] = 0
    reason: Text = ""
    metadata: SmallJson = "{}"


class RenewLock(_LocksCommand):
    """A holder goes on holding, for `lease_ms` from now; a grant from the queue is claimed by this."""

    type_name: ClassVar[str] = "lock.renew"
    lock_id: Id
    agent_id: Name
    lease_ms: Lease | None = None


class ReleaseLock(_LocksCommand):
    """A holder, or a waiter, is done. Without `lock_id`, whatever the agent has on this resource."""

    type_name: ClassVar[str] = "lock.release"
    lock_id: Id | None = None
    agent_id: Name


class ForceReleaseLock(_LocksCommand):
    """An administrator takes the lock away; for `grace_ms` nobody gets it, so that the old holder can stop."""

    type_name: ClassVar[str] = "lock.force_release"
    released_by: Name
    reason: Annotated[str, Field(min_length=1, max_length=8_000)]
    grace_ms: Annotated[int, Field(ge=0, le=LEASE_MS_MAX)] = 0


class TickLocks(Command):
    """Time has passed: leases and waits may be over."""

    type_name: ClassVar[str] = "locks.tick"
    topic: ClassVar[str] = topics.LOCKS.commands
    partition: Annotated[int, Field(ge=0)]

    @property
    def key(self) -> str:
        return f"tick-{self.partition}"

    @property
    def is_tick(self) -> bool:
        return True


class _LocksEvent(Event):
    topic: ClassVar[str] = topics.LOCKS.events
    resource_id: Id

    @property
    def key(self) -> str:
        return self.resource_id


class ResourceLocked(_LocksEvent):
    """The lock is the agent's until `deadline_ms`. A provisional grant came from the queue and must be renewed soon.

    `fencing_token` grows with every grant of a resource: whoever guards it refuses smaller ones.
    """

    type_name: ClassVar[str] = "resource.locked"
    lock_id: Id
    agent_id: Name
    fencing_token: Token
    lease_ms: Lease
    deadline_ms: Milliseconds
    is_provisional: bool
    waited_ms: Milliseconds
    reason: Text
    metadata: SmallJson


class LockQueued(_LocksEvent):
    """The lock is another's; the agent waits at `position` (1 is next) until `until_ms`."""

    type_name: ClassVar[str] = "lock.queued"
    lock_id: Id
    agent_id: Name
    position: Annotated[int, Field(ge=1)]
    holder_agent_id: Name | None
    lease_ms: Lease
    deadline_ms: Milliseconds
    reason: Text
    metadata: SmallJson


class LockDenied(_LocksEvent):
    """The lock is another's, and the agent does not wait."""

    type_name: ClassVar[str] = "lock.denied"
    lock_id: Id
    agent_id: Name
    code: Name
    error: Text
    holder_agent_id: Name | None
    holder_deadline_ms: Milliseconds | None


class LockRenewed(_LocksEvent):
    """The holder goes on holding, until `deadline_ms`."""

    type_name: ClassVar[str] = "lock.renewed"
    lock_id: Id
    agent_id: Name
    fencing_token: Token
    lease_ms: Lease
    deadline_ms: Milliseconds


class ResourceUnlocked(_LocksEvent):
    """The holder gave the lock back."""

    type_name: ClassVar[str] = "resource.unlocked"
    lock_id: Id
    agent_id: Name
    fencing_token: Token
    held_ms: Milliseconds


class LockExpired(_LocksEvent):
    """The lease ended by itself."""

    type_name: ClassVar[str] = "lock.expired"
    lock_id: Id
    agent_id: Name
    fencing_token: Token
    held_ms: Milliseconds


class LockForceReleased(_LocksEvent):
    """An administrator took the lock away; nobody gets it before `not_before_ms`."""

    type_name: ClassVar[str] = "lock.force_released"
    lock_id: Id
    agent_id: Name
    fencing_token: Token
    held_ms: Milliseconds
    released_by: Name
    reason: Text
    not_before_ms: Milliseconds


class LockWaitTimedOut(_LocksEvent):
    """A waiter's time was over before its turn came; the lock was with `holder_agent_id` then."""

    type_name: ClassVar[str] = "lock.wait_timed_out"
    lock_id: Id
    agent_id: Name
    waited_ms: Milliseconds
    holder_agent_id: Name | None


class LockWaitCancelled(_LocksEvent):
    """A waiter no longer waits."""

    type_name: ClassVar[str] = "lock.wait_cancelled"
    lock_id: Id
    agent_id: Name
    waited_ms: Milliseconds


class LockCommandRefused(_LocksEvent):
    """The state did not allow the command: nothing else happened."""

    type_name: ClassVar[str] = "locks.command_refused"
    command_type: Name
    code: Name
    reason: Text


class LockCommandRepeated(_LocksEvent):
    """The command had been decided before, at `first_offset`; the rest tells where its lock stands now."""

    type_name: ClassVar[str] = "locks.command_repeated"
    command_type: Name
    first_offset: Offset
    lock_id: Id | None
    standing: LockStanding
    fencing_token: Token | None
    deadline_ms: Milliseconds | None
    is_provisional: bool
    position: Annotated[int, Field(ge=1)] | None


LocksCommand = AcquireLock | RenewLock | ReleaseLock | ForceReleaseLock | TickLocks
LocksEvent = (
    ResourceLocked
    | LockQueued
    | LockDenied
    | LockRenewed
    | ResourceUnlocked
    | LockExpired
    | LockForceReleased
    | LockWaitTimedOut
    | LockWaitCancelled
    | LockCommandRefused
    | LockCommandRepeated
)
