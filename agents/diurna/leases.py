"""A lock that is held: until when that is certain, what keeps it, and the word that it is gone."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any, Final, Literal

import structlog

from diurna.connection import Connection
from diurna.documents import validated
from diurna_schemas.errors import InvalidInput, LockLost, ResourceLockError, Unavailable, Unreadable
from diurna_schemas.locks import (
    LEASE_MS_MAX,
    LEASE_MS_MIN,
    AcquireLock,
    LockExpired,
    LockForceReleased,
    LockRenewed,
    RenewLock,
    ResourceLocked,
    ResourceUnlocked,
)

_log = structlog.get_logger(__name__)

RATE_ERROR: Final = 1e-3
"""How much faster than ours the log's clock may run."""
MARGIN_SECONDS: Final = 0.05
"""What a thread may be late in noticing that its time is over."""
ANSWER_SECONDS_MAX: Final = 30.0
_RETRY_SECONDS: Final = 0.2
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

Ended = LockExpired | LockForceReleased | ResourceUnlocked


def now_seconds() -> float:
    """A clock that only goes on; where the system has such a one, also while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


def safe_until(sent_at: float, lease_ms: int) -> float:
    """Until when a lease is certain: it began when the log stamped the command, which was after we sent it."""
    return sent_at + lease_ms / 1000 * (1 - RATE_ERROR) - MARGIN_SECONDS


def lease_ms_of(field: str, seconds: float) -> int:
    """A lease in milliseconds. Raises `InvalidInput` outside 1 second to 1 hour."""
    return milliseconds(field, seconds, LEASE_MS_MIN, LEASE_MS_MAX)


def milliseconds(field: str, seconds: object, least_ms: int, most_ms: int) -> int:
    """Seconds in milliseconds. Raises `InvalidInput` for what is no number, or none of those that are allowed."""
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and least_ms <= seconds * 1000 <= most_ms:
        return round(seconds * 1000)
    raise InvalidInput(field, seconds, f"{least_ms // 1000} to {most_ms // 1000} seconds are allowed")


class Lost(asyncio.Event):
    """Set once the lease is over, however that came. It can be awaited itself: `await lease.lost`."""

    def __await__(self) -> Generator[Any, None, Literal[True]]:
        return self.wait().__await__()


class Lease:
    """A lock, held. `token` is what a guarded resource checks; `remaining` is how long the lock is certainly ours.

    `lost` is set when the lease is over: its time has passed, an administrator took it, somebody released it. `loss`
    then says which.
    """

    def __init__(
        self,
        connection: Connection,
        wish: AcquireLock,
        grant: ResourceLocked,
        *,
        until: float,
        correlation_id: str | None = None,
    ) -> None:
        self.resource_id = wish.resource_id
        self.agent_id = wish.agent_id
        self.lock_id = wish.lock_id
        self.token = grant.fencing_token
        self.timeout = wish.lease_ms / 1000
        self.is_provisional = grant.is_provisional
        self.lost = Lost()
        self.loss: str | None = None
        self.alone_since: float | None = None
        """By `now_seconds`: since when nobody else can have held the lock, as far as that is known."""
        self._connection = connection
        self._correlation_id = correlation_id
        self._deadline_ms = grant.deadline_ms
        self._until = until
        self._extended_at = until - self.timeout
        self._timer: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._on_loss: Callable[[], None] | None = None

    @property
    def remaining(self) -> float:
        """For how many seconds the lock is certainly ours; 0 once it is lost."""
        return 0.0 if self.lost.is_set() else max(0.0, self._until - now_seconds())

    @property
    def expires_at(self) -> datetime:
        """When the lease ends by the log's clock."""
        return datetime.fromtimestamp(self._deadline_ms / 1000, UTC)

    async def renew(self, timeout: float | None = None) -> None:
        """Holds the lock for `timeout` seconds from now, else for as long as it was asked for.

        Raises `LockLost` where it is over already, `Unavailable` where no answer came: then it may be renewed or not,
        and `remaining` counts on as if it were not.
        """
        await self._renew(timeout, patience=min(max(self.remaining, MARGIN_SECONDS), ANSWER_SECONDS_MAX))

    # --- for the manager --------------------------------------------------------------------------------

    def begin(self, on_loss: Callable[[], None], *, is_kept: bool) -> None:
        """The body is about to be entered; `on_loss` is called once, from the loop, should the lease be over first."""
        if self.lost.is_set():
            on_loss()
            return
        self._on_loss = on_loss
        self._arm()
        if is_kept or self.is_provisional:
            self._keeper = asyncio.create_task(self._keep(is_kept=is_kept), name=f"diurna-lease-{self.lock_id}")

    def end(self) -> None:
        """The body has been left: nothing keeps the lease any longer, and nobody is told of its end."""
        self._on_loss = None
        if self._timer is not None:
            self._timer.cancel()
        if self._keeper is not None:
            self._keeper.cancel()

    async def claim(self, *, patience: float) -> None:
        """Makes a grant from the queue a lease of full length.

        Raises `ResourceLockError` where it had passed to the next already, `Unavailable` where no answer came.
        """
        event, sent_at = await self._asked(None, patience)
        self._extend(event, sent_at)

    def hear(self, event: Ended) -> None:
        """Takes from the log that the lease is over."""
        match event:
            case LockForceReleased():
                self._lose(f"it was taken away by {event.released_by}: {event.reason}")
            case LockExpired():
                self._lose("its lease is over")
            case ResourceUnlocked():
                self._lose("it was released")

    # --- keeping it -------------------------------------------------------------------------------------

    async def _keep(self, *, is_kept: bool) -> None:
        """Claims it where it came from the queue, and renews it at each third of its length where it is to be kept."""
        if self.is_provisional:
            await self._renewed()
        while is_kept and not self.lost.is_set():
            due = self._extended_at + self.timeout / 3
            await asyncio.sleep(max(0.0, due - now_seconds()))
            await self._renewed()

    async def _renewed(self) -> None:
        """Returns once it is renewed, or lost."""
        while not self.lost.is_set():
            try:
                await self._renew(None, patience=max(self.timeout / 6, 1.0))
            except LockLost:
                return
            except Unavailable as error:
                _log.warning("a lease was not renewed yet", resource_id=self.resource_id, error=str(error))
                await asyncio.sleep(min(_RETRY_SECONDS, self.remaining))
            else:
                return

    async def _renew(self, timeout: float | None, *, patience: float) -> None:
        if timeout is not None:
            lease_ms_of("timeout", timeout)
        if self.lost.is_set():
            raise LockLost(self.resource_id, self._words())
        try:
            event, sent_at = await self._asked(timeout, patience)
        except ResourceLockError as error:
            self._lose(error.reason)
            raise LockLost(self.resource_id, self._words()) from error
        self._extend(event, sent_at)
        if timeout is not None:
            self.timeout = timeout

    async def _asked(self, timeout: float | None, patience: float) -> tuple[LockRenewed, float]:
        command = validated(
            RenewLock,
            {
                "command_id": uuid.uuid4().hex,
                "resource_id": self.resource_id,
                "lock_id": self.lock_id,
                "agent_id": self.agent_id,
                "lease_ms": None if timeout is None else lease_ms_of("timeout", timeout),
            },
        )
        sent_at = now_seconds()
        event = await self._connection.ask(command, timeout=patience, correlation_id=self._correlation_id)
        if not isinstance(event, LockRenewed):
            raise Unreadable(f"a {type(event).__name__} does not answer a renewal")
        return event, sent_at

    def _extend(self, event: LockRenewed, sent_at: float) -> None:
        self.is_provisional = False
        self._deadline_ms = event.deadline_ms
        until_before, self._until = self._until, safe_until(sent_at, event.lease_ms)
        self._extended_at = sent_at
        if self._timer is not None and self._until < until_before:
            self._timer.cancel()
            self._arm()

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, self._until - now_seconds()), self._check)

    def _check(self) -> None:
        """Renewals do not touch the timer: when it rings, there may be time left."""
        if self.lost.is_set():
            return
        if self._until > now_seconds():
            self._arm()
        else:
            self._lose("its lease is over, by our own clock")

    def _lose(self, why: str) -> None:
        if self.lost.is_set():
            return
        self.loss = why
        self.lost.set()
        on_loss, self._on_loss = self._on_loss, None
        if on_loss is not None:
            on_loss()

    def _words(self) -> str:
        return f"the lock on {self.resource_id} is lost: {self.loss}"

    def lost_error(self) -> LockLost:
        """What the body of a kept lease is told."""
        return LockLost(self.resource_id, self._words())
