"""W4: the log into Postgres: live through Faust, and in bulk beside the plainest pipeline there is.

The reference, `aio_upsert`, reads JSON of the same size with aiokafka, 5,000 records at a time, and writes each batch
with one upsert and its offset in one transaction. It keeps no log, no chain, no history of events; ours does.
"""

# The reference speaks to aiokafka directly, which carries no complete annotations.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from statistics import median, quantiles
from typing import Any, Final

import aiokafka
import asyncpg
import orjson

from diurna_deploy.bench.rounds import interleaved
from diurna_projections.records import LogRecord
from diurna_projections.store import Store
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import GENESIS, Link, chain_hash, event_headers
from diurna_schemas.topics import PARTITIONS, TOPICS, WORKFLOWS, Topic, partition_of
from diurna_schemas.workflows import WorkflowCreated, WorkflowStateUpdated
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.port import Outgoing, Producer
from diurna_streams.project.bulk import catch_up
from diurna_streams.project.hands import Told, hands
from diurna_streams.project.options import ProjectorOptions
from diurna_streams.project.places import partitions_of, places_of
from diurna_streams.project.projector import run_projector
from diurna_streams.project.understand import Understanding
from diurna_streams.project.writer import Writer

WORKFLOWS_COUNT: Final = 10_000
SCHEMA: Final = "bench_projector"
_REFERENCE: Final = Topic("bench.reference", "workflow", PARTITIONS, "delete", "CreateTime", -1, "plain JSON")
_BATCH_RECORDS: Final = 200
_PATIENCE_SECONDS: Final = 300


async def measure(
    database_url: str,
    *,
    events: int = 200_000,
    live_events: int = 20_000,
    rate_per_second: int = 500,
    rate_seconds: float = 10.0,
    rounds: int = 3,
) -> dict[str, Any]:
    """Events a second in bulk (and its ratio to the reference), live, and the freshness at a steady rate.

    Runs on a broker of its own, thrown away afterwards: it writes events no decider decided.
    """
    async with filled(database_url, events) as bench:
        found = await interleaved({"bulk": bench.bulk, "aio_upsert": bench.aio_upsert}, rounds=rounds)
        live = await bench.live(live_events)
        freshness_ms = await bench.freshness_ms(rate_per_second, rate_seconds)
    cuts = quantiles(freshness_ms, n=100)
    return {
        "workload": "W4",
        "events": events,
        "bulk_events_per_second": found.median("bulk", "per_second"),
        "bulk_cpu_us_per_event": found.median("bulk", "cpu_us"),
        "aio_upsert_events_per_second": found.median("aio_upsert", "per_second"),
        "aio_upsert_cpu_us_per_event": found.median("aio_upsert", "cpu_us"),
        "bulk_ratio": found.ratio("bulk", "aio_upsert", "per_second"),
        "bulk_ratios": found.ratios("bulk", "aio_upsert", "per_second"),
        "live_events_per_second": live,
        "freshness_at_per_second": rate_per_second,
        "freshness_p50_ms": median(freshness_ms),
        "freshness_p99_ms": cuts[98],
    }


@asynccontextmanager
async def filled(database_url: str, events: int) -> AsyncGenerator[ProjectorBench]:
    """A broker of its own with so many events of both kinds on it, thrown away afterwards."""
    from diurna_deploy.bench.own_servers import own_kafka
    from diurna_deploy.settings import Settings

    async with own_kafka(Settings()) as servers:
        bench = ProjectorBench(servers, database_url)
        await bench.fill(events)
        yield bench


