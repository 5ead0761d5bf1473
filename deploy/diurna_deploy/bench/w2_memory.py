"""W2 D: many locks held at once, what they take in memory, and how long a decider takes to know them again.

On a broker of its own: nobody wants a hundred thousand locks on the log of a stack that is in use.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import psutil
import structlog

from diurna_deploy.bench import processes
from diurna_deploy.bench.own_servers import own_kafka
from diurna_deploy.bench.w1_processes import connected
from diurna_deploy.settings import Settings
from diurna_schemas.locks import LEASE_MS_MAX, AcquireLock, RenewLock
from diurna_schemas.topics import LOCKS, PARTITIONS, partition_of
from diurna_streams.decide.follower import Follower
from diurna_streams.decide.runner import SNAPSHOT_EVERY_EVENTS
from diurna_streams.deciders.locks import RULES
from diurna_streams.log import TopicPartition

LOCKS_HELD: Final = 100_000
RECOVERY_SECONDS_MAX: Final = 2.0
_AT_ONCE: Final = 512
_PATIENCE_SECONDS: Final = 120.0
_BEYOND_EVENTS: Final = 1_500
"""A snapshot is due when the events that were read back say so: a little after they were written."""
_MODULE: Final = "w2_memory"


async def measure(settings: Settings, *, count: int = LOCKS_HELD) -> dict[str, Any]:
    """The figures: memory of the decider before and after, recovery from the snapshot and from the events alone."""
    async with own_kafka(settings) as servers:
        return await _measured(servers, count)


async def _measured(servers: str, count: int) -> dict[str, Any]:
    async with processes.running("w1_processes", "deciders", servers, "-", "-") as decider:
        memory = psutil.Process(decider.pid).memory_info
        before = memory().rss
        filled = await processes.outcome(_MODULE, "fill", servers, str(count))
        held = memory().rss
    snapshot, events = (
        await processes.outcome(_MODULE, "recover", servers, "snapshot"),
        await processes.outcome(_MODULE, "recover", servers, "events"),
    )
    return {
        "locks": count,
        "acquired_per_second": round(count / filled["seconds"]),
        "decider_mb_before": round(before / 2**20),
        "decider_mb_held": round(held / 2**20),
        "bytes_per_lock": round((held - before) / count),
        "recovered": snapshot["held"],
        "recovery_from_snapshot_seconds": round(snapshot["seconds"], 2),
        "recovery_from_snapshot_cpu_seconds": round(snapshot["cpu"], 2),
        "recovery_from_snapshot_events": snapshot["folded"],
        "recovery_from_events_seconds": round(events["seconds"], 2),
        "recovery_from_events_cpu_seconds": round(events["cpu"], 2),
        "recovery_from_events_events": events["folded"],
        "events_folded_per_second": round(events["folded"] / events["seconds"]),
        "is_reached": snapshot["seconds"] <= RECOVERY_SECONDS_MAX and snapshot["held"] == events["held"] == count,
    }


async def fill(servers: str, count: str) -> dict[str, Any]:
    """Acquires so many locks for an hour, and renews some of them until every partition has a new snapshot."""
    numbers = range(int(count))
    renewals = dict.fromkeys(range(PARTITIONS), 0)
    events = Counter(partition_of(_resource(number)) for number in numbers)
    for partition, found in events.items():
        renewals[partition] = -found % SNAPSHOT_EVERY_EVENTS + _BEYOND_EVENTS if found >= SNAPSHOT_EVERY_EVENTS else 0
    renewed: list[int] = []
    for number in numbers:
        partition = partition_of(_resource(number))
        if renewals[partition] > 0:
            renewals[partition] -= 1
            renewed.append(number)
    async with await connected(servers, "-") as connection:
        began = time.perf_counter()
        await _each(numbers, lambda number: connection.ask(_acquire(number), timeout=_PATIENCE_SECONDS))
        seconds = time.perf_counter() - began
        await _each(renewed, lambda number: connection.ask(_renew(number), timeout=_PATIENCE_SECONDS))
    return {"seconds": seconds}


async def _each(numbers: Iterable[int], work: Callable[[int], Awaitable[object]]) -> None:
    """Does the work for each number, many at once."""
    waiting = iter(numbers)

    async def some() -> None:
        for number in waiting:
            await work(number)

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))


def _resource(number: int) -> str:
    return f"bench:held/{number}"


def _acquire(number: int) -> AcquireLock:
    return AcquireLock(
        command_id=uuid.uuid4().hex,
        resource_id=_resource(number),
        lock_id=f"lock-{number:026}",
        agent_id="bench",
        lease_ms=LEASE_MS_MAX,
    )


def _renew(number: int) -> RenewLock:
    return RenewLock(
        command_id=uuid.uuid4().hex, resource_id=_resource(number), lock_id=f"lock-{number:026}", agent_id="bench"
    )


async def recover(servers: str, source: str) -> dict[str, Any]:
    """Has the states of all partitions again, as a decider does before it decides; `events`: without any snapshot."""
    # Snapshots of other rules are of no use to these: then there is nothing but the events.
    rules = RULES if source == "snapshot" else replace(RULES, logic_version=2**30)
    async with await connected(servers, "-") as connection:
        await connection.log.ends([TopicPartition(LOCKS.events, 0)])  # the connection is made
        follower = Follower(connection.log, connection.codec, rules, PARTITIONS)
        ready = asyncio.Event()
        began, cpu = time.perf_counter(), time.process_time()
        following = asyncio.create_task(follower.run(ready=ready))
        await ready.wait()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        following.cancel()
        held = sum(
            resource.holder is not None
            for history in follower.histories
            for _, resource in history.state.resources.items()
        )
    folded = sum(history.accepted_count for history in follower.histories)
    return {"seconds": seconds, "cpu": cpu, "held": held, "folded": folded}


_ROLES: Final[dict[str, Callable[..., Awaitable[dict[str, Any]]]]] = {"fill": fill, "recover": recover}


def main() -> None:
    """`python -m diurna_deploy.bench.w2_memory ROLE SERVERS ARGUMENT`."""
    import uvloop

    from diurna_deploy.collector import calm

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    role, *arguments = sys.argv[1:]
    calm()
    work: Any = _ROLES[role](*arguments)
    print(json.dumps(uvloop.run(work)), flush=True)


if __name__ == "__main__":
    main()
