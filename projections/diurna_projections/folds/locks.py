"""Events about locks to rows: who holds what, who waits, every wish and how it ended, and how often.

A lock that is free has no row. A wish's row in the history is made whole from what the row of its lock, or of its
waiter, says: the history is written and never looked at, however long it grows. Whether a lease is over by time alone
is for the reader to say: a fold has no clock, and the log says it when the decider's next command or tick comes.
"""

from __future__ import annotations

from typing import Final, get_args

from diurna_projections.records import LogRecord
from diurna_projections.rows import Lock, LockHistory, LockStatistics, LockWaiter
from diurna_projections.tables import Folds, Need, Needs, Tables
from diurna_projections.text import json_text, plain
from diurna_schemas.locks import (
    LockDenied,
    LockExpired,
    LockForceReleased,
    LockQueued,
    LockRenewed,
    LockWaitCancelled,
    LockWaitTimedOut,
    ResourceLocked,
    ResourceUnlocked,
)

HELD: Final = "held"
QUEUED: Final = "queued"
STATUSES: Final = (
    QUEUED, HELD, "released", "expired", "force_released", "wait_timed_out", "wait_cancelled", "denied",
)  # fmt: skip

_WISH: Final = LockHistory(
    resource_id="",
    asked_offset=0,
    lock_id="",
    agent_id="",
    status=QUEUED,
    fencing_token=None,
    lease_ms=None,
    asked_at_ms=0,
    acquired_at_ms=None,
    deadline_ms=None,
    ended_at_ms=None,
    waited_ms=None,
    held_ms=None,
    renewals=0,
    is_provisional=0,
    reason="",
    metadata="{}",
    ended_by=None,
    end_reason=None,
    partition=0,
    record_offset=0,
)
"""A wish of which nothing is known yet."""
_NOTHING: Final = LockStatistics._make(["", *([0] * 14), None, 0, 0])
_Ended = ResourceUnlocked | LockExpired | LockForceReleased
_Left = LockWaitTimedOut | LockWaitCancelled


def _lock(tables: Tables, event: ResourceLocked, record: LogRecord) -> None:
    waiter = tables.lock_waiters.get(event.resource_id, event.lock_id)
    if waiter is None:
        asked_offset, wishes = record.offset, 1
    else:
        tables.lock_waiters.remove(event.resource_id, event.lock_id)
        asked_offset, wishes = waiter.asked_offset, 0
    lock = Lock(
        resource_id=event.resource_id,
        lock_id=event.lock_id,
        agent_id=event.agent_id,
        fencing_token=event.fencing_token,
        lease_ms=event.lease_ms,
        acquired_at_ms=event.at_ms,
        deadline_ms=event.deadline_ms,
        is_provisional=int(event.is_provisional),
        waited_ms=event.waited_ms,
        renewals=0,
        reason=plain(event.reason),
        metadata=json_text(event.metadata),
        asked_offset=asked_offset,
        partition=record.partition,
        record_offset=record.offset,
    )
    tables.locks.put(lock)
    tables.lock_history.put(_held(lock))
    counted = _statistics(tables, event.resource_id)
    _count(
        tables,
        record,
        counted._replace(
            wishes=counted.wishes + wishes,
            acquisitions=counted.acquisitions + 1,
            waited_ms_total=counted.waited_ms_total + event.waited_ms,
            waited_ms_max=max(counted.waited_ms_max, event.waited_ms),
            last_acquired_at_ms=event.at_ms,
        ),
    )


def _queue(tables: Tables, event: LockQueued, record: LogRecord) -> None:
    waiter = LockWaiter(
        resource_id=event.resource_id,
        lock_id=event.lock_id,
        agent_id=event.agent_id,
        lease_ms=event.lease_ms,
        asked_at_ms=event.at_ms,
        until_ms=event.deadline_ms,
        reason=plain(event.reason),
        metadata=json_text(event.metadata),
        asked_offset=record.offset,
        partition=record.partition,
        record_offset=record.offset,
    )
    tables.lock_waiters.put(waiter)
    tables.lock_history.put(_waiting(waiter))
    counted = _statistics(tables, event.resource_id)
    _count(tables, record, counted._replace(wishes=counted.wishes + 1, queued=counted.queued + 1))


def _deny(tables: Tables, event: LockDenied, record: LogRecord) -> None:
    tables.lock_history.put(
        _WISH._replace(
            resource_id=event.resource_id,
            asked_offset=record.offset,
            lock_id=event.lock_id,
            agent_id=event.agent_id,
            status="denied",
            asked_at_ms=event.at_ms,
            ended_at_ms=event.at_ms,
            end_reason=plain(event.error),
            partition=record.partition,
            record_offset=record.offset,
        )
    )
    counted = _statistics(tables, event.resource_id)
    _count(tables, record, counted._replace(wishes=counted.wishes + 1, denials=counted.denials + 1))


def _renew(tables: Tables, event: LockRenewed, record: LogRecord) -> None:
    lock = tables.locks.get(event.resource_id)
    if lock is None or lock.lock_id != event.lock_id:
        return
    renewals = 0 if lock.is_provisional else 1  # the first word to a grant from the queue only claims it
    lock = lock._replace(
        lease_ms=event.lease_ms,
        deadline_ms=event.deadline_ms,
        is_provisional=0,
        renewals=lock.renewals + renewals,
        partition=record.partition,
        record_offset=record.offset,
    )
    tables.locks.put(lock)
    tables.lock_history.put(_held(lock))
    counted = _statistics(tables, event.resource_id)
    _count(tables, record, counted._replace(renewals=counted.renewals + renewals))


