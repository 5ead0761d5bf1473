"""The projector on a real broker: late schemas, poison, going over to bulk and back, and two of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from diurna_projections.memory import MemoryTables
from diurna_projections.store import Store
from diurna_schemas.catalogue import schema_of
from diurna_schemas.codec import Codec
from diurna_schemas.errors import Conflict, Unavailable, UnknownSchema
from diurna_schemas.topics import PROJECTION_DEAD_LETTERS, TOPICS
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.memory import MemoryLog
from diurna_streams.log.port import TopicPartition
from diurna_streams.project.bulk import catch_up
from diurna_streams.project.options import ProjectorOptions
from diurna_streams.project.places import partitions_of, places_of
from diurna_streams.project.projector import run_projector
from diurna_streams.project.understand import Understanding
from diurna_streams.project.writer import Writer
from support.own_kafka import everything, own_kafka, write
from support.projecting import busy_team

FreshDatabase = Callable[[], Awaitable[str]]
SECONDS_MAX = 60.0

pytestmark = pytest.mark.stack


@pytest.fixture
async def broker() -> AsyncIterator[str]:
    async with own_kafka() as bootstrap_servers:
        yield bootstrap_servers


@asynccontextmanager
async def projecting(options: ProjectorOptions) -> AsyncGenerator[list[tuple[int, str]]]:
    """A projector in this process; yields what it doubted."""
    doubts: list[tuple[int, str]] = []
    stop, ready = asyncio.Event(), asyncio.Event()
    work = asyncio.create_task(
        run_projector(
            options,
            codec=Codec.numbered(),
            stop=stop,
            ready=ready,
            on_doubt=lambda code, reason: doubts.append((code, reason)),
        )
    )
    async with asyncio.timeout(SECONDS_MAX):
        await ready.wait()
    try:
        yield doubts
    finally:
        stop.set()
        await work


async def settled(log: KafkaLog, store: Store) -> list[TopicPartition]:
    partitions = await partitions_of(log)
    async with asyncio.timeout(SECONDS_MAX):
        while (await places_of(log, store, partitions)).lag:  # noqa: ASYNC110 - another task moves it
            await asyncio.sleep(0.05)
    return partitions


async def test_live_events_poison_and_a_second_projector_leave_the_fold_of_the_log(
    broker: str, fresh_database: FreshDatabase
) -> None:
    database_url = await fresh_database()
    options = ProjectorOptions(bootstrap_servers=broker, database_url=database_url, watch_interval_ms=200)
    history = busy_team(21, 1_200)
    store = await Store.connect(database_url)
    async with KafkaLog(broker) as log:
        producer = await log.producer()
        async with projecting(options) as doubts, projecting(options) as more_doubts:
            for start in range(0, len(history.records), 200):
                await write(producer, history.records[start : start + 200])
            partitions = await settled(log, store)
        assert doubts == more_doubts == []
        expected = MemoryTables(history.codec)
        expected.apply(await everything(log, partitions))
        assert (await store.checksums()).tables == expected.checksums()
        graves = TOPICS[PROJECTION_DEAD_LETTERS].partitions
        buried = await log.ends([TopicPartition(PROJECTION_DEAD_LETTERS, number) for number in range(graves)])
        poisoned = {row.id for row in expected.tables.dead_letters}
        assert sum(buried.values()) >= len(poisoned) > 0
        await producer.close()
    await store.close()


async def test_a_projector_far_behind_goes_over_to_bulk_while_it_runs(
    broker: str, fresh_database: FreshDatabase
) -> None:
    database_url = await fresh_database()
    options = ProjectorOptions(
        bootstrap_servers=broker, database_url=database_url, watch_interval_ms=50, bulk_lag_records=300
    )
    history = busy_team(22, 6_000)
    store = await Store.connect(database_url)
    from diurna_streams.project import metrics

    before = metrics.BULK_RUNS._value.get()
    async with KafkaLog(broker) as log:
        producer = await log.producer()
        async with projecting(options) as doubts:
            await write(producer, history.records)
            partitions = await settled(log, store)
        assert doubts == []
        assert metrics.BULK_RUNS._value.get() > before
        expected = MemoryTables(history.codec)
        expected.apply(await everything(log, partitions))
        assert (await store.checksums()).tables == expected.checksums()
        await producer.close()
    await store.close()


async def test_tables_that_know_more_than_the_log_are_refused(broker: str, fresh_database: FreshDatabase) -> None:
    database_url = await fresh_database()
    store = await Store.connect(database_url)
    await store.migrate()
    await store.database.fetch("insert into positions (topic, partition, next) values ('agents.events', 0, 7)")
    with pytest.raises(Conflict, match="another log"):
        async with asyncio.timeout(SECONDS_MAX):
            await run_projector(
                ProjectorOptions(bootstrap_servers=broker, database_url=database_url),
                codec=Codec.numbered(),
                stop=asyncio.Event(),
            )
    await store.close()


async def test_the_bulk_path_reads_any_log_behind_the_port(fresh_database: FreshDatabase) -> None:
    store = await Store.connect(await fresh_database())
    await store.migrate()
    history = busy_team(23, 800)
    log = MemoryLog()
    await log.provision(TOPICS.values())
    await write(await log.producer(), history.records)  # type: ignore[arg-type]
    partitions = await partitions_of(log)
    await catch_up(log, Writer(store, Understanding(history.codec, None)), partitions, hand_over_lag_records=0)
    assert (await places_of(log, store, partitions)).lag == 0
    assert len(await store.database.fetch("select 1 from events")) > 500
    await store.close()


async def test_an_unknown_schema_is_learned_before_a_record_is_called_unreadable() -> None:
    writer = busy_team(24, 60)
    asked: list[int] = []
    names = {number: name for name, number in _numbers().items()}

    codec = Codec({})

    async def learn(schema_id: int) -> None:
        asked.append(schema_id)
        if schema_id not in names:
            raise UnknownSchema(schema_id)
        codec.learn(schema_id, schema_of(names[schema_id]))

    async def unreachable(schema_id: int) -> None:
        raise Unavailable("the registry does not answer")

    records = [record for record in writer.records if record.value != b"no avro at all"]
    readings = await Understanding(codec, learn).read(records)
    assert not any(isinstance(reading.content, Exception) for reading in readings)
    assert len(asked) == len(set(asked))
    with pytest.raises(Unavailable):
        await Understanding(Codec({}), unreachable).read(records)


def _numbers() -> dict[str, int]:
    from diurna_schemas.catalogue import RECORDS

    return {name: number for number, name in enumerate(sorted(RECORDS), start=1)}
