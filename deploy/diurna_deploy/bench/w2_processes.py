"""The clients of W2, each process for itself: with the locks of Diurna, and as clients that fold the log themselves."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol

import structlog

from diurna_deploy.bench.w1_processes import connected

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# aiokafka carries no complete annotations; the floor speaks to it directly.

LEASE_SECONDS: Final = 60
WAIT_SECONDS: Final = 120


class Locks(Protocol):
    """Somebody's locks: `hold` enters once the lock is the owner's alone, and leaves once it is known to be free."""

    def hold(self, resource: str, owner: str) -> AbstractAsyncContextManager[object]: ...


class DiurnaLocks:
    """The locks of Diurna, as any agent has them."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def hold(self, resource: str, owner: str) -> AbstractAsyncContextManager[object]:
        found: AbstractAsyncContextManager[object] = self._manager.acquire(
            resource, owner, timeout=LEASE_SECONDS, wait_timeout=WAIT_SECONDS
        )
        return found


class FloorLocks:
    """The least a lock on a log costs: each client reads all there is and folds it, first come, first served.

    One hop to acquire, one to release and know. No lease, no timeout, no fencing of a dead client, no history: what
    remains when everything is left out that makes a lock fit for use.
    """

    def __init__(self, producer: Any, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._queues: dict[bytes, deque[bytes]] = {}
        self._entering: dict[bytes, asyncio.Future[None]] = {}
        self._leaving: dict[bytes, asyncio.Future[None]] = {}
        self._numbers = 0

    @asynccontextmanager
    async def hold(self, resource: str, owner: str) -> AsyncGenerator[None]:
        self._numbers += 1
        wish = f"{owner}.{self._numbers}".encode()
        await self._said(b"a", resource.encode(), wish, self._entering)
        try:
            yield
        finally:
            await self._said(b"r", resource.encode(), wish, self._leaving)

    def read(self, key: bytes, value: bytes) -> None:
        """Folds a record."""
        queue = self._queues.setdefault(key, deque())
        wish = value[1:]
        if value[:1] == b"a":
            queue.append(wish)
        else:
            if queue and queue[0] == wish:  # else it was acquired before this process began to read
                queue.popleft()
            _done(self._leaving.pop(wish, None))
        if queue:
            _done(self._entering.pop(queue[0], None))

    async def _said(
        self, word: bytes, resource: bytes, wish: bytes, waiting: dict[bytes, asyncio.Future[None]]
    ) -> None:
        future = waiting[wish] = asyncio.get_running_loop().create_future()
        await self._producer.send(self._topic, word + wish, key=resource, partition=0)
        await future


def _done(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


@asynccontextmanager
async def diurna_locks(servers: str, registry: str, name: str) -> AsyncGenerator[Locks]:
    """The locks of Diurna on this broker."""
    from diurna import ResourceLockManager

    async with await connected(servers, registry) as connection, ResourceLockManager(connection=connection) as manager:
        yield DiurnaLocks(manager)


@asynccontextmanager
async def floor_locks(servers: str, registry: str, name: str) -> AsyncGenerator[Locks]:
    """The floor on this broker, on a topic of its own."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=None)
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await consumer.start()
    await producer.start()
    place = TopicPartition(name, 0)
    consumer.assign([place])
    await consumer.seek_to_end(place)
    await consumer.position(place)
    locks = FloorLocks(producer, name)

    async def listen() -> None:
        while True:
            for messages in (await consumer.getmany(timeout_ms=1000, max_records=500)).values():
                for message in messages:
                    locks.read(message.key or b"", message.value or b"")

    listening = asyncio.create_task(listen())
    try:
        yield locks
    finally:
        listening.cancel()
        await consumer.stop()
        await producer.stop()


async def one(locks: Locks, name: str, warm_up: int, count: int) -> dict[str, Any]:
    """A: one client, one lock, one pair of acquire and release after the other."""
    for _ in range(warm_up):
        async with locks.hold(f"{name}:one", "one"):
            pass
    took: list[float] = []
    cpu = time.process_time()
    for _ in range(count):
        began = time.perf_counter()
        async with locks.hold(f"{name}:one", "one"):
            pass
        took.append(time.perf_counter() - began)
    return {"took": took, "cpu": time.process_time() - cpu}


async def contend(locks: Locks, name: str, seconds: int, first: int, contenders: int) -> dict[str, Any]:
    """B: some of the contenders for one lock; when each held it, by a clock that all processes share."""
    holds: list[tuple[int, float, float, float]] = []
    until = time.monotonic() + seconds
    cpu = time.process_time()

    async def fight(number: int) -> None:
        while (asked := time.monotonic()) < until:
            async with locks.hold(f"{name}:all", f"contender-{number}"):
                entered = time.monotonic()
                left = time.monotonic()
            holds.append((number, asked, entered, left))

    await asyncio.gather(*(fight(number) for number in range(first, first + contenders)))
    return {"holds": holds, "cpu": time.process_time() - cpu}


async def many(locks: Locks, name: str, seconds: int, count: int) -> dict[str, Any]:
    """C: as many clients as locks, each with its own."""
    pairs = 0
    began = time.monotonic()
    until = began + seconds
    cpu = time.process_time()

    async def work(number: int) -> None:
        nonlocal pairs
        while time.monotonic() < until:
            async with locks.hold(f"{name}:{number}", f"client-{number}"):
                pass
            pairs += 1

    await asyncio.gather(*(work(number) for number in range(count)))
    return {"pairs": pairs, "seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}


_SYSTEMS: Final[dict[str, Callable[[str, str, str], AbstractAsyncContextManager[Locks]]]] = {
    "diurna": diurna_locks,
    "floor": floor_locks,
}
_LOADS: Final[dict[str, Callable[..., Awaitable[dict[str, Any]]]]] = {"one": one, "contend": contend, "many": many}


async def run(load: str, system: str, servers: str, registry: str, name: str, *numbers: str) -> None:
    """Says that it is ready, waits for a line, and prints what it measured."""
    async with _SYSTEMS[system](servers, registry, name) as locks:
        # One pair beforehand: connections are made, partitions are followed.
        async with locks.hold(f"{name}:warm-{'-'.join(numbers)}", "warm"):
            pass
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        found = await _LOADS[load](locks, name, *map(int, numbers))
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def main() -> None:
    """`python -m diurna_deploy.bench.w2_processes LOAD SYSTEM SERVERS REGISTRY NAME NUMBER…`."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    load, system, *arguments = sys.argv[1:]
    work: Any = run(load, system, *arguments)
    if system == "floor":
        asyncio.run(work)
    else:
        import uvloop

        from diurna_deploy.collector import calm

        calm()
        uvloop.run(work)


if __name__ == "__main__":
    main()