def _end(tables: Tables, event: _Ended, record: LogRecord) -> None:
    lock = tables.locks.get(event.resource_id)
    if lock is None or lock.lock_id != event.lock_id:
        return
    tables.locks.remove(event.resource_id)
    counted = _statistics(tables, event.resource_id)
    counted = counted._replace(
        held_ms_total=counted.held_ms_total + event.held_ms, held_ms_max=max(counted.held_ms_max, event.held_ms)
    )
    ended_by = end_reason = None
    match event:
        case ResourceUnlocked():
            status, ended_by = "released", event.agent_id
            counted = counted._replace(releases=counted.releases + 1)
        case LockExpired():
            status = "expired"
            counted = counted._replace(expirations=counted.expirations + 1)
        case LockForceReleased():
            status, ended_by, end_reason = "force_released", event.released_by, plain(event.reason)
            counted = counted._replace(forced_releases=counted.forced_releases + 1)
    _count(tables, record, counted)
    tables.lock_history.put(
        _held(lock)._replace(
            status=status,
            ended_at_ms=event.at_ms,
            held_ms=event.held_ms,
            ended_by=ended_by,
            end_reason=end_reason,
            partition=record.partition,
            record_offset=record.offset,
        )
    )


def _leave(tables: Tables, event: _Left, record: LogRecord) -> None:
    waiter = tables.lock_waiters.get(event.resource_id, event.lock_id)
    if waiter is None:
        return
    tables.lock_waiters.remove(event.resource_id, event.lock_id)
    counted = _statistics(tables, event.resource_id)
    ended_by = end_reason = None
    if isinstance(event, LockWaitTimedOut):
        status = "wait_timed_out"
        if event.holder_agent_id is not None:
            end_reason = f"locked by {event.holder_agent_id}"
        counted = counted._replace(wait_timeouts=counted.wait_timeouts + 1)
    else:
        status, ended_by = "wait_cancelled", event.agent_id
        counted = counted._replace(wait_cancellations=counted.wait_cancellations + 1)
    _count(tables, record, counted)
    tables.lock_history.put(
        _waiting(waiter)._replace(
            status=status,
            ended_at_ms=event.at_ms,
            waited_ms=event.waited_ms,
            ended_by=ended_by,
            end_reason=end_reason,
            partition=record.partition,
            record_offset=record.offset,
        )
    )


def _held(lock: Lock) -> LockHistory:
    """The wish that led to a lock."""
    return LockHistory(
        resource_id=lock.resource_id,
        asked_offset=lock.asked_offset,
        lock_id=lock.lock_id,
        agent_id=lock.agent_id,
        status=HELD,
        fencing_token=lock.fencing_token,
        lease_ms=lock.lease_ms,
        asked_at_ms=lock.acquired_at_ms - lock.waited_ms,
        acquired_at_ms=lock.acquired_at_ms,
        deadline_ms=lock.deadline_ms,
        ended_at_ms=None,
        waited_ms=lock.waited_ms,
        held_ms=None,
        renewals=lock.renewals,
        is_provisional=lock.is_provisional,
        reason=lock.reason,
        metadata=lock.metadata,
        ended_by=None,
        end_reason=None,
        partition=lock.partition,
        record_offset=lock.record_offset,
    )


def _waiting(waiter: LockWaiter) -> LockHistory:
    """The wish of somebody who waits."""
    return _WISH._replace(
        resource_id=waiter.resource_id,
        asked_offset=waiter.asked_offset,
        lock_id=waiter.lock_id,
        agent_id=waiter.agent_id,
        status=QUEUED,
        lease_ms=waiter.lease_ms,
        asked_at_ms=waiter.asked_at_ms,
        reason=waiter.reason,
        metadata=waiter.metadata,
        partition=waiter.partition,
        record_offset=waiter.record_offset,
    )


def _statistics(tables: Tables, resource_id: str) -> LockStatistics:
    found = tables.lock_statistics.get(resource_id)
    return _NOTHING._replace(resource_id=resource_id) if found is None else found


def _count(tables: Tables, record: LogRecord, counted: LockStatistics) -> None:
    tables.lock_statistics.put(counted._replace(partition=record.partition, record_offset=record.offset))


def _needs_resource(event: LockQueued | LockDenied) -> tuple[Need, ...]:
    return (("lock_statistics", event.resource_id),)


def _needs_lock(event: LockRenewed | _Ended) -> tuple[Need, ...]:
    return (("locks", event.resource_id), ("lock_statistics", event.resource_id))


def _needs_waiter(event: ResourceLocked | _Left) -> tuple[Need, ...]:
    return (("lock_waiters", event.resource_id, event.lock_id), ("lock_statistics", event.resource_id))


_ENDED: Final[tuple[type[_Ended], ...]] = get_args(_Ended)
_LEFT: Final[tuple[type[_Left], ...]] = get_args(_Left)
FOLDS: Final[Folds] = {
    ResourceLocked: _lock,
    LockQueued: _queue,
    LockDenied: _deny,
    LockRenewed: _renew,
    **dict.fromkeys(_ENDED, _end),
    **dict.fromkeys(_LEFT, _leave),
}
NEEDS: Final[Needs] = {
    **dict.fromkeys((LockQueued, LockDenied), _needs_resource),
    **dict.fromkeys((LockRenewed, *_ENDED), _needs_lock),
    **dict.fromkeys((ResourceLocked, *_LEFT), _needs_waiter),
}
"""Refusals and repetitions change nothing."""
