"""The processes of W3, each for itself: units of workflow state through the SDK, and the same without Diurna."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from diurna_deploy.bench.w1_processes import connected

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# aiokafka carries no complete annotations; the reference speaks to it directly.

UPDATES: Final = 10
OPERATIONS: Final = UPDATES + 3
STATE: Final[dict[str, Any]] = {
    "pr_number": 123,
    "repository": "https://example.org/team/service.git",
    "branch": "feature/faster-start",
    "review": {"status": "pending", "comments": [f"line {line}: look again" for line in range(12)]},
    "tests": {"passed": 0, "failed": 0, "suites": ["unit", "contract", "integration", "golden"]},
    "deployment": {"environment": "staging", "strategy": "switch", "healthy": None, "release": "20261123T221500Z"},
}
"""About 0.6 kB of JSON."""

Timed = Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]
Unit = Callable[[Timed], Awaitable[None]]


async def diurna(servers: str, registry: str, *load: str) -> None:
    """Create, ten versioned updates, checkpoint, restore, each decided on the log and heard of."""
    from diurna import WorkflowStateManager

    async with await connected(servers, registry) as connection:
        state = WorkflowStateManager(connection=connection)

        async def unit(timed: Timed) -> None:
            workflow_id = f"bench-{uuid.uuid4()}"
            await timed("create", lambda: state.create_workflow("bench", STATE, ["cicd"], workflow_id))
            for number in range(UPDATES):
                updates = {"tests": {"passed": number}, "review": {"status": f"round {number}"}}
                version = await timed("update", _update(state, workflow_id, updates, number + 1))
                if version != number + 2:
                    raise AssertionError(f"version {version} follows {number + 1}")
            taken = await timed("checkpoint", lambda: state.checkpoint(workflow_id, "here", "cicd", {"progress": 50}))
            restored = await timed("restore", lambda: state.restore_checkpoint(workflow_id, taken))
            if restored != {"progress": 50}:
                raise AssertionError(f"not what was kept: {restored}")

        await _report(unit, *map(int, load))


def _update(state: Any, workflow_id: str, updates: dict[str, Any], version: int) -> Callable[[], Awaitable[Any]]:
    return lambda: state.update_state(workflow_id, updates, "cicd", version)


async def floor(servers: str, _: str, *load: str) -> None:
    """As many records of the same size, each written and read back before the next: a version decided on the log."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

    from diurna_schemas.topics import PARTITIONS, Topic, partition_of
    from diurna_streams.log.kafka import KafkaLog

    topic = "bench.workflow-floor"
    async with KafkaLog(servers, client_id="bench") as log:
        await log.provision([Topic(topic, "unit", PARTITIONS, "delete", "CreateTime", 3_600_000, "the bench's")])
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=None)
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await consumer.start()
    await producer.start()
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    consumer.assign(places)
    await consumer.seek_to_end(*places)
    for place in places:
        await consumer.position(place)
    body = json.dumps(STATE).encode()
    waiting: dict[bytes, asyncio.Future[None]] = {}

    async def listen() -> None:
        while True:
            for messages in (await consumer.getmany(timeout_ms=1000, max_records=500)).values():
                for message in messages:
                    if (future := waiting.pop(message.key or b"", None)) is not None:
                        future.set_result(None)

    async def unit(timed: Timed) -> None:
        name = f"bench-{uuid.uuid4()}"
        partition = partition_of(name)

        def write(number: int) -> Callable[[], Awaitable[None]]:
            async def written() -> None:
                key = f"{name}/{number}".encode()
                future = waiting[key] = asyncio.get_running_loop().create_future()
                await producer.send(topic, body, key=key, partition=partition)
                await future

            return written

        for number in range(OPERATIONS):
            await timed("write", write(number))

    listening = asyncio.create_task(listen())
    try:
        await _report(unit, *map(int, load))
    finally:
        listening.cancel()
        await consumer.stop()
        await producer.stop()


async def _report(unit: Unit, warm_up: int, singles: int, many: int, in_flight: int) -> None:
    """Runs units one at a time, then many at once, and prints what they took."""
    took: dict[str, list[float]] = {}

    async def timed(name: str, operation: Callable[[], Awaitable[Any]]) -> Any:
        began = time.perf_counter()
        found = await operation()
        took.setdefault(name, []).append(time.perf_counter() - began)
        return found

    for _ in range(warm_up):
        await unit(timed)
    took.clear()
    cpu = time.process_time()
    for _ in range(singles):
        await timed("unit", lambda: unit(timed))
    cpu_us = (time.process_time() - cpu) / singles * 1e6
    alone = {name: sorted(seconds) for name, seconds in took.items()}

    async def stream(count: int) -> None:
        for _ in range(count):
            await unit(timed)

    await asyncio.gather(*(stream(1) for _ in range(in_flight)))
    share = many // in_flight
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(stream(share) for _ in range(in_flight)))
    elapsed = time.perf_counter() - began
    measures = {
        "p50_ms": _at(alone["unit"], 50),
        "p99_ms": _at(alone["unit"], 99),
        "units_per_second": share * in_flight / elapsed,
        "client_cpu_us_per_unit": cpu_us,
        "client_cpu_us_per_unit_many": (time.process_time() - cpu) / (share * in_flight) * 1e6,
        **{f"{name}_p50_ms": _at(seconds, 50) for name, seconds in alone.items() if name != "unit"},
    }
    sys.stdout.write(json.dumps(measures) + "\n")
    sys.stdout.flush()


def _at(seconds: list[float], percent: int) -> float:
    return seconds[min(len(seconds) * percent // 100, len(seconds) - 1)] * 1000


_ROLES: Final[dict[str, Callable[..., Awaitable[None]]]] = {"diurna": diurna, "floor": floor}


def main() -> None:
    """`python -m diurna_deploy.bench.w3_processes ROLE SERVERS REGISTRY LOAD…`."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    role, *arguments = sys.argv[1:]
    work: Any = _ROLES[role](*arguments)
    if role == "floor":
        asyncio.run(work)
    else:
        import uvloop

        from diurna_deploy.collector import calm

        calm()
        uvloop.run(work)


if __name__ == "__main__":
    main()
