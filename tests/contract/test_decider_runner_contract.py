"""What the runner of deciders promises, on memory and on a real broker: one history, whatever happens to it."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable

import pytest

from diurna_schemas.agents import AgentRequest, Heartbeat, SubmitRequest, TickAgents
from diurna_schemas.chain import Head
from diurna_schemas.errors import Unavailable
from diurna_schemas.message import COMMAND_BYTES_MAX, Command
from diurna_schemas.records import DeadLetter, Snapshot
from diurna_schemas.topics import AGENTS, DEAD_LETTER_TOPICS, PARTITIONS, TOPICS, partition_of
from diurna_streams import snapshots
from diurna_streams.decide import runner
from diurna_streams.deciders.agents import RULES
from diurna_streams.log import Log, Outgoing, TopicPartition
from diurna_streams.log.memory import MemoryLog, MemoryProducer
from support.book import fingerprint
from support.deciding import (
    CODEC,
    answers,
    decided,
    deciding,
    ends,
    judge,
    outgoing,
    read_all,
    send,
)
from support.given import Partition, complete, register, submit
from support.teams import eventually

MakeLog = Callable[[], Log]


@pytest.fixture
def agent_id() -> str:
    """An agent of the test's own: on a broker the topics are shared."""
    return f"agent-{uuid.uuid4().hex[:10]}"


def work(agent_id: str, count: int) -> list[Command]:
    """An agent, its requests and the answers to most of them."""
    commands: list[Command] = [register(agent_id, concurrency=3)]
    for number in range(count):
        commands.append(submit(f"{agent_id}-{number}", agent_id))
        if number % 4:
            commands.append(complete(f"{agent_id}-{number - 1}", agent_id))
    return commands


def ids(commands: list[Command]) -> list[str]:
    return [command.command_id for command in commands]


async def test_commands_become_one_chained_history(new_log: MakeLog, agent_id: str) -> None:
    log, commands = new_log(), work(agent_id, 40)
    async with deciding(log) as decider:
        await send(log, *commands)
        await decided(log, ids(commands))
        partition = partition_of(agent_id)
        found = await judge(log, partition)
        assert all(answers(found.events)[command.command_id] == 1 for command in commands)
        assert max(ends(found.events).values()) == 1
        assert found.aliens == 0
        await eventually(lambda: decider.histories[partition].head.hash == found.accepted[-1].hash)


async def test_poison_becomes_a_dead_letter_with_its_position_and_stops_nobody(new_log: MakeLog, agent_id: str) -> None:
    log, partition = new_log(), partition_of(agent_id)
    other = (partition + 1) % PARTITIONS
    good = outgoing(register(agent_id))
    assert good.value is not None
    stranger = Heartbeat(agent_id=agent_id, instance_id="i", in_flight=0, status="active", sent_at_ms=1)
    poison = {
        "junk bytes": Outgoing(b"k", b"\xde\xad\xbe\xef"),
        "nothing": Outgoing(b"k", None),
        "an unknown schema": Outgoing(b"k", b"\0\0\1\0\0abc"),
        "cut short": Outgoing(good.key, good.value[:-3]),
        "no command": Outgoing(agent_id.encode(), CODEC.encode(stranger)),
        "another key": Outgoing(b"somebody-else", good.value),
        "no key": Outgoing(None, good.value),
        "too large": Outgoing(agent_id.encode(), b"\0" * (COMMAND_BYTES_MAX + 1)),
        "as large as a record may be": Outgoing(b"k", b"\0" * 999_000),
        "headers without end": Outgoing(b"k", b"\1", (("h" * 9, b"x" * 400_000),)),
        "odd headers": Outgoing(b"k", b"\2", (("correlationid", b"\xff"), ("correlationid", b""))),
    }
    producer = await log.producer()
    positions: dict[str, str] = {}
    async with deciding(log):
        for name, record in poison.items():
            offset = await producer.send(AGENTS.commands, partition, record)
            positions[name] = f"{AGENTS.commands}:{partition}:{offset}"
        offset = await producer.send(AGENTS.commands, other, good)
        positions["on another partition"] = f"{AGENTS.commands}:{other}:{offset}"
        after = [register(agent_id), submit(f"{agent_id}-after", agent_id)]
        await send(log, *after)
        await decided(log, ids([*after]))
        letters = await dead_letters(log, set(positions.values()))
    assert set(positions.values()) <= letters.keys()
    for name, position in positions.items():
        letter = letters[position]
        assert letter.stage == "decide"
        assert letter.error, name
        sent = good if name == "on another partition" else poison[name]
        if name == "as large as a record may be":
            assert letter.record_value is not None
            assert 800_000 < len(letter.record_value) < 999_000
            assert "bytes only the first ones are kept" in letter.error
        elif name != "headers without end":
            assert (letter.record_key, letter.record_value) == (sent.key, sent.value)
    found = await judge(log, partition)
    assert found.unreadable >= len(poison)
    assert [event.command_id for event in found.events if event.key == agent_id] == [
        after[0].command_id, after[1].command_id, after[1].command_id
    ]  # fmt: skip
    await judge(log, other)
    await producer.close()


