"""Who may write to a thread: a small port, fulfilled by the lock on `thread:…`, or by a promise to be the only one."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Final, Protocol

import structlog

from diurna.connection import Connection
from diurna.seen import Seen
from diurna.tail import Listener
from diurna_schemas.errors import Conflict, DiurnaError, TimedOut, Unreadable
from diurna_schemas.ids import checked_name
from diurna_schemas.locks import (
    AcquireLock,
    LockCommandRefused,
    LockDenied,
    LockExpired,
    LockForceReleased,
    LockQueued,
    LockRenewed,
    LocksEvent,
    LockWaitTimedOut,
    ReleaseLock,
    RenewLock,
    ResourceLocked,
)
from diurna_schemas.topics import LOCKS, partition_of
from diurna_streams.log import TopicPartition

logger = structlog.get_logger(__name__)

AGENT_ID: Final = "checkpointer"
"""Who holds a thread, where nobody says who he is."""
LEASE_SECONDS: Final = 10.0
"""How long a thread stays its holder's after the holder's death."""
WAIT_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 10.0
_CLOCK_DRIFT: Final = 1e-3
_MARGIN_SECONDS: Final = 0.05


class Hold(Protocol):
    """A thread that is held. `token` grows from hold to hold."""

    @property
    def token(self) -> int: ...

    @property
    def is_safe(self) -> bool:
        """Whether nobody else can have been given the thread so far."""
        ...

    def keep(self) -> None:
        """Goes on holding, where it is time to say so."""
        ...

    async def release(self) -> None:
        """Gives the thread back."""
        ...


class Guard(Protocol):
    """Gives threads to one writer at a time."""

    async def hold(self, thread_id: str) -> Hold:
        """Waits for the thread. Raises `Conflict` where another holds it for too long, `Unavailable`."""
        ...


class SoleWriter:
    """No guard at all: whoever uses it promises that no other process writes to the same threads."""

    token = 0
    is_safe = True

    async def hold(self, thread_id: str) -> SoleWriter:
        """Always given."""
        return self

    def keep(self) -> None:
        """There is nothing to keep."""

    async def release(self) -> None:
        """There is nothing to give back."""


class LockedThreads:
    """Holds the lock `thread:…` for each thread that is written to, as `agent_id`.

    Whoever knows that another holder is dead names it with `succeeds`: a thread that one still holds is given back in
    its name, so that nobody waits for the end of its lease.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        agent_id: str = AGENT_ID,
        succeeds: str | None = None,
        lease_seconds: float = LEASE_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._connection = connection
        self._agent_id = checked_name("agent_id", agent_id)
        self._succeeds = None if succeeds is None else checked_name("succeeds", succeeds)
        self._lease_seconds = lease_seconds
        self._wait_seconds = wait_seconds

    async def hold(self, thread_id: str) -> Hold:
        """Waits for the thread. Raises `Conflict` naming who holds it, where that takes too long."""
        held = _Held(self._connection, thread_id, self._agent_id, self._lease_seconds, succeeds=self._succeeds)
        await held.acquire(self._wait_seconds)
        return held