class ProjectorBench:
    """A filled broker and a database."""

    def __init__(self, bootstrap_servers: str, database_url: str) -> None:
        self._servers = bootstrap_servers
        self._database_url = database_url
        self._codec = Codec.numbered()
        self._events = _Events(self._codec)
        self._count = 0

    async def fill(self, count: int) -> None:
        """Writes `count` events of workflows, and as many plain JSON documents of the same size."""
        self._count = count
        async with KafkaLog(self._servers) as log:
            await log.provision([*TOPICS.values(), _REFERENCE])
            producer = await log.producer()
            await _send(producer, WORKFLOWS.events, self._events.take(count))
            await _send(producer, _REFERENCE.name, _plain(count))
            await producer.close()

    async def bulk(self, told: Told = lambda _: None, *, processes: int | None = None) -> dict[str, float]:
        """The whole log into empty tables, by the bulk path."""
        store = await self._empty_store()
        async with KafkaLog(self._servers) as log:
            partitions = await partitions_of(log)
            writer = Writer(store, Understanding(self._codec, None))
            clock = _Clock()
            await catch_up(log, writer, partitions, told=told, processes=processes or hands())
            left = (await places_of(log, store, partitions)).lag
            found = clock.per_event(self._count - left)
        await store.close()
        return found

    async def aio_upsert(self) -> dict[str, float]:
        """The reference: read, parse, upsert, offset."""
        connection = await asyncpg.connect(self._database_url)
        await connection.execute("drop table if exists bench_rows, bench_offsets")
        await connection.execute(
            "create table bench_rows (id text primary key, version bigint, step text, at_ms bigint, note text)"
        )
        await connection.execute("create table bench_offsets (partition integer primary key, next bigint)")
        consumer: Any = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self._servers, group_id=None, auto_offset_reset="none"
        )
        await consumer.start()
        places = [aiokafka.TopicPartition(_REFERENCE.name, partition) for partition in range(PARTITIONS)]
        consumer.assign(places)
        for place in places:
            consumer.seek(place, 0)
        clock = _Clock()
        seen = 0
        while seen < self._count:
            batches = await consumer.getmany(timeout_ms=200, max_records=5_000)
            rows: dict[str, tuple[Any, ...]] = {}
            for messages in batches.values():
                seen += len(messages)
                for message in messages:
                    body = orjson.loads(message.value)
                    rows[body["id"]] = (body["id"], body["version"], body["step"], body["at_ms"], body["note"])
            if rows:
                offsets = [(place.partition, messages[-1].offset + 1) for place, messages in batches.items()]
                await _upsert(connection, list(rows.values()), offsets)
        found = clock.per_event(seen)
        await consumer.stop()
        await connection.close()
        return found

    async def live(self, count: int) -> float:
        """Events a second through Faust, from a backlog of `count`."""
        await self._caught_up()
        async with KafkaLog(self._servers) as log:
            producer = await log.producer()
            await _send(producer, WORKFLOWS.events, self._events.take(count))
            await producer.close()
        times: list[float] = []
        seen = 0

        def committed(records: Sequence[LogRecord]) -> None:
            nonlocal seen
            seen += len(records)
            times.append(time.perf_counter())
            if seen >= count:
                done.set()

        done = asyncio.Event()
        started = time.perf_counter()
        async with self._projector(committed):
            started = time.perf_counter()
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await done.wait()
        return count / (times[-1] - min(started, times[0]))

    async def freshness_ms(self, rate_per_second: int, seconds: float) -> list[float]:
        """From an event's own time to its row being committed, in milliseconds, at a steady rate."""
        await self._caught_up()
        found: list[float] = []

        def committed(records: Sequence[LogRecord]) -> None:
            now_ms = time.time() * 1000
            found.extend(now_ms - record.timestamp_ms for record in records)

        count = int(rate_per_second * seconds)
        async with self._projector(committed), KafkaLog(self._servers) as log:
            producer = await log.producer()
            begun = time.perf_counter()
            for number, (partition, outgoing) in enumerate(self._events.take(count)):
                ahead = begun + number / rate_per_second - time.perf_counter()
                if ahead > 0:
                    await asyncio.sleep(ahead)
                await producer.send(WORKFLOWS.events, partition, outgoing)
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while len(found) < count:  # noqa: ASYNC110 - another task fills it
                    await asyncio.sleep(0.01)
            await producer.close()
        return found

    @asynccontextmanager
    async def _projector(self, committed: Any) -> AsyncGenerator[None]:
        options = ProjectorOptions(
            bootstrap_servers=self._servers,
            database_url=self._database_url,
            schema=SCHEMA,
            group="bench-projector",
            bulk_lag_records=10**9,
        )
        stop, ready = asyncio.Event(), asyncio.Event()
        work = asyncio.create_task(
            run_projector(options, codec=self._codec, stop=stop, ready=ready, on_committed=committed)
        )
        await asyncio.wait([asyncio.create_task(ready.wait()), work], return_when=asyncio.FIRST_COMPLETED)
        try:
            yield
        finally:
            stop.set()
            await work

    async def _caught_up(self) -> None:
        store = await Store.connect(self._database_url, schema=SCHEMA)
        await store.migrate()
        async with KafkaLog(self._servers) as log:
            partitions = await partitions_of(log)
            writer = Writer(store, Understanding(self._codec, None))
            while (await places_of(log, store, partitions)).lag:
                await catch_up(log, writer, partitions, hand_over_lag_records=0)
        await store.close()

    async def _empty_store(self) -> Store:
        store = await Store.connect(self._database_url, schema=SCHEMA)
        await store.drop()
        await store.migrate()
        return store