async def dead_letters(log: Log, wanted: set[str]) -> dict[str, DeadLetter]:
    found: dict[str, DeadLetter] = {}
    assert AGENTS.dead_letters in DEAD_LETTER_TOPICS
    for _ in range(50):
        for number in range(TOPICS[AGENTS.dead_letters].partitions):
            for record in await read_all(log, TopicPartition(AGENTS.dead_letters, number)):
                letter = CODEC.decode(record.value)
                assert isinstance(letter, DeadLetter)
                assert record.key == letter.source.encode()
                found[letter.source] = letter
        if wanted <= found.keys():
            break
        await asyncio.sleep(0.1)
    return found


async def test_two_owners_of_everything_write_one_history(new_log: MakeLog, agent_id: str) -> None:
    log, commands = new_log(), work(agent_id, 60)
    async with deciding(new_log()) as one, deciding(new_log()) as two:
        await send(log, *commands)
        await decided(log, ids(commands))
        partition = partition_of(agent_id)
        async with asyncio.timeout(20):
            while (found := await judge(log, partition)).duplicates == 0:
                await send(log, command := register(agent_id))  # one of them may have been behind all the while
                await decided(log, [command.command_id])
        await eventually(lambda: one.histories[partition].head == two.histories[partition].head)
        assert one.histories[partition].head.hash == found.accepted[-1].hash
        assert fingerprint(one.histories[partition].state) == fingerprint(two.histories[partition].state)
    assert found.duplicates > 0, "both must have written"
    assert all(answers(found.events)[command.command_id] == 1 for command in commands)


async def test_who_comes_after_goes_on_where_the_last_one_was(new_log: MakeLog, agent_id: str) -> None:
    log, commands = new_log(), work(agent_id, 20)
    async with deciding(new_log()):
        await send(log, *commands[:15])
        await decided(log, ids(commands[:15]))
    await send(log, *commands[15:])
    async with deciding(new_log()) as decider:
        await decided(log, ids(commands))
        partition = partition_of(agent_id)
        found = await judge(log, partition)
        await eventually(lambda: decider.histories[partition].head.hash == found.accepted[-1].hash)
    assert found.duplicates == 0 or found.aliens == 0
    assert all(answers(found.events)[command.command_id] == 1 for command in commands)


async def test_a_restart_from_a_snapshot_remembers_the_same_as_one_from_the_events(
    new_log: MakeLog, agent_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "SNAPSHOT_EVERY_EVENTS", 25)
    log, commands, partition = new_log(), work(agent_id, 60), partition_of(agent_id)
    async with deciding(new_log()) as first:
        await send(log, *commands)
        await decided(log, ids(commands))
        place = TopicPartition(AGENTS.snapshots, partition)
        async with asyncio.timeout(20):
            while (settled := await snapshots.load(log, CODEC, RULES, partition)) is None:
                await send(log, command := register(agent_id))  # one is written when a command comes, and is due
                await decided(log, [command.command_id])
        found = await judge(log, partition)
        await eventually(lambda: first.histories[partition].head.hash == found.accepted[-1].hash)
        live = fingerprint(first.histories[partition].state)
    assert settled.head.next_offset > 0
    async with deciding(new_log()) as restarted:
        assert restarted.histories[partition].accepted_count < len(found.accepted), "it need not read everything"
        assert fingerprint(restarted.histories[partition].state) == live
        monkeypatch.setattr(snapshots, "load", no_snapshot)
        async with deciding(new_log()) as from_events:
            assert fingerprint(from_events.histories[partition].state) == live
            more = work(f"{agent_id}", 5)
            await send(log, *more)
            await decided(log, ids(more))
            await judge(log, partition)
    assert (await log.ends([place]))[place] > 0


