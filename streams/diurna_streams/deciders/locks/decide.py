"""The rules about locks: one holder, first come first served, and a token that only grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypedDict

from diurna_schemas.locks import (
    AcquireLock,
    ForceReleaseLock,
    LockCommandRefused,
    LockCommandRepeated,
    LockDenied,
    LockExpired,
    LockForceReleased,
    LockQueued,
    LockRenewed,
    LocksCommand,
    LocksEvent,
    LockWaitCancelled,
    LockWaitTimedOut,
    ReleaseLock,
    RenewLock,
    ResourceLocked,
    ResourceUnlocked,
    TickLocks,
)
from diurna_schemas.message import Heading
from diurna_streams.deciders.locks.evolve import evolve
from diurna_streams.deciders.locks.state import Holder, LocksState, Resource, Waiter
from diurna_streams.deciders.rules import Decision

CLAIM_MS: Final = 3_000
"""A grant from the queue must be claimed within this time: a dead waiter costs this, not a whole lease."""
QUEUE_DEPTH_MAX: Final = 200
"""Who may wait for one resource; one more is denied. All of them may time out at once, and must fit into one batch."""
SPARE_BYTES: Final = 480_000
"""What time may decide beside a command; the rest is settled by the tick that follows at once.

Without this bound a crowd of expiries would decide more than can be written, with every command and tick anew: the
partition would stand still for ever.
"""
EVENT_BYTES: Final = 2_000
"""At least an event's bytes, its headers and the longest ids included, its reason and metadata not."""

Phase = Literal[0, 1]


def fencing_token(incarnation: int, command_offset: int, phase: Phase) -> int:
    """Strictly increasing per resource and below 2^53.

    One command may grant a resource twice: to a waiter because the holder's time was over (phase 0), and to the next
    because the command released it (phase 1). The offset alone would give both the same token.
    """
    return incarnation << 44 | 2 * command_offset + phase


def decide(state: LocksState, command: LocksCommand, heading: Heading) -> Decision[LocksState, LocksEvent]:
    """Time first, then the command; a command seen before is answered and changes nothing."""
    draft = _Draft(state, command.command_id, max(state.now_ms, heading.now_ms), heading)
    if isinstance(command, TickLocks):
        draft.let_time_pass(None)
        return draft.decision()
    draft.let_time_pass(command.resource_id)
    first_offset = state.seen.get(command.command_id, draft.now_ms)
    if first_offset is not None:
        draft.repeat(command, first_offset)
        return draft.decision()
    match command:
        case AcquireLock():
            draft.acquire(command)
        case RenewLock():
            draft.renew(command)
        case ReleaseLock():
            draft.release(command)
        case ForceReleaseLock():
            draft.force_release(command)
    return draft.decision()


class _About(TypedDict):
    """The fields every event of locks has."""

    command_id: str
    at_ms: int
    resource_id: str


class _AboutHolder(_About):
    """The fields every end of a lease has."""

    lock_id: str
    agent_id: str
    fencing_token: int
    held_ms: int


