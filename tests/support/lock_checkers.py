"""Judges of lock histories. Each says what it found wrong, as sentences; nothing where nothing is.

A checker knows the promise and not the code: its numbers are its own. Each is shown broken histories in
tests/unit/test_lock_checkers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from diurna_schemas.locks import (
    AcquireLock,
    LockCommandRepeated,
    LockExpired,
    LockForceReleased,
    LockQueued,
    LockRenewed,
    LocksEvent,
    LockWaitCancelled,
    LockWaitTimedOut,
    ReleaseLock,
    ResourceLocked,
    ResourceUnlocked,
)
from diurna_schemas.message import Event
from support.lock_history import LockHistory, Operation, Partition
from support.locks_book import is_answer

CLAIM_MS = 3_000
"""A grant out of the queue lasts so long, unless it is claimed."""
CLOCK_SPREAD = 1e-3
"""How much faster the log's clock may run than a client's own."""
SAFETY_S = 0.05
"""What a client leaves unused at the end of its lease."""

Found = list[str]
Checker = Callable[[LockHistory], Found]


def one_holder(history: LockHistory) -> Found:
    """I1: nobody is granted what another holds, and nothing ends that is not held."""
    found: Found = []
    for resource_id, events in _by_resource(history):
        holder: str | None = None
        for event in events:
            match event:
                case ResourceLocked():
                    if holder is not None:
                        found.append(f"{resource_id} is granted to {event.lock_id} while {holder} holds it")
                    holder = event.lock_id
                case ResourceUnlocked() | LockExpired() | LockForceReleased():
                    if holder != event.lock_id:
                        found.append(f"{resource_id}: {event.lock_id} ends, and {holder} holds it")
                    holder = None
                case LockRenewed():
                    if holder != event.lock_id:
                        found.append(f"{resource_id}: {event.lock_id} is renewed, and {holder} holds it")
                case _:
                    continue
    return found


def tokens_grow(history: LockHistory) -> Found:
    """I2: each grant of a resource has a larger token than all before, and JSON readers can hold it."""
    found: Found = []
    for resource_id, events in _by_resource(history):
        last = -1
        for event in events:
            if isinstance(event, ResourceLocked):
                if not last < event.fencing_token < 2**53:
                    found.append(f"{resource_id}: token {event.fencing_token} of {event.lock_id} follows {last}")
                last = max(last, event.fencing_token)
    return found


def first_come_first_served(history: LockHistory) -> Found:
    """I3: who waits longest is next, and nobody goes past those who wait."""
    found: Found = []
    for resource_id, events in _by_resource(history):
        queue: list[str] = []
        for event in events:
            match event:
                case LockQueued():
                    queue.append(event.lock_id)
                    if event.position != len(queue):
                        found.append(f"{resource_id}: {event.lock_id} is told place {event.position}, not {len(queue)}")
                case ResourceLocked():
                    expected = queue[0] if queue else None
                    if (event.lock_id if event.is_provisional else None) != expected:
                        found.append(f"{resource_id} is granted to {event.lock_id}, and the next is {expected}")
                    queue = [lock_id for lock_id in queue if lock_id != event.lock_id]
                case LockWaitTimedOut() | LockWaitCancelled():
                    if event.lock_id not in queue:
                        found.append(f"{resource_id}: {event.lock_id} stops waiting, and never waited")
                    queue = [lock_id for lock_id in queue if lock_id != event.lock_id]
                case _:
                    continue
    return found


def one_answer(history: LockHistory) -> Found:
    """I5: each command has exactly one answer; sent again, it is told so. (A release may end waits and a lease.)"""
    found: Found = []
    for partition in history.partitions:
        first: dict[str, int] = {}
        for sent, _, events in partition.of_commands():
            command = sent.command
            if command.is_tick:
                continue
            answers = [event for event in events if is_answer(event)]
            repeated = [event for event in answers if isinstance(event, LockCommandRepeated)]
            is_one = len(answers) == 1 or (
                isinstance(command, ReleaseLock)
                and bool(answers)
                and all(isinstance(event, LockWaitCancelled | ResourceUnlocked) for event in answers)
            )
            if not is_one:
                found.append(f"{len(answers)} answers to {command.command_id} at offset {sent.offset}")
            before = first.setdefault(command.command_id, sent.offset)
            if (before != sent.offset) != bool(repeated):
                again = "decided again" if before != sent.offset else "called repeated, and was not"
                found.append(f"{command.command_id} at offset {sent.offset} was {again}")
            elif repeated and repeated[0].first_offset != before:
                found.append(f"{command.command_id} came first at {before}, not {repeated[0].first_offset}")
    return found


def nothing_outlasts_its_deadline(slack_ms: int) -> Checker:
    """I13: leases, claims and waits end when their time is over by the log, and never before."""

    def check(history: LockHistory) -> Found:
        found: Found = []
        for partition in history.partitions:
            found += _Deadlines(slack_ms).judge(partition)
        return found

    return check


@dataclass
class _Deadlines:
    slack_ms: int

    def judge(self, partition: Partition) -> Found:
        found: Found = []
        holders: dict[str, tuple[str, int]] = {}
        waits: dict[str, dict[str, int]] = {}
        now_ms = 0
        for sent, now_ms, events in partition.of_commands():
            for event in events:
                found += self._take(event, sent.command, holders, waits)
            for resource_id, (lock_id, until_ms) in holders.items():
                is_own = not sent.command.is_tick and sent.command.key == resource_id
                if until_ms <= now_ms - (0 if is_own else self.slack_ms):
                    found.append(f"{resource_id}: {lock_id} holds it {now_ms - until_ms} ms past its deadline")
            for resource_id, waiting in waits.items():
                late = [lock_id for lock_id, until_ms in waiting.items() if until_ms <= now_ms - self.slack_ms]
                found += [f"{resource_id}: {lock_id} waits past its time" for lock_id in late]
        return found

    def _take(
        self, event: Event, command: object, holders: dict[str, tuple[str, int]], waits: dict[str, dict[str, int]]
    ) -> Found:
        match event:
            case ResourceLocked():
                lasts_ms = min(event.lease_ms, CLAIM_MS) if event.is_provisional else event.lease_ms
                holders[event.resource_id] = (event.lock_id, event.at_ms + lasts_ms)
                waits.get(event.resource_id, {}).pop(event.lock_id, None)
            case LockRenewed():
                holders[event.resource_id] = (event.lock_id, event.at_ms + event.lease_ms)
            case LockExpired():
                until_ms = holders.pop(event.resource_id, (event.lock_id, 0))[1]
                if event.at_ms < until_ms:
                    return [f"{event.resource_id}: {event.lock_id} expires {until_ms - event.at_ms} ms too early"]
            case ResourceUnlocked() | LockForceReleased():
                holders.pop(event.resource_id, None)
            case LockQueued():
                wait_ms = command.wait_ms if isinstance(command, AcquireLock) else 0
                waits.setdefault(event.resource_id, {})[event.lock_id] = event.at_ms + wait_ms
            case LockWaitTimedOut():
                until_ms = waits.get(event.resource_id, {}).pop(event.lock_id, 0)
                if event.at_ms < until_ms:
                    return [f"{event.resource_id}: {event.lock_id} stops waiting {until_ms - event.at_ms} ms too early"]
            case LockWaitCancelled():
                waits.get(event.resource_id, {}).pop(event.lock_id, None)
            case _:
                pass
        return []


def time_goes_on(history: LockHistory) -> Found:
    """The log's time never goes back, whatever the clocks do."""
    found: Found = []
    for partition in history.partitions:
        last_ms = 0
        for offset, event in partition.events:
            if event.at_ms < last_ms:
                found.append(
                    f"partition {partition.number}, command {offset}: time goes back by {last_ms - event.at_ms} ms"
                )
            last_ms = max(last_ms, event.at_ms)
    return found


