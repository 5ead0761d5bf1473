"""The processes of W1, each for itself: deciders, echo agent and client, and the same without Diurna."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# aiokafka carries no complete annotations; the reference speaks to it directly.

BODY: Final = "x" * 200


async def deciders(servers: str, registry: str, _: str) -> None:
    """Decides for everybody."""
    from diurna_streams.conduct import Conductor

    async with await connected(servers, registry) as connection:
        from diurna_schemas.topics import TOPICS

        await connection.log.provision(TOPICS.values())
        conductor = Conductor(connection.log, connection.codec)
        running = asyncio.create_task(conductor.run())
        await conductor.ready()
        await _until_told_to_stop()
        running.cancel()


async def echo(servers: str, registry: str, name: str) -> None:
    """An agent that answers with what it was asked."""
    from diurna import Agent, AgentRequestEvent

    async with await connected(servers, registry) as connection:
        agent = Agent(name, concurrency=256, port=None, connection=connection)

        @agent.on_request("echo")
        async def answer(request: AgentRequestEvent) -> dict[str, Any]:
            return request.payload

        async with agent.running():
            await _until_told_to_stop()


async def client(servers: str, registry: str, name: str, *load: str) -> None:
    """Asks the echo agent."""
    from diurna import AgentRequestEvent, EventBus

    async with await connected(servers, registry) as connection, EventBus(connection) as bus:

        async def ask() -> None:
            request = AgentRequestEvent(
                source_agent="bench", target_agent=name, request_type="echo", payload={"body": BODY}
            )
            response = await bus.request_agent(request)
            if response.result != {"body": BODY}:
                raise AssertionError(f"not the echo: {response}")

        await _report(ask, *map(int, load))


async def raw_echo(servers: str, _: str, name: str) -> None:
    """Reads from one topic and writes the same to the other: acks=all, nothing else."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

    await _raw_topics(servers, name)
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=None)
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await consumer.start()
    await producer.start()
    place = TopicPartition(f"{name}-there", 0)
    consumer.assign([place])
    await consumer.seek_to_end(place)
    stop = asyncio.create_task(_until_told_to_stop())
    try:
        while not stop.done():
            for messages in (await consumer.getmany(timeout_ms=200, max_records=500)).values():
                for message in messages:
                    await producer.send(f"{name}-back", message.value, key=message.key, partition=0)
    finally:
        await consumer.stop()
        await producer.stop()


async def raw_client(servers: str, _: str, name: str, *load: str) -> None:
    """Writes to one topic and waits for the same on the other."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=None)
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await consumer.start()
    await producer.start()
    place = TopicPartition(f"{name}-back", 0)
    consumer.assign([place])
    await consumer.seek_to_end(place)
    await consumer.position(place)
    waiting: dict[Any, asyncio.Future[Any]] = {}
    number = 0

    async def listen() -> None:
        while True:
            for messages in (await consumer.getmany(timeout_ms=1000, max_records=500)).values():
                for message in messages:
                    waiting.pop(message.key).set_result(message.value)

    async def ask() -> None:
        nonlocal number
        number += 1
        key = str(number).encode()
        future = waiting[key] = asyncio.get_running_loop().create_future()
        await producer.send(f"{name}-there", BODY.encode(), key=key, partition=0)
        await future

    listening = asyncio.create_task(listen())
    try:
        await _report(ask, *map(int, load))
    finally:
        listening.cancel()
        await consumer.stop()
        await producer.stop()


async def _report(ask: Callable[[], Awaitable[None]], warm_up: int, singles: int, many: int, in_flight: int) -> None:
    """Asks one at a time, then with many in flight, and prints what it took."""
    for _ in range(warm_up):
        await ask()
    took: list[float] = []
    cpu = time.process_time()
    for _ in range(singles):
        began = time.perf_counter()
        await ask()
        took.append(time.perf_counter() - began)
    cpu_single = time.process_time() - cpu
    took.sort()

    async def stream(count: int) -> None:
        for _ in range(count):
            await ask()

    await asyncio.gather(*(stream(1) for _ in range(in_flight)))
    began, cpu = time.perf_counter(), time.process_time()
    share = many // in_flight
    await asyncio.gather(*(stream(share) for _ in range(in_flight)))
    elapsed = time.perf_counter() - began
    measures = {
        "p50_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[len(took) * 99 // 100] * 1000,
        "rate": share * in_flight / elapsed,
        "client_cpu_us_single": cpu_single / singles * 1e6,
        "client_cpu_us_many": (time.process_time() - cpu) / (share * in_flight) * 1e6,
    }
    sys.stdout.write(json.dumps(measures) + "\n")
    sys.stdout.flush()


async def connected(servers: str, registry: str) -> Any:
    """A connection to the log; without a registry (`-`) records carry numbers of their own."""
    from diurna.connection import Connection
    from diurna.settings import ClientSettings

    if registry != "-":
        return await Connection.open(ClientSettings(servers, registry))
    from diurna_schemas.codec import Codec
    from diurna_streams.log.kafka import KafkaLog

    return Connection(KafkaLog(servers, client_id="bench"), Codec.numbered(), owns_log=True)


async def _raw_topics(servers: str, name: str) -> None:
    from diurna_schemas.topics import Topic
    from diurna_streams.log.kafka import KafkaLog

    async with KafkaLog(servers, client_id="bench") as log:
        await log.provision(
            Topic(f"{name}-{way}", "number", 1, "delete", "CreateTime", 3_600_000, "the bench's")
            for way in ("there", "back")
        )


async def _until_told_to_stop() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await stop.wait()


_ROLES: Final[dict[str, Callable[..., Awaitable[None]]]] = {
    "deciders": deciders,
    "echo": echo,
    "client": client,
    "raw-echo": raw_echo,
    "raw-client": raw_client,
}


def main() -> None:
    """`python -m diurna_deploy.bench.w1_processes ROLE SERVERS REGISTRY NAME [LOAD…]`."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    role, *arguments = sys.argv[1:]
    work: Any = _ROLES[role](*arguments)
    if role.startswith("raw"):
        asyncio.run(work)
    else:
        import uvloop

        from diurna_deploy.collector import calm

        calm()
        uvloop.run(work)


if __name__ == "__main__":
    main()