class _Events:
    """Chained events of ten thousand workflows, as a decider would write them."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._hashes = dict.fromkeys(range(PARTITIONS), GENESIS)
        self._number = 0

    def take(self, count: int) -> Iterator[tuple[int, Outgoing]]:
        """The next events, each with the time it is taken."""
        for _ in range(count):
            yield self._next()

    def _next(self) -> tuple[int, Outgoing]:
        number = self._number
        self._number += 1
        workflow_id = f"workflow-{number % WORKFLOWS_COUNT:05d}"
        version = number // WORKFLOWS_COUNT + 1
        now_ms = int(time.time() * 1000)
        partition = partition_of(workflow_id)
        event: WorkflowCreated | WorkflowStateUpdated
        if version == 1:
            event = WorkflowCreated(
                command_id=f"command-{number}",
                at_ms=now_ms,
                workflow_id=workflow_id,
                workflow_type="bench",
                state=_note(number),
                participating_agents=[],
                metadata="{}",
                version=1,
            )
        else:
            event = WorkflowStateUpdated(
                command_id=f"command-{number}",
                at_ms=now_ms,
                workflow_id=workflow_id,
                updates=_note(number),
                agent_id=None,
                version=version,
            )
        value, previous = self._codec.encode(event), self._hashes[partition]
        digest = chain_hash(previous, f"1.{number}.0", event.type_name, event.key.encode(), value)
        link = Link(1, number, 0, previous, digest)
        self._hashes[partition] = digest
        headers = event_headers(event, link, partition=partition, correlation_id=None, traceparent=None)
        return partition, Outgoing(event.key.encode(), value, headers, now_ms)


def _note(number: int) -> str:
    return f'{{"step":"step-{number % 7}","note":"{"abcdefghij" * 17}"}}'


def _plain(count: int) -> Iterator[tuple[int, Outgoing]]:
    for number in range(count):
        key = f"workflow-{number % WORKFLOWS_COUNT:05d}"
        body = {
            "id": key,
            "version": number // WORKFLOWS_COUNT + 1,
            "step": f"step-{number % 7}",
            "at_ms": number,
            "note": "abcdefghij" * 17,
        }
        yield partition_of(key), Outgoing(key.encode(), orjson.dumps(body))


async def _send(producer: Producer, topic: str, records: Iterator[tuple[int, Outgoing]]) -> None:
    waiting: dict[int, list[Outgoing]] = {partition: [] for partition in range(PARTITIONS)}
    for partition, outgoing in records:
        waiting[partition].append(outgoing)
        if len(waiting[partition]) >= _BATCH_RECORDS:
            await producer.send_batch(topic, partition, waiting[partition])
            waiting[partition] = []
    for partition, rest in waiting.items():
        if rest:
            await producer.send_batch(topic, partition, rest)


async def _upsert(connection: Any, rows: list[tuple[Any, ...]], offsets: list[tuple[int, int]]) -> None:
    async with connection.transaction():
        await connection.execute(
            "insert into bench_rows"
            " select * from unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::text[])"
            " on conflict (id) do update set version = excluded.version, step = excluded.step,"
            " at_ms = excluded.at_ms, note = excluded.note",
            *zip(*rows, strict=True),
        )
        await connection.execute(
            "insert into bench_offsets select * from unnest($1::integer[], $2::bigint[])"
            " on conflict (partition) do update set next = excluded.next",
            *zip(*offsets, strict=True),
        )


class _Clock:
    """Time and CPU, this process's and that of those it waited for, since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._cpu = _cpu_seconds()

    def per_event(self, count: int) -> dict[str, float]:
        seconds, cpu = time.perf_counter() - self._started, _cpu_seconds() - self._cpu
        return {"per_second": count / seconds, "cpu_us": cpu / count * 1_000_000}


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
