"""Who may write to a thread: a small port, fulfilled by the lock on `thread:…`, or by a promise to be the only one."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import structlog

from diurna.leases import Lease
from diurna_schemas.errors import Conflict, DiurnaError, ResourceLockError
from diurna_schemas.ids import checked_name

logger = structlog.get_logger(__name__)

AGENT_ID: Final = "checkpointer"
"""Who holds a thread, where nobody says who he is."""
LEASE_SECONDS: Final = 10.0
"""How long a thread stays its holder's after the holder's death."""
WAIT_SECONDS: Final = 30.0


class Hold(Protocol):
    """A thread that is held. `token` grows from hold to hold."""

    @property
    def token(self) -> int: ...

    @property
    def is_safe(self) -> bool:
        """Whether nobody else can have been given the thread so far."""
        ...

    @property
    def alone_since(self) -> float | None:
        """Since when, by `now_seconds`, nobody else can have had the thread; none where that is not known."""
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
    alone_since = 0.0

    async def hold(self, thread_id: str) -> SoleWriter:
        """Always given."""
        return self

    def keep(self) -> None:
        """There is nothing to keep."""

    async def release(self) -> None:
        """There is nothing to give back."""


class Locks(Protocol):
    """The manager of locks, as far as a saver needs it."""

    def acquire(
        self, resource_id: str, agent_id: str, *, timeout: float, wait_timeout: float, reason: str | None
    ) -> AbstractAsyncContextManager[Lease]: ...


class LockedThreads:
    """Holds the lock `thread:…` for each thread that is written to, as `agent_id`."""

    def __init__(
        self,
        locks: Locks,
        *,
        agent_id: str = AGENT_ID,
        lease_seconds: float = LEASE_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._locks = locks
        self._agent_id = checked_name("agent_id", agent_id)
        self._lease_seconds = lease_seconds
        self._wait_seconds = wait_seconds

    async def hold(self, thread_id: str) -> Hold:
        """Waits for the thread. Raises `Conflict` naming who holds it, where that takes too long."""
        acquiring = self._locks.acquire(
            f"thread:{thread_id}",
            self._agent_id,
            timeout=self._lease_seconds,
            wait_timeout=self._wait_seconds,
            reason="writes checkpoints",
        )
        try:
            lease = await acquiring.__aenter__()
        except ResourceLockError as error:
            who = error.holder or "another writer"
            words = f"thread {thread_id!r} is written to by {who}: one writer at a time"
            raise Conflict(words, code="thread_held") from error
        return _Held(thread_id, lease, acquiring)


class _Held:
    """A lease, for as long as somebody keeps it."""

    def __init__(self, thread_id: str, lease: Lease, acquiring: AbstractAsyncContextManager[Lease]) -> None:
        self.token = lease.token
        self.alone_since = lease.alone_since
        self._thread_id = thread_id
        self._lease = lease
        self._acquiring = acquiring
        self._is_released = False
        self._renewing: asyncio.Task[None] | None = None

    @property
    def is_safe(self) -> bool:
        return not self._is_released and self._lease.remaining > 0

    def keep(self) -> None:
        is_due = self._lease.remaining < self._lease.timeout * 2 / 3
        if is_due and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew(), name=f"keep {self._lease.resource_id}")

    async def release(self) -> None:
        self._is_released = True
        if self._renewing is not None:
            self._renewing.cancel()
        await self._acquiring.__aexit__(None, None, None)

    async def _renew(self) -> None:
        try:
            await self._lease.renew()
        except DiurnaError as error:
            logger.warning("a thread could not be kept", thread_id=self._thread_id, error=str(error))
