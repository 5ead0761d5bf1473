"""One wish for a lock: asked for, waited for, claimed, and given back whatever happened in between."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import structlog

from diurna.commands import events_of
from diurna.connection import Connection
from diurna.leases import Ended, Lease, now_seconds, safe_until
from diurna.seen import Seen
from diurna_schemas.errors import DiurnaError, ResourceLockError, TimedOut, Unavailable
from diurna_schemas.locks import (
    AcquireLock,
    LockCommandRefused,
    LockDenied,
    LockExpired,
    LockForceReleased,
    LockQueued,
    LockWaitCancelled,
    LockWaitTimedOut,
    ReleaseLock,
    ResourceLocked,
    ResourceUnlocked,
)

_log = structlog.get_logger(__name__)

ANSWER_SECONDS: Final = 30.0
"""How long the log may take to say anything at all."""
GRACE_SECONDS: Final = 5.0
"""The log itself says when a wait is over; so much longer a waiter waits to hear it."""
RELEASE_SECONDS: Final = 5.0
"""How long the log may take to acknowledge that a lock is given back, and then to say that it is free."""

_Heard = ResourceLocked | LockQueued | LockDenied | LockCommandRefused | LockWaitTimedOut | LockWaitCancelled | Ended


class Wish:
    """Asks for one lock, and hears all that the log says of it, from before it asked until it is given back.

    `was_contended`: the lock was another's when it was asked for.
    """

    def __init__(self, connection: Connection, command: AcquireLock, correlation_id: str | None = None) -> None:
        self.was_contended = False
        self._connection = connection
        self._command = command
        self._correlation_id = correlation_id
        self._mark = command.lock_id.encode()
        self._place = events_of(command)
        self._heard: deque[_Heard] = deque()
        self._listening: asyncio.Future[None] | None = None
        self._freed: asyncio.Future[None] | None = None
        self._lease: Lease | None = None
        self._is_over = False
        self._is_alone = True
        self._sent_at = 0.0
        self._is_deaf = False
        self._listener = connection.tail.listen(
            [self._place], self._hear, key=command.resource_id, on_close=self._go_deaf
        )

    async def granted(self) -> Lease:
        """The lease, once it is there.

        Raises `ResourceLockError` where the log says no, `TimedOut` or `Unavailable` where it says nothing.
        """
        event = await self._asked()
        match event:
            case ResourceLocked():
                lease = self._lease_of(event)
                if self._is_alone:  # all that is said of a lock is heard, from before it was asked for
                    lease.alone_since = self._sent_at
                return self._leased(lease)
            case LockQueued():
                self.was_contended = True
                return await self._queued()
            case LockDenied():
                self.was_contended = True
                words, holder = event.error, event.holder_agent_id
                if holder == self._command.agent_id:
                    words += ", which is the one who asks: locks are not re-entrant"
                raise self._error(words, code=event.code, holder=holder)
            case LockCommandRefused():
                raise self._error(event.reason, code=event.code)
            case _:
                raise self._unexpected(event)

    async def give_back(self) -> None:
        """Has the log note that the lock, or the place in the queue, is no longer wanted.

        Whoever asks for the lock from then on stands behind that, so nobody needs to wait for the decision. It comes a
        moment later: until then it is among what the connection knows to be undecided.

        Nothing here is an error: a lease that nobody gives back ends by itself. Cancelled, it can be called again: that
        is one release.
        """
        if not self._must_be_given_back:
            self._connection.tail.unlisten(self._listener)
            return
        wish = self._command
        release = ReleaseLock(
            command_id=f"{wish.lock_id}.release",
            resource_id=wish.resource_id,
            lock_id=wish.lock_id,
            agent_id=wish.agent_id,
        )
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._connection.sender.send(release, correlation_id=self._correlation_id)
        except (DiurnaError, TimeoutError) as error:
            _log.warning("a lock was not given back: its lease ends by itself", lock_id=wish.lock_id, error=str(error))
            self._connection.tail.unlisten(self._listener)
            return
        self._listen_until_it_is_free()

    def _listen_until_it_is_free(self) -> None:
        loop = asyncio.get_running_loop()
        freed = self._freed = loop.create_future()
        timer = loop.call_later(RELEASE_SECONDS, self._not_freed, freed)
        undecided = self._connection.undecided
        undecided.add(freed)

        def done(_: asyncio.Future[None]) -> None:
            timer.cancel()
            undecided.discard(freed)
            self._connection.tail.unlisten(self._listener)

        freed.add_done_callback(done)
        if self._is_over or self._is_deaf:
            _settle(freed)

    def _not_freed(self, freed: asyncio.Future[None]) -> None:
        if not freed.done():
            _log.warning("nobody said that a lock is free: its lease ends by itself", lock_id=self._command.lock_id)
        _settle(freed)

    @property
    def _must_be_given_back(self) -> bool:
        """Whether the log may still hold something of this wish."""
        return self._sent_at > 0 and not self._is_over

    async def _asked(self) -> _Heard:
        """Writes the command and returns the first thing the log says to it."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._connection.tail.watch([self._place])
                self._sent_at = now_seconds()
                await self._connection.sender.send(self._command, correlation_id=self._correlation_id)
                return await self._next()
        except TimeoutError as error:
            raise TimedOut(f"the lock on {self._command.resource_id}", ANSWER_SECONDS) from error

    async def _queued(self) -> Lease:
        seconds = self._command.wait_ms / 1000
        try:
            async with asyncio.timeout(seconds + GRACE_SECONDS):
                event = await self._next()
        except TimeoutError as error:
            raise TimedOut(f"the wait for the lock on {self._command.resource_id}", seconds) from error
        match event:
            case ResourceLocked():
                return await self._claimed(event)
            case LockWaitTimedOut():
                holder = event.holder_agent_id
                words = self._locked_by(holder)
                raise self._error(f"{words}: waited {seconds:g} s", code="wait_timed_out", holder=holder)
            case LockWaitCancelled():
                words = f"the wait for the lock on {self._command.resource_id} was cancelled"
                raise self._error(words, code="wait_cancelled")
            case _:
                raise self._unexpected(event)

    async def _claimed(self, grant: ResourceLocked) -> Lease:
        """A lease that may be worked under.

        A grant from the queue lasts a few seconds and must be claimed. It was decided after our command, so it is
        certain until its own length from our sending: while much of that is left, the claim goes out beside the body
        (see `Lease.begin`). After a longer wait it comes first.
        """
        lease = self._lease_of(grant)
        lasts = (grant.deadline_ms - grant.at_ms) / 1000
        if lease.remaining < lasts / 2:
            try:
                await lease.claim(patience=lasts)
            except ResourceLockError as error:
                words = f"the lock on {grant.resource_id} was granted, and passed on before it was claimed"
                raise self._error(words, code="not_claimed") from error
        return self._leased(lease)

    def _leased(self, lease: Lease) -> Lease:
        self._lease = lease
        while self._heard:
            self._tell(lease, self._heard.popleft())
        return lease

    async def _next(self) -> _Heard:
        """What was heard next. Raises `Unavailable` where nothing will come any more."""
        while not self._heard:
            if self._is_deaf:
                raise Unavailable(f"the connection was closed while waiting for {self._command.resource_id}")
            self._listening = asyncio.get_running_loop().create_future()
            await self._listening
        return self._heard.popleft()

    def _hear(self, seen: Seen) -> None:
        # A queue's every event comes by here: those of others are left out before they are decoded. What is repeated
        # is of no interest, for the first answer stands before it.
        if self._mark not in (seen.record.value or b""):
            self._is_alone = False
            return
        event = seen.decoded()
        if not isinstance(event, _Heard):
            return
        # A refusal names only its command: ours bear the lock's id.
        about = event.command_id.partition(".")[0] if isinstance(event, LockCommandRefused) else event.lock_id
        if about != self._command.lock_id:
            return
        if not isinstance(event, ResourceLocked | LockQueued):
            self._is_over = True
            _settle(self._freed)
        if self._lease is not None:
            self._tell(self._lease, event)
        self._heard.append(event)
        _settle(self._listening)

    def _go_deaf(self) -> None:
        self._is_deaf = True
        _settle(self._freed)
        _settle(self._listening)

    @staticmethod
    def _tell(lease: Lease, event: _Heard) -> None:
        if isinstance(event, LockExpired | LockForceReleased | ResourceUnlocked):
            lease.hear(event)

    def _lease_of(self, grant: ResourceLocked) -> Lease:
        until = safe_until(self._sent_at, grant.deadline_ms - grant.at_ms)
        return Lease(self._connection, self._command, grant, until=until, correlation_id=self._correlation_id)

    def _locked_by(self, holder: str | None) -> str:
        by = "is not given to anybody yet" if holder is None else f"is locked by {holder}"
        return f"Resource {self._command.resource_id} {by}"

    def _error(self, words: str, *, code: str, holder: str | None = None) -> ResourceLockError:
        return ResourceLockError(self._command.resource_id, words, holder=holder, code=code)

    def _unexpected(self, event: _Heard) -> DiurnaError:
        return Unavailable(f"the lock {self._command.lock_id} is {event.type_name}, which nobody waited for")


def _settle(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
