"""One writer a thread: who comes second waits, who comes late is refused, and what is lost on the log is said."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.graph import START, StateGraph

from diurna.connection import Connection
from diurna.locks import ResourceLockManager
from diurna_projections.threads import Summary
from diurna_schemas.checkpoints import ValueChunk
from diurna_schemas.errors import Conflict, Unreadable
from diurna_schemas.ids import Position
from diurna_schemas.locks import AcquireLock, ForceReleaseLock
from diurna_schemas.message import Command
from diurna_schemas.topics import CHECKPOINTS, partition_of
from diurna_streams.log import Outgoing
from diurna_workflows.checkpointer import Hold, KafkaCheckpointSaver, LockedThreads
from diurna_workflows.checkpointer.config import DURABILITY
from support.checkpoints import checkpoint_of, config_of, latest, new_thread, put
from support.savers import LEASE_SECONDS, Savers

pytestmark = pytest.mark.timeout(120)


class Zombie:
    """A guard whose holder believes for ever that it holds: a process that slept through the end of its lease."""

    def __init__(self, connection: Connection) -> None:
        self._guard = LockedThreads(
            ResourceLockManager(connection=connection), agent_id="zombie", lease_seconds=1.0, wait_seconds=10.0
        )
        self.asleep = True

    async def hold(self, thread_id: str) -> Hold:
        return _Sleeping(await self._guard.hold(thread_id), self)


class _Sleeping:
    def __init__(self, hold: Hold, zombie: Zombie) -> None:
        self._hold = hold
        self._zombie = zombie

    @property
    def token(self) -> int:
        return self._hold.token

    @property
    def alone_since(self) -> float | None:
        return self._hold.alone_since

    @property
    def is_safe(self) -> bool:
        return self._zombie.asleep or self._hold.is_safe

    def keep(self) -> None:
        """It sleeps."""

    async def release(self) -> None:
        await self._hold.release()


async def test_who_comes_second_waits_until_the_first_gives_the_thread_back(savers: Savers) -> None:
    one, other = await savers(), await savers()
    thread_id = new_thread()
    async with one.holding(thread_id) as token:
        first = await put(one, thread_id, {"a": 1})
        waiting = asyncio.create_task(put(other, thread_id, {"a": 2}, parent=first))
        await asyncio.sleep(LEASE_SECONDS * 1.2)  # longer than a lease: it is kept while the block lasts
        assert not waiting.done()
    second = await waiting
    assert (await latest(one, thread_id)).checkpoint["id"] == second
    async with other.holding(thread_id) as later:
        assert later > token


async def test_who_waits_too_long_is_told_who_has_it(savers: Savers) -> None:
    one = await savers(agent_id="first-worker")
    other = await savers(wait_seconds=0.3)
    impatient = await savers(wait_seconds=0.0)
    thread_id = new_thread()
    async with one.holding(thread_id):
        for late in (other, impatient):
            with pytest.raises(Conflict, match="written to by first-worker") as refused:
                await put(late, thread_id, {"a": 2})
            assert refused.value.code == "thread_held"
    await put(await savers(), thread_id, {"a": 2})


async def test_a_thread_that_nobody_writes_to_is_free_after_a_moment(savers: Savers) -> None:
    one, other = await savers(idle_seconds=0.2), await savers(wait_seconds=LEASE_SECONDS * 0.8)
    thread_id = new_thread()
    first = await put(one, thread_id, {"a": 1})
    await put(other, thread_id, {"a": 2}, parent=first)


async def test_a_run_whose_thread_moved_on_meanwhile_is_refused_and_changes_nothing(savers: Savers) -> None:
    one, other = await savers(idle_seconds=0.1), await savers(idle_seconds=0.1)
    thread_id = new_thread()
    first = await put(one, thread_id, {"a": 1})
    await one.aclose()
    stale = await savers()
    await latest(stale, thread_id)
    second = await put(other, thread_id, {"a": 2}, parent=first)
    for late in (
        put(stale, thread_id, {"a": 3}, parent=first),
        put(stale, thread_id, {"a": 3}),
        stale.aput_writes(config_of(thread_id, first), [("a", 3)], "task"),  # type: ignore[arg-type]
    ):
        with pytest.raises(Conflict, match=second) as refused:
            await late
        assert refused.value.code == "thread_moved"
    assert (await latest(stale, thread_id)).checkpoint["id"] == second
    assert [one.checkpoint["id"] async for one in stale.alist(config_of(thread_id))] == [second, first]  # type: ignore[arg-type]


def of_a_run(thread_id: str) -> RunnableConfig:
    """What a run reads its thread with, before its first step."""
    config: RunnableConfig = {"configurable": {"thread_id": thread_id, DURABILITY: "async"}}
    return config


async def test_a_run_takes_its_thread_while_it_reads_it(savers: Savers) -> None:
    one, other = await savers(idle_seconds=60.0), await savers(wait_seconds=0.0)
    thread_id = new_thread()
    assert await one.aget_tuple(of_a_run(thread_id)) is None
    first = await put(one, thread_id, {"a": 1})
    with pytest.raises(Conflict, match="written to by tester"):
        await put(other, thread_id, {"a": 2}, parent=first)


async def test_a_run_that_read_while_another_wrote_is_refused(savers: Savers) -> None:
    one, late = await savers(), await savers()
    thread_id = new_thread()
    async with one.holding(thread_id):
        assert await late.aget_tuple(of_a_run(thread_id)) is None
        first = await put(one, thread_id, {"a": 1})
    with pytest.raises(Conflict, match=first) as refused:
        await put(late, thread_id, {"a": 2})
    assert refused.value.code == "thread_moved"


@pytest.mark.parametrize("is_disturbed", [False, True])
async def test_another_who_wrote_between_a_run_s_read_and_its_turn_is_noticed(
    savers: Savers, monkeypatch: pytest.MonkeyPatch, is_disturbed: bool
) -> None:
    other, own = await savers(), savers.team.connect()
    late = await savers(connection=own)
    thread_id, has_read, send = new_thread(), asyncio.Event(), own.sender.send
    beside = next(name for name in iter(new_thread, "") if _lock_partition(name) == _lock_partition(thread_id))
    await put(late, beside, {"a": 0})  # it hears of this partition's locks from now on
    looks: list[str] = []
    summary = late._threads.summary

    async def looked(thread_id: str) -> Summary:
        looks.append(thread_id)
        return await summary(thread_id)

    first = ""

    async def slowly(command: Command, **rest: Any) -> Position:
        nonlocal first
        if isinstance(command, AcquireLock) and not first:
            await has_read.wait()
            first = await put(other, thread_id, {"a": 1}) if is_disturbed else "nobody"
            await other.aclose()
        return await send(command, **rest)

    monkeypatch.setattr(own.sender, "send", slowly)
    monkeypatch.setattr(late._threads, "summary", looked)
    assert await late.aget_tuple(of_a_run(thread_id)) is None
    has_read.set()
    if is_disturbed:
        with pytest.raises(Conflict, match="moved on"):
            await put(late, thread_id, {"a": 2})
        assert (await latest(late, thread_id)).checkpoint["id"] == first
    else:
        second = await put(late, thread_id, {"a": 2})
        assert (await latest(late, thread_id)).checkpoint["id"] == second
    assert looks == ([thread_id] if is_disturbed else []), "it looks again only where somebody else was there"


async def test_a_branch_from_an_older_checkpoint_that_was_named_is_no_late_write(savers: Savers) -> None:
    one, other = await savers(idle_seconds=0.1), await savers()
    thread_id = new_thread()
    first = await put(one, thread_id, {"a": 1})
    await put(one, thread_id, {"a": 2}, parent=first)
    assert await other.aget_tuple(config_of(thread_id, first)) is not None  # type: ignore[arg-type]
    branch = await put(other, thread_id, {"a": 3}, parent=first)
    assert (await latest(other, thread_id)).checkpoint["id"] == branch


async def test_what_a_late_writer_wrote_does_not_count_and_it_is_told(savers: Savers) -> None:
    own = savers.team.connect()
    zombie = Zombie(own)
    late, successor = await savers(connection=own, guard=zombie, idle_seconds=60.0), await savers()
    thread_id = new_thread()
    first = await put(late, thread_id, {"a": 1})
    second = await put(successor, thread_id, {"a": 2}, parent=first)  # once the zombie's lease is over
    stored = checkpoint_of({"a": 666}, {"a": "9"})
    await late.aput(config_of(thread_id, first), stored, {"source": "loop", "step": 1}, {"a": "9"})  # type: ignore[arg-type]
    await late.aput_writes(config_of(thread_id, second), [("a", 666)], "task")  # type: ignore[arg-type]
    reader = await savers()
    assert await latest(reader, thread_id) == await latest(successor, thread_id)
    assert [one.checkpoint["id"] async for one in reader.alist(config_of(thread_id))] == [second, first]  # type: ignore[arg-type]
    found = (await reader._reads.summary(thread_id)).thread
    assert found is not None
    assert found.refused == 2
    waking = asyncio.create_task(late.aput_writes(config_of(thread_id, stored["id"]), [("a", 666)], "task"))  # type: ignore[arg-type]
    while late._threads.outbox.is_idle and not waking.done():  # noqa: ASYNC110 - it is on its way once the loop has turned
        await asyncio.sleep(0)
    zombie.asleep = False
    with pytest.raises(Conflict, match="does not count"):
        await waking
    third = await put(successor, thread_id, {"a": 3}, parent=second)
    assert (await latest(reader, thread_id)).checkpoint["id"] == third


async def test_a_lease_that_ended_unnoticed_is_no_loss_where_nobody_else_came(savers: Savers) -> None:
    own = savers.team.connect()
    sleeper = Zombie(own)
    saver = await savers(connection=own, guard=sleeper, idle_seconds=60.0)
    thread_id = new_thread()
    first = await put(saver, thread_id, {"a": 1})
    await asyncio.sleep(1.2)
    writing = asyncio.create_task(put(saver, thread_id, {"a": 2}, parent=first))
    while saver._threads.outbox.is_idle and not writing.done():  # noqa: ASYNC110
        await asyncio.sleep(0)
    sleeper.asleep = False
    second = await writing
    third = await put(saver, thread_id, {"a": 3}, parent=second)
    assert (await latest(await savers(), thread_id)).checkpoint["id"] == third


async def test_a_thread_that_is_taken_away_by_force_is_lost_to_who_held_it(savers: Savers) -> None:
    one, other = await savers(), await savers()
    thread_id = new_thread()
    own = savers.team.connection
    command = ForceReleaseLock(
        command_id=str(uuid.uuid4()), resource_id=f"thread:{thread_id}", released_by="ada", reason="it hangs"
    )

    async def work() -> None:
        async with one.holding(thread_id):
            first = await put(one, thread_id, {"a": 1})
            await own.sender.send(command)
            await put(other, thread_id, {"a": 2}, parent=first)
            await put(one, thread_id, {"a": 3}, parent=first)

    with pytest.raises(Conflict, match="lost to another writer"):
        await work()
    assert (await latest(other, thread_id)).checkpoint["channel_values"] == {"a": 2}


def is_one_line(newest_first: list[CheckpointTuple]) -> bool:
    """Whether each checkpoint is the child of the one before it."""
    parents = [one.parent_config["configurable"]["checkpoint_id"] for one in newest_first if one.parent_config]
    return parents == [one.checkpoint["id"] for one in newest_first[1:]]


async def test_the_check_itself_notices_a_fork(savers: Savers) -> None:
    saver = await savers()
    thread_id = new_thread()
    first = await put(saver, thread_id)
    await put(saver, thread_id, parent=first)
    assert is_one_line([one async for one in saver.alist(config_of(thread_id))])  # type: ignore[arg-type]
    await put(saver, thread_id, parent=first)
    assert not is_one_line([one async for one in saver.alist(config_of(thread_id))])  # type: ignore[arg-type]


async def test_two_workers_at_once_never_fork_a_thread(savers: Savers) -> None:
    """Both run the same graph on one thread; whatever happens, its history is one line."""

    class State(dict[str, Any]):
        pass

    def graph_of(saver: KafkaCheckpointSaver, who: str) -> Any:
        graph = StateGraph(dict)
        before = START
        for number in range(6):
            graph.add_node(f"n{number}", lambda _, number=number: {"who": who, "number": number})
            graph.add_edge(before, f"n{number}")
            before = f"n{number}"
        return graph.compile(checkpointer=saver)

    for round_number in range(4):
        config: Any = {"configurable": {"thread_id": new_thread()}}
        workers = [graph_of(await savers(idle_seconds=0.05), f"worker-{number}") for number in range(2)]
        outcomes = await asyncio.gather(
            *(worker.ainvoke({"round": round_number}, config) for worker in workers), return_exceptions=True
        )
        assert any(not isinstance(outcome, BaseException) for outcome in outcomes)
        assert is_one_line([one async for one in (await savers()).alist(config)])
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, Conflict), outcome


async def test_a_record_nobody_can_read_is_said_by_whoever_reads_its_thread_and_by_nobody_else(savers: Savers) -> None:
    saver = await savers(idle_seconds=0.05)
    thread_id, neighbour = new_thread(), new_thread()
    first = await put(saver, thread_id, {"a": 1})
    await put(saver, neighbour, {"a": 1})
    await _append(savers, thread_id, b"garbage")
    reader = await savers()
    for _ in range(2):
        with pytest.raises(Unreadable, match=rf"{CHECKPOINTS}:{partition_of(thread_id)}:\d+ cannot be read") as damaged:
            await reader.aget_tuple(config_of(thread_id))  # type: ignore[arg-type]
        assert "Confluent" in str(damaged.value)
    assert (await latest(reader, neighbour)).checkpoint["channel_values"] == {"a": 1}
    named = await reader.aget_tuple(config_of(thread_id, first))  # type: ignore[arg-type]
    assert named is not None
    second = await put(reader, thread_id, {"a": 2}, parent=first)
    assert (await latest(await savers(), thread_id)).checkpoint["id"] == second


async def test_a_value_whose_chunks_are_not_its_own_damages_its_thread_until_that_is_deleted(savers: Savers) -> None:
    saver = await savers(idle_seconds=0.05)
    thread_id = new_thread()
    await put(saver, thread_id, {"a": 1})
    codec = savers.team.connection.codec
    sender = await savers()
    original = codec.encode

    def corrupting(record: Any) -> bytes:
        if isinstance(record, ValueChunk) and record.index == 1:
            record = record.model_copy(update={"data": record.data[:-1] + b"!"})
        return original(record)

    async with asyncio.timeout(30):
        while saver._threads.known(thread_id) is not None:  # noqa: ASYNC110 - it is given back by itself
            await asyncio.sleep(0.05)
    broken = checkpoint_of({"a": b"x" * 1_500_000}, {"a": "7"})
    newest = (await latest(sender, thread_id)).checkpoint["id"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "encode", corrupting)
        await sender.aput(config_of(thread_id, newest), broken, {"source": "loop", "step": 1}, {"a": "7"})  # type: ignore[arg-type]
    with pytest.raises(Unreadable, match="have the SHA-256"):
        await (await savers()).aget_tuple(config_of(thread_id))  # type: ignore[arg-type]
    await sender.adelete_thread(thread_id)
    assert await (await savers()).aget_tuple(config_of(thread_id)) is None  # type: ignore[arg-type]


async def test_bytes_the_serialiser_does_not_understand_are_said_with_their_channel(savers: Savers) -> None:
    class Foreign:
        def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
            return "msgpack", b"\xc1"

        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            return {}

    thread_id = new_thread()
    await put(await savers(serde=Foreign()), thread_id, {"a": 1})
    with pytest.raises(Unreadable, match=f"of thread '{thread_id}' cannot be read as msgpack"):
        await (await savers()).aget_tuple(config_of(thread_id))  # type: ignore[arg-type]


def _lock_partition(thread_id: str) -> int:
    return partition_of(f"thread:{thread_id}")


async def _append(savers: Savers, thread_id: str, value: bytes) -> None:
    producer = await savers.team.connection.log.producer()
    await producer.send(CHECKPOINTS, partition_of(thread_id), Outgoing(thread_id.encode(), value))
    await producer.close()