def real_time_order(history: LockHistory) -> Found:
    """I7: what was answered before something else was asked for stands before it."""
    found: Found = []
    by_id = {operation.command_id: operation for operation in history.operations}
    for partition in history.partitions:
        latest_called_s, latest = 0.0, ""
        for command_id in dict.fromkeys(decided.event.command_id for decided in partition.events):
            operation = by_id.get(command_id)
            if operation is None:
                continue
            is_answered = operation.returned_s is not None and operation.outcome != "unknown"
            if is_answered and (operation.returned_s or 0) < latest_called_s:
                found.append(f"{command_id} was answered before {latest} was asked for, and stands after it")
            if operation.called_s > latest_called_s:
                latest_called_s, latest = operation.called_s, command_id
    return found


def told_what_is_on_the_log(history: LockHistory) -> Found:
    """Who was told that it holds a lock was granted it, with this token; nobody was told anything else."""
    granted = {
        (event.resource_id, event.lock_id): event.fencing_token
        for event in history.events
        if isinstance(event, ResourceLocked)
    }
    return [
        f"{operation.client} was told token {operation.token} for {operation.lock_id}, granted was "
        f"{granted.get((operation.resource_id, operation.lock_id))}"
        for operation in history.operations
        if operation.outcome == "ok" and operation.kind in {"acquire", "claim", "renew"}
        and granted.get((operation.resource_id, operation.lock_id)) != operation.token
    ]  # fmt: skip


