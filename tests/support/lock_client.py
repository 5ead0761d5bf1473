"""Somebody who takes locks, works on what they guard, and writes down everything: what chaos and simulations judge."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from diurna.connection import Connection
from diurna.seen import Seen
from diurna_schemas.errors import Unavailable
from diurna_schemas.locks import (
    AcquireLock,
    LockCommandRefused,
    LockCommandRepeated,
    LockDenied,
    LockQueued,
    LockRenewed,
    LocksEvent,
    LockWaitCancelled,
    LockWaitTimedOut,
    ReleaseLock,
    RenewLock,
    ResourceLocked,
    ResourceUnlocked,
)
from diurna_schemas.message import Command, Event
from diurna_schemas.topics import LOCKS, PARTITIONS
from diurna_streams.log import TopicPartition
from support.lock_checkers import CLOCK_SPREAD, SAFETY_S
from support.lock_history import Kind, Operation, Outcome
from support.locks_book import is_answer


class Guard(Protocol):
    """What a lock protects: it knows the largest token it has seen, and refuses smaller ones."""

    async def access(self, resource_id: str, lock_id: str, token: int) -> bool:
        """Whether the access was let in. Raises `Unavailable` where nobody knows."""
        ...


@dataclass(frozen=True)
class Habits:
    """How a client behaves. Chances are one in so many; 0 is never."""

    resources: tuple[str, ...]
    leases_s: tuple[float, ...] = (1.0, 2.0, 3.0, 8.0)
    waits_s: tuple[float, ...] = (0.0, 2.0, 6.0)
    accesses_max: int = 4
    pause_s: tuple[float, float] = (0.0, 0.3)
    """Between two accesses."""
    absent_one_in: int = 6
    """Falls asleep between looking at its lease and touching what it guards, and wakes up beyond it."""
    careless_one_in: int = 8
    """Never gives the lock back."""
    stranger_one_in: int = 12
    """Leaves the queue before its turn."""
    resend_s: float = 1.0
    patience_s: float = 25.0
    """So long is an answer waited for, while the command is sent again and again; then it is unknown."""


@dataclass
class LockClient:
    """One agent. `wrote` is told each operation when it begins and when it ends: what has no end is unknown."""

    name: str
    connection: Connection
    guard: Guard
    habits: Habits
    chance: random.Random
    clock_s: Callable[[], float]
    wrote: Callable[[Operation], None]
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _answers: dict[str, asyncio.Future[Event]] = field(default_factory=dict[str, asyncio.Future[Event]])
    _turns: dict[str, asyncio.Future[Event]] = field(default_factory=dict[str, asyncio.Future[Event]])

    async def live(self) -> None:
        """Takes one lock after the other, until cancelled."""
        places = [TopicPartition(LOCKS.events, number) for number in range(PARTITIONS)]
        await self.connection.tail.watch(places)
        listener = self.connection.tail.listen(places, self._hear)
        try:
            while True:
                await self.take(self.chance.choice(self.habits.resources))
                await asyncio.sleep(self.chance.uniform(*self.habits.pause_s))
        finally:
            self.connection.tail.unlisten(listener)

    async def take(self, resource_id: str) -> None:
        """One whole turn: asks, waits, claims, works, gives back."""
        lock_id = f"{self.name}-{next(self._numbers)}"
        lease_s, wait_s = self.chance.choice(self.habits.leases_s), self.chance.choice(self.habits.waits_s)
        turn = self._turns[lock_id] = asyncio.get_running_loop().create_future()
        try:
            held = await self._acquire(resource_id, lock_id, lease_s, wait_s, turn)
            if held is not None:
                await self._work(held)
        finally:
            self._turns.pop(lock_id, None)

    async def _acquire(
        self, resource_id: str, lock_id: str, lease_s: float, wait_s: float, turn: asyncio.Future[Event]
    ) -> _Held | None:
        operation = self._call("acquire", resource_id, lock_id, lease_s, wait_s)
        command = AcquireLock(
            command_id=operation.command_id, resource_id=resource_id, lock_id=lock_id, agent_id=self.name,
            lease_ms=int(lease_s * 1000), wait_ms=int(wait_s * 1000),
        )  # fmt: skip
        answer = await self._ask(command)
        if isinstance(answer, LockQueued) or (isinstance(answer, LockCommandRepeated) and answer.standing == "queued"):
            answer = await self._wait(operation, turn)
        match answer:
            case ResourceLocked():
                operation.is_claimed = not answer.is_provisional
                self._end(operation, "ok", answer.fencing_token)
            case LockCommandRepeated(standing="held", fencing_token=int(token)):
                operation.is_claimed = False  # nobody said how it came by it
                self._end(operation, "ok", token)
            case None:
                self._end(operation, "unknown")
            case _:
                self._end(operation, "no")
        if operation.outcome != "ok" or operation.token is None:
            return None
        held = _Held(resource_id, lock_id, operation.token, lease_s, self._sure_until(operation))
        if operation.is_claimed or await self._renew(held, "claim"):
            return held
        return None

    async def _wait(self, operation: Operation, turn: asyncio.Future[Event]) -> Event | None:
        """Until its turn comes, or its wait is over; some lose patience and leave."""
        patience_s = operation.wait_s + self.habits.patience_s
        is_leaving = self._happens(self.habits.stranger_one_in)
        try:
            async with asyncio.timeout(self.chance.uniform(0, operation.wait_s) if is_leaving else patience_s):
                return await asyncio.shield(turn)
        except TimeoutError:
            if not is_leaving:
                return None
        left = await self._release(operation.resource_id, operation.lock_id, operation.lease_s)
        if turn.done():
            return turn.result()
        return None if left == "unknown" else _left(operation)

    async def _work(self, held: _Held) -> None:
        for _ in range(self.chance.randint(1, self.habits.accesses_max)):
            if self.clock_s() >= held.sure_until_s:
                break
            if self._happens(self.habits.absent_one_in):
                await asyncio.sleep(held.lease_s * self.chance.uniform(0.5, 2.5))  # and does not look again
            try:
                if not await self.guard.access(held.resource_id, held.lock_id, held.token):
                    break
            except Unavailable:
                break
            await asyncio.sleep(self.chance.uniform(*self.habits.pause_s))
            if self._happens(4) and not await self._renew(held, "renew"):
                return
        if not self._happens(self.habits.careless_one_in):
            await self._release(held.resource_id, held.lock_id, held.lease_s)

    async def _renew(self, held: _Held, kind: Kind) -> bool:
        operation = self._call(kind, held.resource_id, held.lock_id, held.lease_s)
        answer = await self._ask(
            RenewLock(
                command_id=operation.command_id, resource_id=held.resource_id, lock_id=held.lock_id, agent_id=self.name
            )
        )
        match answer:
            case LockRenewed():
                self._end(operation, "ok", answer.fencing_token)
                held.sure_until_s = self._sure_until(operation)
                return True
            case LockCommandRefused():
                self._end(operation, "no")
            case _:
                self._end(operation, "unknown")
        return False

    async def _release(self, resource_id: str, lock_id: str, lease_s: float) -> Outcome:
        operation = self._call("release", resource_id, lock_id, lease_s)
        command = ReleaseLock(
            command_id=operation.command_id, resource_id=resource_id, lock_id=lock_id, agent_id=self.name
        )  # fmt: skip
        match await self._ask(command):
            case ResourceUnlocked() | LockWaitCancelled():
                self._end(operation, "ok")
            case LockCommandRefused():
                self._end(operation, "no")
            case _:
                self._end(operation, "unknown")
        return operation.outcome

    async def _ask(self, command: Command) -> Event | None:
        """Sends the command until it is answered; none where patience was shorter than whatever went on."""
        answered = self._answers[command.command_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self.habits.patience_s):
                while True:
                    try:
                        await self.connection.sender.send(command)
                    except Unavailable:
                        continue
                    done, _ = await asyncio.wait([answered], timeout=self.habits.resend_s)
                    if done:
                        return answered.result()
        except TimeoutError:
            return None
        finally:
            self._answers.pop(command.command_id, None)

    def _hear(self, seen: Seen) -> None:
        event: LocksEvent = seen.decoded()  # type: ignore[assignment]
        answered = self._answers.get(event.command_id)
        if answered is not None and not answered.done() and is_answer(event):
            answered.set_result(event)
        if isinstance(event, ResourceLocked | LockWaitTimedOut | LockWaitCancelled | LockDenied):
            turn = self._turns.get(event.lock_id)
            if turn is not None and not turn.done():
                turn.set_result(event)

    def _call(self, kind: Kind, resource_id: str, lock_id: str, lease_s: float, wait_s: float = 0.0) -> Operation:
        command_id = f"{lock_id}-{kind}-{next(self._numbers)}"
        operation = Operation(self.name, kind, resource_id, lock_id, command_id, lease_s, self.clock_s(), wait_s)
        self.wrote(operation)
        return operation

    def _end(self, operation: Operation, outcome: Outcome, token: int | None = None) -> None:
        operation.ends(self.clock_s(), outcome, token)
        self.wrote(operation)

    def _sure_until(self, operation: Operation) -> float:
        """Timed from its own send, by its own clock: the lease cannot have ended before."""
        return operation.called_s + operation.lease_s * (1 - CLOCK_SPREAD) - SAFETY_S

    def _happens(self, one_in: int) -> bool:
        return one_in > 0 and self.chance.randrange(one_in) == 0


@dataclass
class _Held:
    resource_id: str
    lock_id: str
    token: int
    lease_s: float
    sure_until_s: float


def _left(operation: Operation) -> Event:
    return LockWaitCancelled(
        command_id=operation.command_id, at_ms=0, resource_id=operation.resource_id, lock_id=operation.lock_id,
        agent_id=operation.client, waited_ms=0,
    )  # fmt: skip
