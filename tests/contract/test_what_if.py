"""What a replay with other rules or another fold says, and that it writes nothing: on memory and on Kafka."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from diurna_projections import folds
from diurna_projections.records import Reading
from diurna_projections.rows import Request
from diurna_projections.tables import Tables
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import command_headers
from diurna_schemas.errors import InvalidInput, Refused, Unreadable
from diurna_schemas.locks import AcquireLock, ReleaseLock
from diurna_schemas.message import Command
from diurna_schemas.topics import LOCKS, TOPICS, partition_of
from diurna_streams.decide import Decider
from diurna_streams.deciders import locks
from diurna_streams.log import Log, Outgoing, TopicPartition
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.memory import MemoryLog
from diurna_streams.replay.barrier import Barrier
from diurna_streams.replay.span import command_offsets
from diurna_streams.replay.what_if import other_fold, other_rules
from support.own_kafka import own_kafka
from support.projecting import busy_team

RESOURCE = "repo:one"
PARTITION = partition_of(RESOURCE)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.stack)])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    if request.param == "memory":
        memory = MemoryLog()
        await memory.provision(TOPICS.values())
        yield memory
        return
    async with own_kafka() as servers, KafkaLog(servers) as kafka:
        yield kafka


async def decided(log: Log, commands: list[Command]) -> None:
    """Has the commands decided, one after the other."""
    codec = Codec.numbered()
    decider = Decider(log, codec, locks.RULES)
    deciding = asyncio.create_task(decider.run())
    await decider.is_ready.wait()
    producer = await log.producer()
    for command in commands:
        headers = command_headers(
            command, command_id=command.command_id, source="/tests", at_ms=0, correlation_id=None, traceparent=None
        )
        await producer.send(
            command.topic, partition_of(command.key), Outgoing(command.key.encode(), codec.encode(command), headers)
        )
    place = TopicPartition(LOCKS.events, PARTITION)
    async with asyncio.timeout(20):
        while (await log.ends([place]))[place] < len(commands):  # noqa: ASYNC110 - it is on the log
            await asyncio.sleep(0.01)
    await producer.close()
    deciding.cancel()
    await asyncio.gather(deciding, return_exceptions=True)


def acquire(agent_id: str, *, wait_ms: int = 0) -> AcquireLock:
    return AcquireLock(
        command_id=str(uuid.uuid4()),
        resource_id=RESOURCE,
        lock_id=f"lock-{agent_id}",
        agent_id=agent_id,
        lease_ms=60_000,
        wait_ms=wait_ms,
    )


def release(agent_id: str) -> ReleaseLock:
    return ReleaseLock(
        command_id=str(uuid.uuid4()), resource_id=RESOURCE, lock_id=f"lock-{agent_id}", agent_id=agent_id
    )


COMMANDS = [acquire("ada"), acquire("bob", wait_ms=60_000), acquire("cyd"), release("ada")]


def nobody_waits(state: Any, command: Any, heading: Any) -> Any:
    """Changed rules: whoever comes second is denied, however long he would wait."""
    if isinstance(command, AcquireLock):
        command = command.model_copy(update={"wait_ms": 0})
    return locks.RULES.decide(state, command, heading)


IMPATIENT = replace(locks.RULES, decide=nobody_waits)


async def test_the_rules_of_today_would_change_nothing(log: Log) -> None:
    await decided(log, COMMANDS)
    found = await other_rules(log, Codec.numbered(), locks.RULES)
    assert found.is_same
    assert found.commands == len(COMMANDS)


async def test_what_is_not_decided_yet_is_no_other_answer(log: Log) -> None:
    await decided(log, COMMANDS)
    producer, late = await log.producer(), acquire("dan")
    headers = command_headers(
        late, command_id=late.command_id, source="/tests", at_ms=0, correlation_id=None, traceparent=None
    )
    await producer.send(late.topic, PARTITION, Outgoing(late.key.encode(), Codec.numbered().encode(late), headers))
    await producer.close()
    found = await other_rules(log, Codec.numbered(), locks.RULES)
    assert (found.is_same, found.commands) == (True, len(COMMANDS))


async def test_other_rules_show_whose_answer_and_which_rows_would_be_others(log: Log) -> None:
    await decided(log, COMMANDS)
    before = await log.ends([TopicPartition(topic, PARTITION) for topic in (LOCKS.commands, LOCKS.events)])
    found = await other_rules(log, Codec.numbered(), IMPATIENT)
    assert (found.commands, found.other_answers) == (4, 2)
    second, last = found.examples
    assert (second.was, second.would_be) == (("lock.queued",), ("lock.denied",))
    assert (last.was, last.would_be) == (("resource.unlocked", "resource.locked"), ("resource.unlocked",))
    tables = {one.table: one for one in found.tables}
    assert (tables["locks"].removed, tables["locks"].added) == (1, 0)
    assert tables["locks"].examples[0]["key"] == [RESOURCE]
    changed = tables["lock_statistics"].examples[0]
    assert (changed["is"]["denials"], changed["would_be"]["denials"]) == (1, 2)
    assert await log.ends(list(before)) == before


async def test_what_lies_before_the_span_stays_as_it_was(log: Log) -> None:
    await decided(log, COMMANDS)
    since = await command_offsets(log, LOCKS, f"{LOCKS.commands}:{PARTITION}:2", field="--from")
    found = await other_rules(log, Codec.numbered(), IMPATIENT, since=since)
    assert found.commands == 2
    assert found.is_same
    until = await command_offsets(log, LOCKS, f"{LOCKS.events}:{PARTITION}:2", field="--to")
    found = await other_rules(log, Codec.numbered(), IMPATIENT, until=until)
    assert (found.commands, found.other_answers) == (2, 1)


async def test_a_span_that_is_not_on_the_log_is_refused(log: Log) -> None:
    for text in ("agents.commands:0:0", f"{LOCKS.commands}:{PARTITION}:99", "locks.commands:77:0", "tomorrow"):
        with pytest.raises(InvalidInput, match="--from"):
            await command_offsets(log, LOCKS, text, field="--from")


async def test_another_fold_shows_which_rows_would_be_others() -> None:
    history = busy_team(51, 300)
    log = MemoryLog()
    await log.provision(TOPICS.values())
    producer = await log.producer()
    for record in history.records:
        await producer.send(
            record.topic, record.partition, Outgoing(record.key, record.value, record.headers, record.timestamp_ms)
        )

    def impatient(tables: Tables, reading: Reading) -> Unreadable | None:
        """A changed fold: nothing takes any time."""
        error = folds.fold(tables, reading)
        changed: dict[Any, Request | None] = tables.requests.changed
        for row in list(changed.values()):
            if row is not None and row.processing_time_ms:
                tables.requests.put(row._replace(processing_time_ms=0))
        changed.clear()
        return error

    assert (await other_fold(log, history.codec, folds.fold)).is_same
    found = await other_fold(log, history.codec, impatient)
    (requests,) = found.tables
    assert (requests.table, requests.added, requests.removed) == ("requests", 0, 0)
    assert requests.changed > 5
    assert all(set(example["is"]) == {"processing_time_ms"} for example in requests.examples)


async def test_a_barrier_lets_nothing_through_but_reads(log: Log) -> None:
    barrier = Barrier(log)
    assert await barrier.partitions(LOCKS.events) == TOPICS[LOCKS.events].partitions
    for attempt in (barrier.producer(), barrier.placement("x", "y"), barrier.provision([])):
        with pytest.raises(Refused, match="replay"):
            await attempt