def guard_lets_one_in_at_a_time(history: LockHistory) -> Found:
    """I4: no access with a smaller token than one before it; one token, one holder; only tokens that were granted."""
    found: Found = []
    granted = {
        (event.resource_id, event.fencing_token, event.lock_id)
        for event in history.events
        if isinstance(event, ResourceLocked)
    }
    last: dict[str, tuple[int, str]] = {}
    for access in history.accesses:
        token, lock_id = last.get(access.resource_id, (-1, ""))
        if not access.is_accepted:
            if access.token >= token:
                found.append(f"{access.resource_id}: token {access.token} was refused after {token}")
            continue
        if access.token < token:
            found.append(f"{access.resource_id}: token {access.token} was let in after {token}")
        if access.token == token and access.lock_id != lock_id:
            found.append(f"{access.resource_id}: {access.lock_id} and {lock_id} share token {token}")
        if (access.resource_id, access.token, access.lock_id) not in granted:
            found.append(f"{access.resource_id}: {access.lock_id} came with token {access.token}, never granted to it")
        last[access.resource_id] = (access.token, access.lock_id)
    return found


def leases_are_disjoint(history: LockHistory) -> Found:
    """I8: without clock steps no two clients are certain at once that they hold a resource."""
    taken = {event.lock_id for event in history.events if isinstance(event, LockForceReleased)}
    found: Found = []
    spans: dict[str, list[tuple[float, float, str]]] = {}
    for lock_id, operations in _by_lock(history.operations):
        span = certain(operations)
        if span is not None and lock_id not in taken:
            spans.setdefault(operations[0].resource_id, []).append((*span, lock_id))
    for resource_id, certainties in spans.items():
        certainties.sort()
        for (_, end_s, before), (start_s, _, after) in pairwise(certainties):
            if start_s < end_s:
                found.append(f"{resource_id}: {before} and {after} are both certain for {end_s - start_s:.3f} s")
    return found


def certain(operations: list[Operation]) -> tuple[float, float] | None:
    """From when to when a client is certain that it holds the lock: nobody else may be meanwhile."""
    start_s = end_s = None
    for operation in sorted(operations, key=lambda one: one.called_s):
        is_held = operation.outcome == "ok" and operation.kind in {"acquire", "claim", "renew"}
        if is_held and operation.is_claimed and operation.returned_s is not None:
            sure_s = operation.called_s + operation.lease_s * (1 - CLOCK_SPREAD) - SAFETY_S
            start_s = operation.returned_s if start_s is None else start_s
            end_s = sure_s if end_s is None else max(end_s, sure_s)
        elif operation.kind == "release" and end_s is not None:
            end_s = min(end_s, operation.called_s)
    return None if start_s is None or end_s is None or end_s <= start_s else (start_s, end_s)


def everywhere(*, slack_ms: int, has_clock_steps: bool) -> dict[str, Checker]:
    """All checkers by their names; `leases_are_disjoint` where the clocks were steady."""
    found: dict[str, Checker] = {
        "one_holder": one_holder,
        "tokens_grow": tokens_grow,
        "first_come_first_served": first_come_first_served,
        "one_answer": one_answer,
        "nothing_outlasts_its_deadline": nothing_outlasts_its_deadline(slack_ms),
        "time_goes_on": time_goes_on,
        "real_time_order": real_time_order,
        "told_what_is_on_the_log": told_what_is_on_the_log,
        "guard_lets_one_in_at_a_time": guard_lets_one_in_at_a_time,
    }
    return found if has_clock_steps else {**found, "leases_are_disjoint": leases_are_disjoint}


def verdicts(history: LockHistory, checkers: dict[str, Checker]) -> dict[str, Found]:
    """What each checker found wrong; those that found nothing are left out."""
    return {name: found for name, check in checkers.items() if (found := check(history))}


def _by_resource(history: LockHistory) -> Iterator[tuple[str, list[LocksEvent]]]:
    found: dict[str, list[LocksEvent]] = {}
    for event in history.events:
        found.setdefault(event.key, []).append(event)  # type: ignore[arg-type]
    yield from found.items()


def _by_lock(operations: Iterable[Operation]) -> Iterator[tuple[str, list[Operation]]]:
    found: dict[str, list[Operation]] = {}
    for operation in operations:
        found.setdefault(operation.lock_id, []).append(operation)
    yield from found.items()
