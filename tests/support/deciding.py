"""Deciders at work on any log, what clients send them, and the one judgement: accepted history ≡ fold of commands."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from diurna_schemas.chain import Acceptor, Head, Verdict
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import GENESIS, chain_hash, command_headers, header, link_of
from diurna_schemas.errors import Unreadable, WrongPartition
from diurna_schemas.message import COMMAND_BYTES_MAX, Command, Event, Heading
from diurna_schemas.topics import PARTITIONS, check_partition, partition_of
from diurna_streams.decide import Decider
from diurna_streams.deciders import agents
from diurna_streams.deciders.rules import Rules
from diurna_streams.log import Log, Outgoing, Record, TopicPartition
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.memory import MemoryLog

CODEC = Codec.numbered()


class Everything:
    """A placement that gives its member every partition at once and never takes one back."""

    def __init__(self, partitions: int = PARTITIONS) -> None:
        self._shares: asyncio.Queue[frozenset[int]] = asyncio.Queue()
        self._shares.put_nowait(frozenset(range(partitions)))

    async def changes(self) -> frozenset[int]:
        return await self._shares.get()

    async def close(self) -> None:
        return


class RivalMemoryLog(MemoryLog):
    """Memory on which every member of a group has everything."""

    async def placement(self, topic: str, group: str, *, member: str | None = None) -> Everything:  # type: ignore[override]
        del topic, group, member
        return Everything()


class RivalKafkaLog(KafkaLog):
    """A broker on which every member of a group has everything."""

    async def placement(self, topic: str, group: str, *, member: str | None = None) -> Everything:  # type: ignore[override]
        del topic, group, member
        return Everything()


def outgoing(command: Command, codec: Codec = CODEC, *, correlation_id: str | None = None) -> Outgoing:
    """A command as a client sends it."""
    headers = command_headers(
        command,
        command_id=command.command_id,
        source="/tests",
        at_ms=0,
        correlation_id=correlation_id,
        traceparent=None,
    )
    return Outgoing(command.key.encode(), codec.encode(command), headers)


async def send(log: Log, *commands: Command, codec: Codec = CODEC) -> list[int]:
    """Sends commands to their partitions, one after the other, and returns their offsets."""
    producer = await log.producer()
    try:
        return [
            await producer.send(command.topic, partition_of(command.key), outgoing(command, codec))
            for command in commands
        ]
    finally:
        await producer.close()


async def read_all(log: Log, place: TopicPartition) -> list[Record]:
    """All records of a partition up to the end it has now."""
    end = (await log.ends([place]))[place]
    if end == 0:
        return []
    reader = await log.reader()
    try:
        await reader.start_at({place: 0})
        records: list[Record] = []
        async with asyncio.timeout(60):
            while not records or records[-1].offset < end - 1:
                records += await reader.read(records_max=2_000)
        return [record for record in records if record.offset < end]
    finally:
        await reader.close()


@dataclass(frozen=True, slots=True)
class Fact:
    """An accepted event, or one that the fold says must be."""

    at: str
    type_name: str
    key: bytes
    value: bytes
    hash: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What stands on a partition, and what should."""

    accepted: list[Fact]
    folded: list[Fact]
    events: list[Event]
    duplicates: int
    aliens: int
    commands: int
    unreadable: int


async def judge(
    log: Log, partition: int, *, rules: Rules[Any, Any, Any] = agents.RULES, codec: Codec = CODEC
) -> Judgement:
    """Reads a partition as a stranger would and folds its commands anew. Raises where they do not agree."""
    # The events first: every event that is there then has its command among those read afterwards.
    records = await read_all(log, TopicPartition(rules.family.events, partition))
    commands = await read_all(log, TopicPartition(rules.family.commands, partition))
    acceptor = Acceptor(Head())
    accepted = [
        fact_of(record) for record in records if acceptor.accept(record.offset, record.headers) is Verdict.ACCEPTED
    ]
    folded, unreadable = fold(commands, rules, codec, partition)
    decided = folded[: len(accepted)]
    assert accepted == decided, first_difference(accepted, decided)
    return Judgement(
        accepted,
        folded,
        [event for fact in accepted if isinstance(event := codec.decode(fact.value), Event)],
        acceptor.duplicates,
        acceptor.aliens,
        len(commands),
        unreadable,
    )


