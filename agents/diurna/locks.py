"""Locks on resources: one holder at a time in the whole team, decided on the log."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final

from diurna.api_client import ApiClient
from diurna.client import Client
from diurna.connection import Connection
from diurna.documents import json_text, validated
from diurna.leases import Lease, lease_ms_of, milliseconds
from diurna.lock_reads import ApiReads, LockReads, TableReads, What
from diurna.metrics import LOCK_ACQUISITIONS, LOCK_CONTENTIONS, LOCK_WAIT_SECONDS, LOCKS_ACTIVE
from diurna.past_reads import AsOf, as_of_text
from diurna.settings import ClientSettings, api_url
from diurna.wishes import Wish
from diurna_schemas import topics
from diurna_schemas.errors import InvalidInput, ResourceLockError, Unreadable
from diurna_schemas.ids import Position, checked_id, checked_name
from diurna_schemas.locks import (
    LEASE_MS_MAX,
    WAIT_MS_MAX,
    AcquireLock,
    ForceReleaseLock,
    LockForceReleased,
    ReleaseLock,
    RenewLock,
)
from diurna_schemas.shapes import LockInfo, LockRecord, LockStatistics, LockWaiter
from diurna_schemas.topics import PARTITIONS, partition_of
from diurna_streams.log import TopicPartition

__all__ = ["Lease", "ResourceLockManager"]

_NO_REASON: Final = "no reason was given"
_DATABASES: Final = ("postgres://", "postgresql://")


class ResourceLockManager(Client):
    """A client of the locks. Without a connection it uses the process's shared one, to what the environment names.

    `address` says where lists and states of locks are read: the API (`http://…`) or the database the log is projected
    to (`postgresql://…`); without one, the environment's API. Whoever only acquires and releases needs neither: that
    is decided on the log.

    What is read shows everything that stood on the log when it was asked for, so a lock that somebody was granted a
    moment ago is never missing, and what this process gave back is free. A lease whose time has passed is over, also
    where the log has not said so yet.

    Reads take `as_of`, a time or the position of an event as text, and answer who held and who waited then. A datetime
    needs a zone, a text without one is UTC; a time to come is now. They raise `InvalidInput` where it is neither,
    `NotFound` for a position at which no event stands.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        connection: Connection | None = None,
        settings: ClientSettings | None = None,
        api: ApiClient | None = None,
    ) -> None:
        super().__init__(connection, settings=settings)
        self._address = address
        self._api = api
        self._reads: LockReads | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        if address is not None and not address.startswith(("http://", "https://", *_DATABASES)):
            raise InvalidInput("address", address, "an http:// or postgresql:// address is expected")

    async def close(self) -> None:
        """Waits until what is being given back is free, and gives up the connection.

        Leases whose body still runs are left alone: they end with their bodies, or by themselves.
        """
        await asyncio.gather(*self._leaving, return_exceptions=True)
        if self._connection is not None:
            await self._connection.all_decided()
        reads, self._reads = self._reads, None
        if reads is not None:
            await reads.close()
        await super().close()

    def acquire(  # noqa: PLR0917 - the arguments and their order are those of the system it replaces
        self,
        resource_id: str,
        agent_id: str,
        timeout: float = 300,
        wait_timeout: float = 0,
        reason: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        auto_renew: bool = False,
        *,
        correlation_id: str | None = None,
    ) -> AbstractAsyncContextManager[Lease]:
        """Holds the lock on a resource for a body: `async with locks.acquire("repo:x", "agent-1") as lease: …`.

        `timeout` is the lease in seconds, 1 to 3600: after it the lock is over by itself, whatever the body does.
        With `auto_renew` it is renewed at each third of that, and where it cannot be kept the body is cancelled and
        `LockLost` raised; without, `lease.lost` is set and the body runs on. With `wait_timeout` the agent waits so
        many seconds for its turn, first come first served; without, a lock that another has is refused at once:
        `ResourceLockError`, "Resource … is locked by …". Locks are not re-entrant. `correlation_id` puts the lock into
        the timeline of a piece of work.

        However the body is left, by its end, an error or a cancellation, the lock is given back: the log has noted that
        when the block ends, before anything that asks for it later. That its lease had ended before is no error. Raises
        `InvalidInput` or `TooLarge` naming the field, before anything is written, `Unavailable` where the log does not
        answer.
        """
        lock_id = uuid.uuid4().hex
        wish = validated(
            AcquireLock,
            {
                "command_id": lock_id,
                "resource_id": checked_id("resource_id", resource_id),
                "lock_id": lock_id,
                "agent_id": checked_name("agent_id", agent_id),
                "lease_ms": lease_ms_of("timeout", timeout),
                "wait_ms": milliseconds("wait_timeout", wait_timeout, 0, WAIT_MS_MAX),
                "reason": reason or "",
                "metadata": json_text("metadata", dict(metadata)) if metadata else "{}",
            },
        )
        if correlation_id is not None:
            checked_id("correlation_id", correlation_id)
        return self._held(wish, correlation_id, is_kept=auto_renew)

    async def release(self, resource_id: str, agent_id: str) -> Position:
        """Gives back whatever the agent has on this resource, its places in the queue too, whoever acquired it.

        Returns where that stands. Raises `ResourceLockError` where the agent has nothing there.
        """
        command = validated(
            ReleaseLock,
            {
                "command_id": uuid.uuid4().hex,
                "resource_id": checked_id("resource_id", resource_id),
                "agent_id": checked_name("agent_id", agent_id),
            },
        )
        return (await (await self._connected()).answer(command)).position

    async def renew(self, resource_id: str, agent_id: str, timeout: float | None = None) -> Position:
        """Has the agent hold the lock for `timeout` seconds from now, else for as long as it was asked for.

        For locks that were acquired elsewhere; a lease is renewed with `Lease.renew`, which counts its own time. Raises
        `ResourceLockError` where the agent does not hold it.
        """
        checked_name("agent_id", agent_id)
        lease_ms = None if timeout is None else lease_ms_of("timeout", timeout)
        held = await self.get_lock_info(resource_id)
        if held is None or held.agent_id != agent_id:
            holder = None if held is None else held.agent_id
            words = f"{agent_id} does not hold {resource_id}" + (f"; it is locked by {holder}" if holder else "")
            raise ResourceLockError(resource_id, words, holder=holder, code="not_holder")
        command = RenewLock(
            command_id=uuid.uuid4().hex,
            resource_id=resource_id,
            lock_id=held.lock_id,
            agent_id=agent_id,
            lease_ms=lease_ms,
        )
        return (await (await self._connected()).answer(command)).position

    async def force_unlock(
        self, resource_id: str, admin_agent_id: str, reason: str = _NO_REASON, *, grace: float = 0
    ) -> LockForceReleased:
        """Takes the lock away from whoever holds it; for `grace` seconds nobody gets it, so that the holder can stop.

        Raises `ResourceLockError` where nobody holds it.
        """
        command = validated(
            ForceReleaseLock,
            {
                "command_id": uuid.uuid4().hex,
                "resource_id": checked_id("resource_id", resource_id),
                "released_by": checked_name("admin_agent_id", admin_agent_id),
                "reason": reason,
                "grace_ms": milliseconds("grace", grace, 0, LEASE_MS_MAX),
            },
        )
        event = await (await self._connected()).ask(command)
        if not isinstance(event, LockForceReleased):
            raise Unreadable(f"a {type(event).__name__} does not answer a forced release")
        return event

    async def is_locked(self, resource_id: str, *, as_of: AsOf = None) -> bool:
        """Whether somebody holds the lock."""
        return await self.get_lock_info(resource_id, as_of=as_of) is not None

    async def get_lock_info(self, resource_id: str, *, as_of: AsOf = None) -> LockInfo | None:
        """Who holds the lock, since when and until when; None where nobody does."""
        found = await self._read("held", resource_id=checked_id("resource_id", resource_id), as_of=as_of)
        return validated(LockInfo, found[0]) if found else None

    async def list_locks(self, agent_id: str | None = None, *, limit: int = 1000, as_of: AsOf = None) -> list[LockInfo]:
        """The locks that are held, all or an agent's, in order of their resources."""
        found = await self._read("held", agent_id=agent_id, limit=limit, as_of=as_of)
        return [validated(LockInfo, one) for one in found]

    async def get_wait_queue(
        self, resource_id: str | None = None, *, limit: int = 1000, as_of: AsOf = None
    ) -> list[LockWaiter]:
        """Who waits for a resource, or for any, the next one first."""
        found = await self._read("queue", resource_id=resource_id, limit=limit, as_of=as_of)
        return [validated(LockWaiter, one) for one in found]

    async def get_lock_history(
        self, resource_id: str | None = None, *, agent_id: str | None = None, limit: int = 100, as_of: AsOf = None
    ) -> list[LockRecord]:
        """Every wish for a lock and how it ended, the newest first; of a resource, an agent, or all."""
        found = await self._read("history", resource_id=resource_id, agent_id=agent_id, limit=limit, as_of=as_of)
        return [validated(LockRecord, one) for one in found]

    async def get_lock_statistics(
        self, resource_id: str | None = None, *, limit: int = 100, as_of: AsOf = None
    ) -> list[LockStatistics]:
        """How much a resource is fought for, or each of them, in order of their ids."""
        found = await self._read("statistics", resource_id=resource_id, limit=limit, as_of=as_of)
        return [validated(LockStatistics, one) for one in found]

    # --- holding ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _held(self, command: AcquireLock, correlation_id: str | None, *, is_kept: bool) -> AsyncGenerator[Lease]:
        wish = Wish(await self._connected(), command, correlation_id)
        try:
            lease = await _counted(wish, command)
            if is_kept:
                async with _cancelled_when_lost(lease):
                    yield lease
            else:
                with _begun(lease, None):
                    yield lease
        finally:
            try:
                await wish.give_back()
            except asyncio.CancelledError:
                # Whoever is cancelled while leaving still gives the lock back: again, which is one release.
                leaving = asyncio.create_task(wish.give_back(), name=f"diurna-release-{command.lock_id}")
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
                raise

    # --- reading ----------------------------------------------------------------------------------------

    async def _read(
        self,
        what: What,
        *,
        resource_id: str | None = None,
        agent_id: str | None = None,
        limit: int = 1,
        as_of: AsOf = None,
    ) -> list[dict[str, Any]]:
        """Reads what the tables hold, or held, once they hold everything that is on the log now."""
        moment = as_of_text(as_of)
        for field, value in (("resource_id", resource_id), ("agent_id", agent_id)):
            if value is not None:
                checked_id(field, value)
        connection = await self._connected()
        await connection.all_decided()
        if self._reads is None:
            self._reads = await self._reads_of(connection)
        numbers = range(PARTITIONS) if resource_id is None else [partition_of(resource_id)]
        ends = await connection.log.ends([TopicPartition(topics.LOCKS.events, number) for number in numbers])
        last = [Position(place.topic, place.partition, end - 1) for place, end in ends.items() if end > 0]
        filters = {"resource_id": resource_id, "agent_id": agent_id}
        return await self._reads.read(what, filters, limit=limit, after=last, as_of=moment)

    async def _reads_of(self, connection: Connection) -> LockReads:
        if self._api is not None:
            return ApiReads(self._api)
        if self._address is not None and self._address.startswith(_DATABASES):
            return await TableReads.connect(self._address, connection.codec, connection.clock_ms)
        found = self._address or (self._settings.api_url if self._settings is not None else None)
        return ApiReads(ApiClient(found or api_url()))