class _Held:
    """One lock on its way from being asked for to being given back."""

    def __init__(
        self, connection: Connection, thread_id: str, agent_id: str, lease_seconds: float, *, succeeds: str | None
    ) -> None:
        self.token = 0
        self._connection = connection
        self._thread_id = thread_id
        self._agent_id = agent_id
        self._succeeds = succeeds
        self._resource_id = f"thread:{thread_id}"
        self._lock_id = str(uuid.uuid4())
        self._lease_seconds = lease_seconds
        self._safe_until = 0.0
        self._renewed_at = 0.0
        self._renewals = 0
        self._holder: str | None = None
        self._answer: asyncio.Future[LocksEvent] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._listener: Listener | None = None
        self._freeing: asyncio.Task[None] | None = None

    @property
    def is_safe(self) -> bool:
        return time.monotonic() < self._safe_until

    async def acquire(self, wait_seconds: float) -> None:
        place = TopicPartition(LOCKS.events, partition_of(self._resource_id))
        tail = self._connection.tail
        await tail.watch([place])
        self._listener = tail.listen([place], self._hear, types=_HEARD, key=self._resource_id)
        try:
            sent = time.monotonic()
            given = await self._asked(
                AcquireLock(
                    command_id=f"{self._lock_id}/acquire",
                    resource_id=self._resource_id,
                    lock_id=self._lock_id,
                    agent_id=self._agent_id,
                    lease_ms=self._lease_ms,
                    wait_ms=round(wait_seconds * 1000),
                ),
                wait_seconds + _ANSWER_SECONDS,
            )
            if not isinstance(given, ResourceLocked):
                raise self._not_given(given)
            self.token = given.fencing_token
            if given.is_provisional:
                await self._renew()
            else:
                self._is_held_from(sent)
        except BaseException:
            # Whether it was given may be unknown: a lock nobody uses should not be in the way until it ends by itself.
            await asyncio.shield(self.release())
            raise

    def keep(self) -> None:
        due = self._renewed_at + self._lease_seconds / 3
        if time.monotonic() > due and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew_quietly(), name=f"keep {self._resource_id}")

    async def release(self) -> None:
        self._safe_until = 0.0
        if self._renewing is not None:
            self._renewing.cancel()
        if self._listener is not None:
            self._connection.tail.unlisten(self._listener)
            self._listener = None
        await self._give_back(
            ReleaseLock(
                command_id=f"{self._lock_id}/release",
                resource_id=self._resource_id,
                lock_id=self._lock_id,
                agent_id=self._agent_id,
            )
        )

    async def _give_back(self, command: ReleaseLock) -> None:
        try:
            await self._connection.sender.send(command)
        except DiurnaError as error:
            logger.warning("a thread was not given back; its lease ends by itself", error=str(error))

    def _free_from(self, dead: str) -> None:
        """The holder is known to be dead, and cannot say that it is done."""
        command = ReleaseLock(command_id=f"{self._lock_id}/free", resource_id=self._resource_id, agent_id=dead)
        self._freeing = asyncio.create_task(self._give_back(command), name=f"free {self._resource_id}")

    async def _renew_quietly(self) -> None:
        try:
            await self._renew()
        except DiurnaError as error:
            logger.warning("a thread could not be kept", thread_id=self._thread_id, error=str(error))

    async def _renew(self) -> None:
        self._renewals += 1
        sent = time.monotonic()
        answer = await self._asked(
            RenewLock(
                command_id=f"{self._lock_id}/renew/{self._renewals}",
                resource_id=self._resource_id,
                lock_id=self._lock_id,
                agent_id=self._agent_id,
                lease_ms=self._lease_ms,
            ),
            _ANSWER_SECONDS,
        )
        if not isinstance(answer, LockRenewed):
            self._safe_until = 0.0
            raise self._not_given(answer)
        self._is_held_from(sent)

    def _is_held_from(self, sent: float) -> None:
        """The lease began when the command came to the log, which was after it was sent."""
        self._renewed_at = sent
        self._safe_until = sent + self._lease_seconds * (1 - _CLOCK_DRIFT) - _MARGIN_SECONDS

    async def _asked(self, command: AcquireLock | RenewLock, seconds: float) -> LocksEvent:
        self._answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._connection.sender.send(command)
                return await self._answer
        except TimeoutError as error:
            raise TimedOut(f"{command.type_name} of {self._resource_id}", seconds) from error

    def _hear(self, seen: Seen) -> None:
        try:
            event = seen.decoded()
        except Unreadable as error:
            logger.error("an event of a lock cannot be read", position=str(seen.position), error=str(error))
            return
        match event:
            case LockCommandRefused() if event.command_id.startswith(self._lock_id):
                self._answered(event)
            case LockQueued(lock_id=self._lock_id):
                self._holder = event.holder_agent_id
                if self._holder is not None and self._holder == self._succeeds:
                    self._free_from(self._holder)
            case (
                ResourceLocked(lock_id=self._lock_id)
                | LockDenied(lock_id=self._lock_id)
                | LockRenewed(lock_id=self._lock_id)
                | LockWaitTimedOut(lock_id=self._lock_id)
            ):
                self._answered(event)
            case LockExpired(lock_id=self._lock_id) | LockForceReleased(lock_id=self._lock_id):
                self._safe_until = 0.0
                self._answered(event)
            case _:
                return

    def _answered(self, event: LocksEvent) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(event)

    def _not_given(self, event: LocksEvent) -> Conflict:
        match event:
            case LockDenied():
                return _held_by(self._thread_id, event.holder_agent_id or "nobody: it is kept back for a while")
            case LockWaitTimedOut():
                return _held_by(self._thread_id, self._holder or "another writer")
            case LockCommandRefused():
                return Conflict(
                    f"thread {self._thread_id!r} is not held any longer: {event.reason}", code="thread_lost"
                )
            case _:
                return Conflict(f"thread {self._thread_id!r} is not held any longer", code="thread_lost")

    @property
    def _lease_ms(self) -> int:
        return round(self._lease_seconds * 1000)


def _held_by(thread_id: str, holder: str) -> Conflict:
    return Conflict(f"thread {thread_id!r} is written to by {holder}: one writer at a time", code="thread_held")


_HEARD: Final = frozenset(
    kind.type_name
    for kind in (
        ResourceLocked,
        LockQueued,
        LockDenied,
        LockRenewed,
        LockExpired,
        LockForceReleased,
        LockWaitTimedOut,
        LockCommandRefused,
    )
)
