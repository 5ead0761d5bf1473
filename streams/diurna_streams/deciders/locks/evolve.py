"""How an event changes what is remembered of locks."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from diurna_schemas.locks import (
    LockCommandRefused,
    LockCommandRepeated,
    LockDenied,
    LockExpired,
    LockForceReleased,
    LockQueued,
    LockRenewed,
    LocksEvent,
    LockWaitCancelled,
    LockWaitTimedOut,
    ResourceLocked,
    ResourceUnlocked,
)
from diurna_streams.deciders.locks.state import Holder, LocksState, Resource, Waiter, dues_of


def evolve(state: LocksState, event: LocksEvent, command_offset: int) -> LocksState:
    """The state after an event that the command at `command_offset` led to."""
    # Made once, field by field: `replace` would cost more than all the rest.
    now_ms, seen = event.at_ms, state.seen.put(event.command_id, command_offset, event.at_ms)
    state = LocksState(now_ms, state.resources, state.due_count, state.due, seen)
    resource = state.resources.get(event.resource_id, _FREE)
    match event:
        case ResourceLocked():
            changed = _locked(resource, event)
        case LockQueued():
            changed = replace(resource, queue=(*resource.queue, _waiter(event)))
        case LockRenewed():
            changed = _renewed(resource, event)
        case ResourceUnlocked() | LockExpired():
            changed = replace(resource, holder=None)
        case LockForceReleased():
            changed = replace(resource, holder=None, not_before_ms=event.not_before_ms)
        case LockWaitTimedOut() | LockWaitCancelled():
            changed = replace(resource, queue=_without(resource, event.lock_id))
        case LockDenied() | LockCommandRefused() | LockCommandRepeated():
            return state
        case _:
            assert_never(event)
    return _with(state, event.resource_id, resource, changed)


_FREE = Resource()


def _locked(resource: Resource, event: ResourceLocked) -> Resource:
    holder = Holder(
        event.lock_id,
        event.agent_id,
        event.fencing_token,
        event.lease_ms,
        event.deadline_ms,
        event.at_ms,
        event.is_provisional,
    )
    return Resource(holder, _without(resource, event.lock_id))


def _renewed(resource: Resource, event: LockRenewed) -> Resource:
    if resource.holder is None:
        return resource
    holder = resource.holder._replace(lease_ms=event.lease_ms, deadline_ms=event.deadline_ms, is_provisional=False)
    return replace(resource, holder=holder)


def _waiter(event: LockQueued) -> Waiter:
    return Waiter(
        event.lock_id,
        event.agent_id,
        event.lease_ms,
        event.at_ms,
        event.deadline_ms,
        event.reason,
        event.metadata,
    )


def _without(resource: Resource, lock_id: str) -> tuple[Waiter, ...]:
    return tuple(waiter for waiter in resource.queue if waiter.lock_id != lock_id)


def _with(state: LocksState, resource_id: str, before: Resource, after: Resource) -> LocksState:
    """With a changed resource, forgotten where it is free again, and its new times in the heap."""
    old, new = dues_of(resource_id, before), dues_of(resource_id, after)
    known = set(old)
    due = state.due
    for item in new:
        if item not in known:
            due = due.push(item)
    resources = state.resources
    if not after.is_idle:
        resources = resources.set(resource_id, after)
    elif resource_id in resources:
        resources = resources.delete(resource_id)
    due_count = state.due_count + len(new) - len(old)
    changed = LocksState(state.now_ms, resources, due_count, due, state.seen)
    pruned = due.pruned(changed.is_due_live, due_count)
    return changed if pruned is due else LocksState(state.now_ms, resources, due_count, pruned, state.seen)