class _Draft:
    """A decision in the making: each event is folded in as it is emitted, so that the next rule sees it."""

    def __init__(self, state: LocksState, command_id: str, now_ms: int, heading: Heading) -> None:
        self.state = state
        self.now_ms = now_ms
        self._command_id = command_id
        self._heading = heading
        self._events: list[LocksEvent] = []

    def decision(self) -> Decision[LocksState, LocksEvent]:
        return Decision(self.state, tuple(self._events))

    def let_time_pass(self, resource_id: str | None) -> None:
        """Ends what is over, of the command's own resource always, and of as many others as one command may."""
        spare_bytes = SPARE_BYTES
        if resource_id is not None:
            spare_bytes -= _settled_bytes(self._resource(resource_id))
            self._settle(resource_id)
        while (due := self.state.due.first) is not None and due.at_ms <= self.now_ms:
            spare_bytes -= _settled_bytes(self._resource(due.resource_id))
            if spare_bytes < 0:
                return
            self._settle(due.resource_id)

    def acquire(self, command: AcquireLock) -> None:
        resource = self._resource(command.resource_id)
        holder = resource.holder
        is_used = (holder is not None and holder.lock_id == command.lock_id) or any(
            waiter.lock_id == command.lock_id for waiter in resource.queue
        )
        if is_used:
            self._refuse(command, "lock_id_used", f"lock id {command.lock_id} is in use on {command.resource_id}")
        elif holder is None and not resource.queue and resource.not_before_ms <= self.now_ms:
            self._grant(command.resource_id, _as_waiter(command, self.now_ms), phase=1, is_provisional=False)
        elif command.wait_ms == 0:
            self._deny(command, "locked", _locked_by(command.resource_id, holder), holder)
        elif len(resource.queue) >= QUEUE_DEPTH_MAX:
            self._deny(command, "queue_full", f"{len(resource.queue)} wait for {command.resource_id} already", holder)
        else:
            self._emit(
                LockQueued(
                    **self._about(command.resource_id),
                    lock_id=command.lock_id,
                    agent_id=command.agent_id,
                    position=len(resource.queue) + 1,
                    holder_agent_id=None if holder is None else holder.agent_id,
                    lease_ms=command.lease_ms,
                    deadline_ms=self.now_ms + command.wait_ms,
                    reason=command.reason,
                    metadata=command.metadata,
                )
            )

    def renew(self, command: RenewLock) -> None:
        holder = self._resource(command.resource_id).holder
        if holder is None or holder.lock_id != command.lock_id or holder.agent_id != command.agent_id:
            self._refuse(
                command, "not_holder", f"{command.agent_id} does not hold {command.resource_id} with {command.lock_id}"
            )
            return
        lease_ms = command.lease_ms or holder.lease_ms
        self._emit(
            LockRenewed(
                **self._about(command.resource_id),
                lock_id=holder.lock_id,
                agent_id=holder.agent_id,
                fencing_token=holder.token,
                lease_ms=lease_ms,
                deadline_ms=self.now_ms + lease_ms,
            )
        )

    def release(self, command: ReleaseLock) -> None:
        """Places in the queue first, so that the lock is not given to one of them."""
        resource = self._resource(command.resource_id)
        holder, is_meant = resource.holder, _is_meant_by(command)
        waiting = [waiter for waiter in resource.queue if is_meant(waiter)]
        for waiter in waiting:
            self._emit(
                LockWaitCancelled(
                    **self._about(command.resource_id),
                    lock_id=waiter.lock_id,
                    agent_id=waiter.agent_id,
                    waited_ms=self.now_ms - waiter.since_ms,
                )
            )
        if holder is not None and is_meant(holder):
            self._emit(ResourceUnlocked(**self._about_holder(command.resource_id, holder)))
            self._promote(command.resource_id, phase=1)
        elif not waiting:
            whose = "" if holder is None else f"; it is locked by {holder.agent_id}"
            self._refuse(command, "not_holder", f"{command.agent_id} does not hold {command.resource_id}{whose}")

    def force_release(self, command: ForceReleaseLock) -> None:
        holder = self._resource(command.resource_id).holder
        if holder is None:
            self._refuse(command, "not_held", f"nobody holds {command.resource_id}")
            return
        # Never longer than the old lease: then the holder has stopped by itself.
        not_before_ms = min(self.now_ms + command.grace_ms, holder.deadline_ms)
        self._emit(
            LockForceReleased(
                **self._about_holder(command.resource_id, holder),
                released_by=command.released_by,
                reason=command.reason,
                not_before_ms=not_before_ms if command.grace_ms else 0,
            )
        )
        self._promote(command.resource_id, phase=1)

    def repeat(self, command: AcquireLock | RenewLock | ReleaseLock | ForceReleaseLock, first_offset: int) -> None:
        resource = self._resource(command.resource_id)
        lock_id = None if isinstance(command, ForceReleaseLock) else command.lock_id
        holder = resource.holder if resource.holder is not None and resource.holder.lock_id == lock_id else None
        places = (place for place, waiter in enumerate(resource.queue, start=1) if waiter.lock_id == lock_id)
        position = next(places, None)
        self._emit(
            LockCommandRepeated(
                **self._about(command.resource_id),
                command_type=command.type_name,
                first_offset=first_offset,
                lock_id=lock_id,
                standing="held" if holder is not None else "queued" if position is not None else "gone",
                fencing_token=None if holder is None else holder.token,
                deadline_ms=None if holder is None else holder.deadline_ms,
                is_provisional=holder is not None and holder.is_provisional,
                position=position,
            )
        )

    def _settle(self, resource_id: str) -> None:
        """Waits that are over end first, so that nobody is promoted after its time; then the lease; then the next."""
        resource = self._resource(resource_id)
        holder = resource.holder
        for waiter in resource.queue:
            if waiter.until_ms <= self.now_ms:
                self._emit(
                    LockWaitTimedOut(
                        **self._about(resource_id),
                        lock_id=waiter.lock_id,
                        agent_id=waiter.agent_id,
                        waited_ms=self.now_ms - waiter.since_ms,
                        holder_agent_id=None if holder is None else holder.agent_id,
                    )
                )
        if holder is not None and holder.deadline_ms <= self.now_ms:
            self._emit(LockExpired(**self._about_holder(resource_id, holder)))
        self._promote(resource_id, phase=0)

    def _promote(self, resource_id: str, *, phase: Phase) -> None:
        resource = self._resource(resource_id)
        if resource.holder is None and resource.queue and resource.not_before_ms <= self.now_ms:
            self._grant(resource_id, resource.queue[0], phase=phase, is_provisional=True)

    def _grant(self, resource_id: str, waiter: Waiter, *, phase: Phase, is_provisional: bool) -> None:
        held_ms = min(waiter.lease_ms, CLAIM_MS) if is_provisional else waiter.lease_ms
        self._emit(
            ResourceLocked(
                **self._about(resource_id),
                lock_id=waiter.lock_id,
                agent_id=waiter.agent_id,
                fencing_token=fencing_token(self._heading.incarnation, self._heading.offset, phase),
                lease_ms=waiter.lease_ms,
                deadline_ms=self.now_ms + held_ms,
                is_provisional=is_provisional,
                waited_ms=self.now_ms - waiter.since_ms,
                reason=waiter.reason,
                metadata=waiter.metadata,
            )
        )

    def _deny(self, command: AcquireLock, code: str, error: str, holder: Holder | None) -> None:
        self._emit(
            LockDenied(
                **self._about(command.resource_id),
                lock_id=command.lock_id,
                agent_id=command.agent_id,
                code=code,
                error=error,
                holder_agent_id=None if holder is None else holder.agent_id,
                holder_deadline_ms=None if holder is None else holder.deadline_ms,
            )
        )

    def _refuse(
        self, command: AcquireLock | RenewLock | ReleaseLock | ForceReleaseLock, code: str, reason: str
    ) -> None:
        self._emit(
            LockCommandRefused(
                **self._about(command.resource_id), command_type=command.type_name, code=code, reason=reason
            )
        )

    def _emit(self, event: LocksEvent) -> None:
        self._events.append(event)
        self.state = evolve(self.state, event, self._heading.offset)

    def _resource(self, resource_id: str) -> Resource:
        return self.state.resources.get(resource_id, _FREE)

    def _about(self, resource_id: str) -> _About:
        return {"command_id": self._command_id, "at_ms": self.now_ms, "resource_id": resource_id}

    def _about_holder(self, resource_id: str, holder: Holder) -> _AboutHolder:
        return {
            "command_id": self._command_id,
            "at_ms": self.now_ms,
            "resource_id": resource_id,
            "lock_id": holder.lock_id,
            "agent_id": holder.agent_id,
            "fencing_token": holder.token,
            "held_ms": self.now_ms - holder.granted_ms,
        }


_FREE: Final = Resource()


def _settled_bytes(resource: Resource) -> int:
    """At most what settling a resource decides: an end for everyone there, and one grant."""
    documents = (len(waiter.reason.encode()) + len(waiter.metadata.encode()) for waiter in resource.queue)
    return EVENT_BYTES * (len(resource.queue) + 2) + max(documents, default=0)


def _is_meant_by(command: ReleaseLock) -> Callable[[Holder | Waiter], bool]:
    """Whether a release is about this lock, or this place in the queue."""
    return lambda one: one.agent_id == command.agent_id and command.lock_id in {None, one.lock_id}


def _as_waiter(command: AcquireLock, now_ms: int) -> Waiter:
    return Waiter(
        command.lock_id,
        command.agent_id,
        command.lease_ms,
        now_ms,
        now_ms,
        command.reason,
        command.metadata,
    )


def _locked_by(resource_id: str, holder: Holder | None) -> str:
    if holder is None:
        return f"Resource {resource_id} is not given to anybody yet"
    return f"Resource {resource_id} is locked by {holder.agent_id}"