async def no_snapshot(*_arguments: object) -> None:
    return None


async def test_a_snapshot_larger_than_a_record_is_written_in_chunks(new_log: MakeLog, agent_id: str) -> None:
    log, partition = new_log(), partition_of(agent_id)
    here, chance = Partition(RULES), random.Random(7)
    here.when(register(agent_id))
    for number in range(12):
        noise = chance.randbytes(100_000).hex()
        here.when(submit(f"{agent_id}-{number}", agent_id, payload=f'"{noise}"', timeout_ms=600_000))
    head = Head(0, "a" * 32, 1, 13, 0)
    producer = await log.producer()
    before = (await log.ends([TopicPartition(AGENTS.snapshots, partition)]))[
        TopicPartition(AGENTS.snapshots, partition)
    ]
    size = await snapshots.write(
        snapshots.Settled(head, here.state), rules=RULES, partition=partition, codec=CODEC, producer=producer, at_ms=1
    )
    after = (await log.ends([TopicPartition(AGENTS.snapshots, partition)]))[TopicPartition(AGENTS.snapshots, partition)]
    assert size > 2 * snapshots.CHUNK_BYTES_MAX
    assert after - before == -(-size // snapshots.CHUNK_BYTES_MAX)
    loaded = await snapshots.load(log, CODEC, RULES, partition)
    assert loaded is not None
    assert loaded.head == head
    assert fingerprint(loaded.state) == fingerprint(here.state)
    # Half a snapshot more, and one that is broken: the last whole and sound one counts, or none.
    small = snapshots.Settled(Head(0, "b" * 32, 1, 1, 0), RULES.initial)
    await snapshots.write(small, rules=RULES, partition=partition, codec=CODEC, producer=producer, at_ms=2)
    newest = await snapshots.load(log, CODEC, RULES, partition)
    assert newest is not None
    assert newest.head == small.head
    # Or whoever decides this partition next would go on from a head that never was.
    beginning = snapshots.Settled(Head(), RULES.initial)
    await snapshots.write(beginning, rules=RULES, partition=partition, codec=CODEC, producer=producer, at_ms=3)
    await producer.close()


async def test_a_broken_snapshot_costs_time_and_no_start(new_log: MakeLog, agent_id: str) -> None:
    log, partition, commands = new_log(), partition_of(agent_id), work(agent_id, 5)
    broken = Snapshot(
        topic=AGENTS.events, partition=partition, logic_version=RULES.logic_version, incarnation=1,
        next_event_offset=1, last_command_offset=1, last_index=0, chain_hash="c" * 32, chunk=0, chunks=1,
        taken_at_ms=1, state=b"no compressed JSON",
    )  # fmt: skip
    producer = await log.producer()
    for value in (b"junk", CODEC.encode(broken)):
        await producer.send(AGENTS.snapshots, partition, Outgoing(f"{partition}/0".encode(), value))
    async with deciding(log):
        await send(log, *commands)
        await decided(log, ids(commands))
        await judge(log, partition)
    await producer.close()


async def test_ticks_time_requests_out(new_log: MakeLog, agent_id: str) -> None:
    log = new_log()
    commands: list[Command] = [
        register(agent_id),
        submit(f"{agent_id}-1", agent_id, timeout_ms=700),
        submit(f"{agent_id}-2", agent_id, timeout_ms=300),
    ]
    async with deciding(log):
        await send(log, *commands)
        partition = partition_of(agent_id)

        async with asyncio.timeout(20):
            wanted = {f"{agent_id}-1", f"{agent_id}-2"}
            while not wanted <= set(ends((await judge(log, partition)).events)):  # noqa: ASYNC110 - it is on the log
                await asyncio.sleep(0.05)
    found = await judge(log, partition)
    timed_out = [event for event in found.events if type(event).__name__ == "RequestTimedOut" and event.key == agent_id]
    assert [event.model_dump()["request_id"] for event in timed_out] == [f"{agent_id}-2", f"{agent_id}-1"]


async def test_a_tick_from_anybody_does_no_harm(new_log: MakeLog, agent_id: str) -> None:
    log, partition = new_log(), partition_of(agent_id)
    producer = await log.producer()
    async with deciding(log):
        for number in range(20):
            tick = TickAgents(command_id=f"{agent_id}-tick-{number}", partition=(partition + number) % PARTITIONS)
            await producer.send(AGENTS.commands, partition, outgoing(tick))
        command = register(agent_id)
        await send(log, command)
        await decided(log, [command.command_id])
        found = await judge(log, partition)
    assert not [event for event in found.events if "-tick-" in event.command_id and event.key == agent_id]
    await producer.close()


async def test_what_a_command_is_part_of_is_handed_on(new_log: MakeLog, agent_id: str) -> None:
    log, command = new_log(), register(agent_id)
    producer = await log.producer()
    record = outgoing(command, correlation_id="whole-work")
    record = Outgoing(record.key, record.value, (*record.headers, ("traceparent", b"00-1-2-01")))
    async with deciding(log):
        await producer.send(AGENTS.commands, partition_of(agent_id), record)
        await decided(log, [command.command_id])
    records = await read_all(log, TopicPartition(AGENTS.events, partition_of(agent_id)))
    headers = next(
        dict(found.headers)
        for found in records
        if dict(found.headers).get("causationid") == command.command_id.encode()
    )
    assert headers["correlationid"] == b"whole-work"
    assert headers["traceparent"] == b"00-1-2-01"
    await producer.close()


async def test_the_largest_commands_are_decided(new_log: MakeLog, agent_id: str) -> None:
    log = new_log()
    request = AgentRequest(
        request_id=f"{agent_id}-large", source_agent="s", target_agent=agent_id, request_type="t",
        payload='"' + "x" * (256 * 1024 - 2) + '"', correlation_id="c", created_at_ms=0,
    )  # fmt: skip
    commands: list[Command] = [register(agent_id, concurrency=5)]
    commands += [
        SubmitRequest(command_id=f"{agent_id}-{number}", agent_id=agent_id,
                      request=request.model_copy(update={"request_id": f"{agent_id}-{number}"}))
        for number in range(6)
    ]  # fmt: skip
    async with deciding(log):
        await send(log, *commands)
        await decided(log, ids(commands))
        await judge(log, partition_of(agent_id))


async def test_events_are_not_written_while_the_dead_letters_before_them_are_not_on_the_log(agent_id: str) -> None:
    log, good = MemoryLog(), register(agent_id)
    partition = partition_of(agent_id)
    await log.provision(TOPICS.values())
    producer = await log.producer()
    for _ in range(3):
        await producer.send(AGENTS.commands, partition, Outgoing(b"k", b"junk"))
    with pytest.MonkeyPatch.context() as patch:
        tries: list[str] = []

        async def no_letters(self: MemoryProducer, topic: str, place: int, record: Outgoing) -> int:
            if topic == AGENTS.dead_letters:
                tries.append(topic)
                raise Unavailable("the dead letters are away")
            return await real(self, topic, place, record)

        real = MemoryProducer.send
        await producer.send(AGENTS.commands, partition, outgoing(good))
        patch.setattr(MemoryProducer, "send", no_letters)
        async with deciding(log):
            await eventually(lambda: len(tries) >= 6)
            assert await read_all(log, TopicPartition(AGENTS.events, partition)) == []
            patch.undo()
            await decided(log, ids([good]))
    letters = await dead_letters(log, {f"{AGENTS.commands}:{partition}:{offset}" for offset in range(3)})
    assert len(letters) == 3
