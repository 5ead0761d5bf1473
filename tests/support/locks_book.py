"""A second opinion on decisions about locks: who holds, who waits and since when, kept from the events alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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
    LocksEvent,
    LockWaitCancelled,
    LockWaitTimedOut,
    ReleaseLock,
    RenewLock,
    ResourceLocked,
    ResourceUnlocked,
    TickLocks,
)
from diurna_schemas.message import Command, Event
from diurna_streams.deciders.locks.state import Due, LocksState
from diurna_streams.deciders.rules import Rules
from support.book import Ledger, keep
from support.locks_given import acquire, force_release, release, renew, tick

CLAIM_MS = 3_000
"""How long a grant from the queue may stay unclaimed. The books have their own numbers: a mutant must not move both."""
QUEUE_MAX = 200


@dataclass
class Held:
    lock_id: str
    agent_id: str
    token: int
    lease_ms: int
    until_ms: int
    since_ms: int
    is_claimed: bool


@dataclass
class Waiting:
    lock_id: str
    agent_id: str
    lease_ms: int
    since_ms: int
    until_ms: int


@dataclass
class Shelf:
    """One resource as the events tell of it."""

    holder: Held | None = None
    queue: list[Waiting] = field(default_factory=list[Waiting])
    not_before_ms: int = 0

    def overdue(self, now_ms: int) -> str | None:
        """What should have happened to it by now."""
        if self.holder is not None and self.holder.until_ms <= now_ms:
            return f"{self.holder.lock_id} is held past its deadline"
        if any(waiting.until_ms <= now_ms for waiting in self.queue):
            return "somebody waits past its time"
        if self.holder is None and self.queue and self.not_before_ms <= now_ms:
            return "somebody waits for a free lock"
        return None


@dataclass
class LocksBook(Ledger):
    """Holders, queues and tokens. With `is_roomy` one command may settle everything that is due."""

    REPEATED = LockCommandRepeated
    shelves: dict[str, Shelf] = field(default_factory=dict[str, Shelf])
    tokens: dict[str, int] = field(default_factory=dict[str, int])
    command: Command = field(default_factory=tick)
    is_roomy: bool = True
    grants: int = 0

    def put(self, command: Command, log_ms: int) -> tuple[Any, ...]:
        self.command = command
        return super().put(command, log_ms)

    def shelf(self, resource_id: str) -> Shelf:
        return self.shelves.setdefault(resource_id, Shelf())

    def answers(self, command: Command, events: Sequence[Event]) -> list[Event]:
        answers = [event for event in events if is_answer(event)]
        if command.is_tick:
            assert not answers
        elif len(answers) != 1:
            assert isinstance(command, ReleaseLock), f"{len(answers)} answers to {command!r}"
            assert answers, f"no answer to {command!r}"
            *waits, last = answers
            assert all(isinstance(event, LockWaitCancelled) for event in waits)
            assert isinstance(last, LockWaitCancelled | ResourceUnlocked)
        return answers

    def take(self, event: LocksEvent) -> None:
        shelf = self.shelf(event.resource_id)
        match event:
            case ResourceLocked():
                self.grant(shelf, event)
            case LockQueued():
                self.queue(shelf, event)
            case LockDenied():
                self.deny(shelf, event)
            case LockRenewed():
                self.renew(shelf, event)
            case ResourceUnlocked() | LockExpired() | LockForceReleased():
                self.end(shelf, event)
            case LockWaitTimedOut() | LockWaitCancelled():
                self.stop_waiting(shelf, event)
            case LockCommandRefused():
                self.refuse(shelf, event)
            case LockCommandRepeated():
                self.repeat(shelf, event)

    def grant(self, shelf: Shelf, event: ResourceLocked) -> None:
        assert shelf.holder is None, "two holders"
        assert event.at_ms >= shelf.not_before_ms, "given before the old holder had time to stop"
        token = event.fencing_token
        assert token > self.tokens.get(event.resource_id, -1), "the token did not grow"
        assert token < 2**53, "JSON readers lose such a token"
        if event.is_provisional:
            assert shelf.queue, "granted out of a queue that is empty"
            first = shelf.queue.pop(0)
            assert (first.lock_id, first.agent_id) == (event.lock_id, event.agent_id), "not the first in the queue"
            assert (event.lease_ms, event.waited_ms) == (first.lease_ms, event.at_ms - first.since_ms)
            held_ms = min(first.lease_ms, CLAIM_MS)
        else:
            command = self.command
            assert isinstance(command, AcquireLock)
            assert not shelf.queue, "barged past those who wait"
            asked = (command.resource_id, command.lock_id, command.agent_id, command.lease_ms)
            assert (event.resource_id, event.lock_id, event.agent_id, event.lease_ms) == asked
            held_ms = command.lease_ms
        assert event.deadline_ms == event.at_ms + held_ms, "another deadline than was asked for"
        self.tokens[event.resource_id] = token
        shelf.holder = Held(
            event.lock_id, event.agent_id, token, event.lease_ms, event.deadline_ms, event.at_ms,
            not event.is_provisional,
        )  # fmt: skip
        shelf.not_before_ms = 0
        self.grants += 1

    def queue(self, shelf: Shelf, event: LockQueued) -> None:
        command = self.command
        assert isinstance(command, AcquireLock)
        assert shelf.holder or shelf.queue or shelf.not_before_ms > event.at_ms, "made to wait for a free lock"
        assert event.holder_agent_id == (shelf.holder and shelf.holder.agent_id)
        assert event.position == len(shelf.queue) + 1 <= QUEUE_MAX
        assert event.deadline_ms == event.at_ms + command.wait_ms > event.at_ms
        shelf.queue.append(
            Waiting(event.lock_id, event.agent_id, event.lease_ms, event.at_ms, event.deadline_ms)
        )  # fmt: skip

    def deny(self, shelf: Shelf, event: LockDenied) -> None:
        command = self.command
        assert isinstance(command, AcquireLock)
        if event.code == "queue_full":
            assert len(shelf.queue) == QUEUE_MAX
        else:
            assert (event.code, command.wait_ms) == ("locked", 0)
            assert shelf.holder or shelf.queue or shelf.not_before_ms > event.at_ms, "denied, though it is free"
            assert shelf.holder is None or f"is locked by {shelf.holder.agent_id}" in event.error
        assert event.holder_agent_id == (shelf.holder and shelf.holder.agent_id)
        assert event.holder_deadline_ms == (shelf.holder and shelf.holder.until_ms)

    def renew(self, shelf: Shelf, event: LockRenewed) -> None:
        command, holder = self.command, shelf.holder
        assert isinstance(command, RenewLock)
        assert holder, "renewed what nobody holds"
        assert (holder.lock_id, holder.agent_id) == (command.lock_id, command.agent_id), "another one's lock"
        assert (event.lock_id, event.agent_id, event.fencing_token) == (holder.lock_id, holder.agent_id, holder.token)
        assert event.lease_ms == (command.lease_ms or holder.lease_ms)
        assert event.deadline_ms == event.at_ms + event.lease_ms
        holder.lease_ms, holder.until_ms, holder.is_claimed = event.lease_ms, event.deadline_ms, True

    def end(self, shelf: Shelf, event: ResourceUnlocked | LockExpired | LockForceReleased) -> None:
        command, holder = self.command, shelf.holder
        assert holder, "ended what nobody holds"
        assert (event.lock_id, event.agent_id, event.fencing_token) == (holder.lock_id, holder.agent_id, holder.token)
        assert event.held_ms == event.at_ms - holder.since_ms
        match event:
            case LockExpired():
                assert holder.until_ms <= event.at_ms, "expired too early"
            case ResourceUnlocked():
                assert isinstance(command, ReleaseLock)
                assert (command.agent_id, command.lock_id or holder.lock_id) == (holder.agent_id, holder.lock_id)
            case LockForceReleased():
                assert isinstance(command, ForceReleaseLock)
                until_ms = min(event.at_ms + command.grace_ms, holder.until_ms)
                assert event.not_before_ms == (until_ms if command.grace_ms else 0)
                shelf.not_before_ms = event.not_before_ms
        shelf.holder = None

    def stop_waiting(self, shelf: Shelf, event: LockWaitTimedOut | LockWaitCancelled) -> None:
        (waiting,) = [waiting for waiting in shelf.queue if waiting.lock_id == event.lock_id]
        assert (event.agent_id, event.waited_ms) == (waiting.agent_id, event.at_ms - waiting.since_ms)
        if isinstance(event, LockWaitTimedOut):
            assert waiting.until_ms <= event.at_ms, "its wait was over too early"
        else:
            assert isinstance(self.command, ReleaseLock)
            assert self.command.agent_id == waiting.agent_id
            assert self.command.lock_id in {None, waiting.lock_id}
        shelf.queue.remove(waiting)

    def refuse(self, shelf: Shelf, event: LockCommandRefused) -> None:
        command, holder = self.command, shelf.holder
        assert event.command_type == command.type_name
        match command:
            case AcquireLock():
                used = {waiting.lock_id for waiting in shelf.queue} | {holder.lock_id if holder else None}
                assert (event.code, command.lock_id in used) == ("lock_id_used", True)
            case RenewLock():
                is_holder = holder and (holder.lock_id, holder.agent_id) == (command.lock_id, command.agent_id)
                assert (event.code, bool(is_holder)) == ("not_holder", False)
            case ReleaseLock():
                there = [*shelf.queue, *([holder] if holder else [])]
                named = [one for one in there if one.agent_id == command.agent_id
                         and command.lock_id in {None, one.lock_id}]  # fmt: skip
                assert (event.code, named) == ("not_holder", [])
            case ForceReleaseLock():
                assert (event.code, holder) == ("not_held", None)
            case _:
                raise AssertionError(f"{command!r} was refused")

    def repeat(self, shelf: Shelf, event: LockCommandRepeated) -> None:
        holder = shelf.holder if shelf.holder and shelf.holder.lock_id == event.lock_id else None
        is_queued = any(waiting.lock_id == event.lock_id for waiting in shelf.queue)
        assert event.standing == ("held" if holder else "queued" if is_queued else "gone")
        assert event.fencing_token == (holder and holder.token)
        assert event.deadline_ms == (holder and holder.until_ms)

    def check_state(self, command: Command, now_ms: int) -> None:
        state: LocksState = self.state
        for resource_id, shelf in self.shelves.items():
            found = state.resources.get(resource_id)
            holder, queue = (None, ()) if found is None else (found.holder, found.queue)
            assert (holder and holder.lock_id) == (shelf.holder and shelf.holder.lock_id)
            assert [waiter.lock_id for waiter in queue] == [waiting.lock_id for waiting in shelf.queue]
            is_free = not (shelf.holder or shelf.queue or shelf.not_before_ms)
            assert is_free == (found is None), "a free lock is remembered, or a held one is not"
            is_own = isinstance(command, TickLocks) or resource_id == command.key
            assert not (is_own or self.is_roomy) or (late := shelf.overdue(now_ms)) is None, late
        dues = [Due(at_ms, resource_id) for resource_id, shelf in self.shelves.items() for at_ms in _dues(shelf)]
        assert state.due.first == min(dues, default=None), "the first deadline is not the next one"
        assert state.due_count == len(dues)


def _dues(shelf: Shelf) -> list[int]:
    times = [waiting.until_ms for waiting in shelf.queue]
    if shelf.holder:
        times.append(shelf.holder.until_ms)
    elif shelf.queue and shelf.not_before_ms:
        times.append(shelf.not_before_ms)
    return times


def is_answer(event: Event) -> bool:
    """Whether an event answers its command, and is not what time did beside it."""
    match event:
        case ResourceLocked():
            return not event.is_provisional
        case LockExpired() | LockWaitTimedOut():
            return False
        case _:
            return True


KINDS = ("acquire",) * 6 + ("renew", "release", "release") * 2 + ("force", "tick", "again")
STEPS_MS = (-5_000, -1, 0, 0, 0, 0, 1, 10, 500, 999, 1_000, 2_999, 3_000, 3_001, 31_000, 700_000)
LEASES_MS = (1_000, 2_000, 3_000, 5_000, 30_000)


@dataclass
class LocksRandom:
    """Commands from few names, so that they meet: seeded, and aware of who holds what only by chance."""

    chance: random.Random
    log_ms: int = 1_790_000_000_000
    resources: tuple[str, ...] = ("deploy:production", "deploy:staging", "file:/etc/hosts")
    agents: tuple[str, ...] = ("one", "two", "three", "four")
    steps_ms: tuple[int, ...] = STEPS_MS
    sent: list[Command] = field(default_factory=list[Command])
    numbers: int = 0

    def next(self, book: LocksBook) -> tuple[Command, int]:
        self.log_ms += self.chance.choice(self.steps_ms)
        command = self.command(book)
        self.sent.append(command)
        return command, self.log_ms

    def command(self, book: LocksBook) -> Command:
        pick, resource_id = self.chance.choice, self.chance.choice(self.resources)
        agent_id, lock_id = self.somebody(book.shelf(resource_id))
        match pick(KINDS):
            case "acquire":
                self.numbers += self.chance.random() < 0.9  # else the id of before once more
                return acquire(
                    pick(self.agents), resource_id, lock_id=f"lock-{self.numbers}", lease_ms=pick(LEASES_MS),
                    wait_ms=pick([0, 0, 500, 3_000, 10_000, 60_000]),
                )  # fmt: skip
            case "renew":
                return renew(agent_id, resource_id, lock_id=lock_id, lease_ms=pick([None, *LEASES_MS]))
            case "release":
                return release(agent_id, resource_id, lock_id=pick([None, lock_id]))
            case "force":
                return force_release(resource_id, grace_ms=pick([0, 0, 1_000, 60_000]))
            case "again" if self.sent:
                return pick(self.sent[-10:])
            case _:
                return tick()

    def somebody(self, shelf: Shelf) -> tuple[str, str]:
        """Mostly who holds the lock, else who waits for it, else anybody."""
        there: list[Held | Waiting] = [*([shelf.holder] * 3 if shelf.holder else []), *shelf.queue]
        if there and self.chance.random() < 0.8:
            one = self.chance.choice(there)
            return one.agent_id, one.lock_id
        return self.chance.choice(self.agents), f"lock-{self.chance.randrange(self.numbers + 1)}"


def run(rules: Rules[Any, Any, Any], seed: int, commands: int) -> LocksBook:
    """A random partition of locks, checked after every command."""
    chance = random.Random(seed)
    book = LocksBook(rules)
    keep(book, LocksRandom(chance), chance, commands)
    return book