async def _counted(wish: Wish, command: AcquireLock) -> Lease:
    """The lease, and what it took for the metrics."""
    resource_type = command.resource_id.partition(":")[0]
    began = time.perf_counter()
    status = "error"
    try:
        lease = await wish.granted()
        status = "success"
        LOCK_WAIT_SECONDS.labels(resource_type).observe(time.perf_counter() - began)
        return lease
    except ResourceLockError as error:
        status = "timeout" if error.code == "wait_timed_out" else "denied"
        raise
    except asyncio.CancelledError:
        status = "cancelled"
        raise
    finally:
        LOCK_ACQUISITIONS.labels(resource_type, command.agent_id, status).inc()
        if wish.was_contended:
            LOCK_CONTENTIONS.labels(resource_type).inc()


@asynccontextmanager
async def _cancelled_when_lost(lease: Lease) -> AsyncGenerator[None]:
    """Keeps a lease while its body runs, and cancels the body where it cannot be kept. Raises `LockLost` then."""
    limit = asyncio.timeout(None)
    try:
        async with limit:
            with _begun(lease, limit):
                yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise lease.lost_error() from error
    if lease.lost.is_set():
        raise lease.lost_error()


@contextmanager
def _begun(lease: Lease, limit: asyncio.Timeout | None) -> Generator[None]:
    """Counts a lease while its body runs; one with a limit is kept, and the limit is reached when it is lost."""

    def lost() -> None:
        LOCKS_ACTIVE.dec()
        if limit is not None:
            limit.reschedule(asyncio.get_running_loop().time())

    LOCKS_ACTIVE.inc()
    lease.begin(lost, is_kept=limit is not None)
    try:
        yield
    finally:
        lease.end()
        if not lease.lost.is_set():
            LOCKS_ACTIVE.dec()
