"""What every log promises, on memory and on a real broker: order, whole batches, explicit positions, clear errors."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from diurna_schemas.errors import Conflict, TooLarge, Unavailable, Unreadable
from diurna_schemas.topics import Topic
from diurna_streams.log import Log, Outgoing, Placement, Reader, Record, TopicPartition
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.memory import MemoryLog

PARTITIONS = 3


@pytest.fixture(
    params=["memory", *(pytest.param(name, marks=pytest.mark.stack) for name in ("kafka", "kafka read patiently"))]
)
def servers(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else str(request.getfixturevalue("kafka_bootstrap"))


@pytest.fixture
async def log(servers: str | None, request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    made: Log = MemoryLog() if servers is None else KafkaLog(servers, client_id="contract")
    if "patiently" in request.node.name:
        made.reader = partial(made.reader, patience_ms=20)  # type: ignore[method-assign]
    async with made:
        yield made


def new_topic(**fields: object) -> Topic:
    name = f"contract-{uuid.uuid4().hex[:12]}"
    return replace(Topic(name, "key", PARTITIONS, "delete", "CreateTime", -1, "tests"), **fields)  # type: ignore[arg-type]


@pytest.fixture
async def topic(log: Log) -> str:
    made = new_topic()
    assert await log.provision([made]) == [made.name]
    return made.name


async def read_count(reader: Reader, count: int, seconds: float = 20) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(seconds):
        while len(records) < count:
            records += await reader.read()
    return records


async def reading(log: Log, offsets: dict[TopicPartition, int]) -> Reader:
    reader = await log.reader()
    await reader.start_at(offsets)
    return reader


def values(records: list[Record]) -> list[bytes | None]:
    return [record.value for record in records]


async def write(log: Log, topic: str, *texts: str, partition: int = 0) -> list[int]:
    producer = await log.producer()
    offsets = [await producer.send(topic, partition, Outgoing(b"k", text.encode())) for text in texts]
    await producer.close()
    return offsets


async def test_a_record_is_read_as_it_was_written(log: Log, topic: str) -> None:
    producer = await log.producer()
    headers = (("ce_id", b"1"), ("twice", b"a"), ("twice", b"b"), ("binary", bytes(range(256))), ("empty", b""))
    sent = Outgoing("kéy".encode(), b"\0\xff", headers, 1_700_000_000_123)
    assert await producer.send(topic, 1, sent) == 0
    assert await producer.send(topic, 1, Outgoing(None, b"v", (), 5)) == 1
    assert await producer.send(topic, 1, Outgoing(b"k", None)) == 2
    whole, keyless, empty = await read_count(await reading(log, {TopicPartition(topic, 1): 0}), 3)
    assert (whole.topic, whole.partition, whole.offset) == (topic, 1, 0)
    assert (whole.key, whole.value, whole.headers, whole.timestamp_ms) == (
        sent.key,
        sent.value,
        headers,
        1_700_000_000_123,
    )
    assert (keyless.key, keyless.value, keyless.headers, keyless.timestamp_ms) == (None, b"v", (), 5)
    assert (empty.key, empty.value) == (b"k", None)
    assert str(keyless.position) == f"{topic}:1:1"
    await producer.close()


async def test_a_batch_stands_together_whatever_else_is_written(log: Log, topic: str) -> None:
    producers = [await log.producer() for _ in range(2)]
    first_offsets = await asyncio.gather(
        *(
            producers[batch % 2].send_batch(
                topic, 0, [Outgoing(b"k", f"{batch}.{index}".encode()) for index in range(1 + batch % 7)]
            )
            for batch in range(40)
        ),
        *(producers[0].send(topic, 0, Outgoing(b"k", b"single")) for _ in range(40)),
    )
    count = sum(1 + batch % 7 for batch in range(40)) + 40
    records = await read_count(await reading(log, {TopicPartition(topic, 0): 0}), count)
    assert [record.offset for record in records] == list(range(count))
    for batch in range(40):
        first = first_offsets[batch]
        expected = [f"{batch}.{index}".encode() for index in range(1 + batch % 7)]
        assert values(records[first : first + len(expected)]) == expected
    for producer in producers:
        await producer.close()


async def test_sends_of_one_producer_stay_in_order(log: Log, topic: str) -> None:
    producer = await log.producer()
    offsets = await asyncio.gather(
        *(producer.send(topic, 2, Outgoing(b"k", str(number).encode())) for number in range(200))
    )
    assert offsets == list(range(200))
    records = await read_count(await reading(log, {TopicPartition(topic, 2): 0}), 200)
    assert values(records) == [str(number).encode() for number in range(200)]
    await producer.close()


async def test_a_reader_starts_exactly_where_it_is_told(log: Log, topic: str) -> None:
    await write(log, topic, "a", "b", "c", "d")
    place = TopicPartition(topic, 0)
    assert values(await read_count(await reading(log, {place: 2}), 2)) == [b"c", b"d"]
    at_end = await reading(log, {place: 4})
    assert await at_end.read(wait_ms=100) == []
    await write(log, topic, "e")
    assert values(await read_count(at_end, 1)) == [b"e"]


async def test_a_running_reader_takes_partitions_on_seeks_and_drops_them(log: Log, topic: str) -> None:
    await write(log, topic, "a", "b", "c")
    await write(log, topic, "x", "y", partition=1)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    reader = await reading(log, {zero: 0})
    assert values(await read_count(reader, 3)) == [b"a", b"b", b"c"]
    await reader.start_at({one: 1})
    assert values(await read_count(reader, 1)) == [b"y"], "and what was read already is not read again"
    await reader.start_at({zero: 1})
    assert values(await read_count(reader, 2)) == [b"b", b"c"]
    await reader.drop([zero])
    await write(log, topic, "unseen")
    await write(log, topic, "z", partition=1)
    assert values(await read_count(reader, 1)) == [b"z"]
    await reader.start_at({zero: 3})
    assert values(await read_count(reader, 1)) == [b"unseen"]


async def test_a_seek_while_somebody_reads_is_obeyed(log: Log, topic: str) -> None:
    await write(log, topic, *(str(number) for number in range(50)))
    place = TopicPartition(topic, 0)
    reader = await reading(log, {place: 0})
    await read_count(reader, 50)
    for start in (40, 0, 25):
        waiting = asyncio.create_task(reader.read(wait_ms=300))
        await asyncio.sleep(0)
        await reader.start_at({place: start})
        records = await waiting
        while not records or records[-1].offset < 49:
            records += await reader.read()
        assert [record.offset for record in records] == list(range(start, 50))


async def test_a_read_is_bounded(log: Log, topic: str) -> None:
    await write(log, topic, *(str(number) for number in range(25)))
    reader = await reading(log, {TopicPartition(topic, 0): 0})
    sizes: list[int] = []
    while sum(sizes) < 25:
        sizes.append(len(await reader.read(records_max=10)))
    assert max(sizes) <= 10


async def test_an_idle_read_ends_in_time(log: Log, topic: str) -> None:
    reader = await reading(log, {TopicPartition(topic, 0): 0})
    began = time.monotonic()
    assert await reader.read(wait_ms=150) == []
    assert time.monotonic() - began < 3


async def test_starts_ends_and_offsets_by_time(log: Log, topic: str) -> None:
    places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    producer = await log.producer()
    for at_ms in (1_000, 2_000, 3_000):
        await producer.send(topic, 0, Outgoing(b"k", b"v", (), 1_700_000_000_000 + at_ms))
    await producer.send_batch(topic, 1, [Outgoing(b"k", b"v", (), 1_700_000_009_000)] * 4)
    assert await log.starts(places) == dict.fromkeys(places, 0)
    assert await log.ends(places) == dict(zip(places, [3, 4, 0], strict=True))
    found = await log.offsets_at(places, 1_700_000_001_500)
    assert found == dict(zip(places, [1, 0, 0], strict=True))
    assert await log.offsets_at(places, 1_800_000_000_000) == dict(zip(places, [3, 4, 0], strict=True))
    assert await log.ends([]) == {}
    await producer.close()


async def test_the_log_gives_the_time_where_the_topic_says_so(log: Log) -> None:
    appended, created = new_topic(time="LogAppendTime"), new_topic()
    await log.provision([appended, created])
    producer = await log.producer()
    before_ms = int(time.time() * 1000)
    for name in (appended.name, created.name):
        await producer.send(name, 0, Outgoing(b"k", b"v", (), 1_000))
        await producer.send_batch(name, 0, [Outgoing(b"k", b"v", (), 2_000)])
    by_log = await read_count(await reading(log, {TopicPartition(appended.name, 0): 0}), 2)
    by_writer = await read_count(await reading(log, {TopicPartition(created.name, 0): 0}), 2)
    assert all(abs(record.timestamp_ms - before_ms) < 60_000 for record in by_log)
    assert [record.timestamp_ms for record in by_writer] == [1_000, 2_000]
    await producer.close()


async def test_what_does_not_fit_is_too_large_and_nothing_of_it_is_written(log: Log, topic: str) -> None:
    producer = await log.producer()
    with pytest.raises(TooLarge) as single:
        await producer.send(topic, 0, Outgoing(b"k", b"x" * 1_200_000))
    assert single.value.size >= 1_200_000
    with pytest.raises(TooLarge):
        await producer.send_batch(topic, 0, [Outgoing(b"k", b"x" * 400_000)] * 3)
    assert await producer.send(topic, 0, Outgoing(b"k", b"small")) == 0, "and the producer goes on"
    await producer.close()


async def test_what_is_not_there_is_unavailable(log: Log, topic: str) -> None:
    producer = await log.producer()
    with pytest.raises(Unavailable):
        await producer.send(topic, PARTITIONS + 4, Outgoing(b"k", b"v"))
    with pytest.raises(Unavailable):
        await producer.send_batch(topic, PARTITIONS + 4, [Outgoing(b"k", b"v")])
    await producer.close()


@pytest.mark.stack
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted by what only Linux shows")
async def test_a_reader_connects_once_it_has_something_to_read(kafka_bootstrap: str) -> None:
    """One that is connected and idle begins its first partition a second late."""
    async with KafkaLog(kafka_bootstrap, client_id="contract") as log:
        made = new_topic()
        await log.provision([made])
        before = thread_count()
        reader = await log.reader()
        assert thread_count() == before
        await reader.start_at({TopicPartition(made.name, 0): 0})
        assert thread_count() > before


def thread_count() -> int:
    """Those of libraries too, which Python does not know."""
    return len(list(Path("/proc/self/task").iterdir()))


async def test_an_offset_that_is_not_there_is_unreadable_and_never_skipped(log: Log, topic: str) -> None:
    await write(log, topic, "a")
    with pytest.raises(Unreadable):  # noqa: PT012 - one log says it at once, the other when it reads
        reader = await reading(log, {TopicPartition(topic, 0): 7})
        async with asyncio.timeout(20):
            while True:
                await reader.read()


async def test_provisioning_again_changes_nothing_and_another_number_of_partitions_is_a_conflict(log: Log) -> None:
    made = new_topic()
    other = new_topic(partitions=2, cleanup="compact")
    assert await log.provision([made]) == [made.name]
    assert await log.provision([made, other]) == [other.name]
    assert await log.provision([made, other]) == []
    assert (await log.partitions(made.name), await log.partitions(other.name)) == (PARTITIONS, 2)
    assert await log.partitions(f"missing-{uuid.uuid4().hex}") == 0
    with pytest.raises(Conflict, match=f"{made.name} has {PARTITIONS} partitions where 5 are needed"):
        await log.provision([replace(made, partitions=5)])


async def settled(members: list[Placement], shares: list[frozenset[int]], seconds: float = 30) -> list[frozenset[int]]:
    """Follows the members' changes until together they have every partition exactly once."""
    everything = list(range(PARTITIONS))
    async with asyncio.timeout(seconds):
        waiting = [asyncio.create_task(member.changes()) for member in members]
        try:
            while sorted(partition for share in shares for partition in share) != everything or not all(shares):
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    index = waiting.index(task)
                    shares[index] = task.result()
                    waiting[index] = asyncio.create_task(members[index].changes())
        finally:
            for task in waiting:
                task.cancel()
    return shares


async def test_a_group_shares_the_partitions_and_takes_over_from_who_leaves(log: Log, topic: str) -> None:
    group = f"group-{uuid.uuid4().hex[:8]}"
    first = await log.placement(topic, group, member="first")
    (alone,) = await settled([first], [frozenset()])
    assert alone == frozenset(range(PARTITIONS))
    second = await log.placement(topic, group, member="second")
    shared = await settled([first, second], [alone, frozenset()])
    assert not shared[0] & shared[1]
    await second.close()
    # A static member that leaves is expected back: its partitions are given away once its session is over.
    assert await settled([first], [shared[0]]) == [frozenset(range(PARTITIONS))]
    again = await log.placement(topic, group, member="second")
    await settled([first, again], [frozenset(range(PARTITIONS)), frozenset()])
    await again.close()
    await first.close()