def fact_of(record: Record) -> Fact:
    link = link_of(record.headers)
    type_name = header(record.headers, "ce_type") or ""
    assert record.key is not None
    assert record.value is not None
    assert link.hash == chain_hash(link.previous, link.at, type_name, record.key, record.value), "an edited event"
    return Fact(link.at, type_name, record.key, record.value, link.hash, record.timestamp_ms)


def fold(
    commands: Iterable[Record], rules: Rules[Any, Any, Any], codec: Codec, partition: int, incarnation: int = 1
) -> tuple[list[Fact], int]:
    """What a partition's commands lead to, decided here once more and without the runner; and how many are none."""
    state, previous = rules.initial, GENESIS
    facts: list[Fact] = []
    unreadable = 0
    for record in commands:
        try:
            command = _command(record, codec, partition)
        except Unreadable:
            unreadable += 1
            continue
        decision = rules.decide(state, command, Heading(record.offset, record.timestamp_ms, incarnation))
        state = decision.state
        for index, event in enumerate(decision.events):
            at, value = f"{incarnation}.{record.offset}.{index}", codec.encode(event)
            previous = chain_hash(previous, at, event.type_name, event.key.encode(), value)
            facts.append(Fact(at, event.type_name, event.key.encode(), value, previous, event.at_ms))
    return facts, unreadable


def _command(record: Record, codec: Codec, partition: int) -> Command:
    if record.value is not None and len(record.value) > COMMAND_BYTES_MAX:
        raise Unreadable("too large")
    command = codec.decode(record.value)
    if not isinstance(command, Command) or command.topic != record.topic:
        raise Unreadable("no command of this topic")
    if not command.is_tick:
        check_partition(command.key, partition)
        if record.key != command.key.encode():
            raise WrongPartition(command.key, found=partition, expected=partition)
    return command


def first_difference(accepted: list[Fact], folded: list[Fact]) -> str:
    for number, (was, should) in enumerate(zip(accepted, folded, strict=False)):
        if was != should:
            return f"event {number}: accepted {was}, the fold says {should}"
    return f"{len(accepted)} events are accepted, the fold has {len(folded)}"


BESIDE = frozenset({"RequestDispatched", "AttemptTimedOut", "RequestTimedOut", "RequestDeadLettered"})
"""What time does beside a command, under the command's id."""


def answers(events: Iterable[Event]) -> Counter[str]:
    """How often each command was answered: neither as a repetition nor by what time did beside it."""
    return Counter(
        event.command_id for event in events if type(event).__name__ not in BESIDE | {"AgentCommandRepeated"}
    )


def ends(events: Iterable[Event]) -> Counter[str]:
    """How often each request ended."""
    names = {"RequestCompleted", "RequestTimedOut", "RequestCancelled", "RequestDeadLettered"}
    return Counter(str(event.model_dump()["request_id"]) for event in events if type(event).__name__ in names)


@asynccontextmanager
async def deciding(
    log: Log, *, rules: Rules[Any, Any, Any] = agents.RULES, codec: Codec = CODEC, **options: Any
) -> AsyncGenerator[Decider]:
    """A decider that has caught up; ended, however the body ends. What ends the decider itself fails the test."""
    decider = Decider(log, codec, rules, **options)
    running = asyncio.create_task(decider.run())
    ready = asyncio.create_task(decider.is_ready.wait())
    try:
        async with asyncio.timeout(30):
            await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        yield decider
        assert not running.done(), f"the decider ended: {running.exception()!r}"
    finally:
        ready.cancel()
        running.cancel()
        await asyncio.wait([running])


async def decided(
    log: Log, command_ids: Iterable[str], *, rules: Rules[Any, Any, Any] = agents.RULES, seconds: float = 30
) -> None:
    """Waits until every one of these commands has an event on the log."""
    missing = set(command_ids)
    reader = await log.reader()
    try:
        await reader.start_at({TopicPartition(rules.family.events, number): 0 for number in range(PARTITIONS)})
        async with asyncio.timeout(seconds):
            while missing:
                for record in await reader.read(records_max=2_000):
                    missing.discard(header(record.headers, "causationid") or "")
    finally:
        await reader.close()
