"""The parts of the saver by themselves: what goes out in chunks, who waits for whom, what a config must be."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from diurna_schemas.checkpoints import CHUNK_BYTES, INLINE_BYTES_MAX
from diurna_schemas.codec import Codec
from diurna_schemas.errors import Conflict
from diurna_schemas.topics import CHECKPOINTS, TOPICS, partition_of
from diurna_streams.log import Outgoing, TopicPartition
from diurna_streams.log.memory import MemoryLog
from diurna_workflows.checkpointer import frontier, outbox
from diurna_workflows.checkpointer.cache import EMPTY, Head, ReadHeads
from diurna_workflows.checkpointer.config import begins_to_write, goes_on
from diurna_workflows.checkpointer.drafts import CheckpointDraft, Draft, WritesDraft
from diurna_workflows.checkpointer.frontier import Frontier
from diurna_workflows.checkpointer.outbox import Outbox
from diurna_workflows.checkpointer.steps import Steps
from diurna_workflows.checkpointer.values import Packed, Value, is_small, packed


def checkpoint(checkpoint_id: str = "1", channels: dict[str, str] | None = None, **new: bytes) -> CheckpointDraft:
    values = [Value("msgpack", b"body"), Value("msgpack", b"metadata")]
    values += [Value("msgpack", data) for data in new.values()]
    fields: dict[str, Any] = {
        "checkpoint_ns": "",
        "checkpoint_id": checkpoint_id,
        "parent_checkpoint_id": None,
        "channels": channels or {},
        "blobs": [{"channel": name} for name in new],
    }
    return CheckpointDraft("t", fields, Packed([], [], 0), values, frozenset(new))


def writes(checkpoint_id: str = "1") -> WritesDraft:
    fields: dict[str, Any] = {
        "checkpoint_ns": "",
        "checkpoint_id": checkpoint_id,
        "task_id": "task",
        "task_path": "",
        "writes": [{"index": 0, "channel": "c"}],
    }
    return WritesDraft("t", fields, Packed([], [], 0), [Value("msgpack", b"x")])


# --- values ---------------------------------------------------------------------------------------------


@given(sizes=st.lists(st.sampled_from([0, 10, 100_000, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 1_200_000]), max_size=6))
def test_what_stays_in_the_record_fits_and_what_goes_out_comes_back_whole(sizes: list[int]) -> None:
    values = [Value("bytes", bytes([number]) * size) for number, size in enumerate(sizes)]
    found = packed(values)
    chunks = dict(found.chunks)
    inline = 0
    for value, stored in zip(values, found.stored, strict=True):
        assert (stored["kind"], stored["size"]) == (value.kind, len(value.data))
        if stored["data"] is not None:
            assert stored["data"] == value.data
            inline += len(value.data)
            continue
        parts = chunks[stored["sha256"]]
        assert len(parts) == stored["chunks"]
        assert max(map(len, parts)) <= CHUNK_BYTES
        assert b"".join(parts) == value.data
        assert hashlib.sha256(value.data).hexdigest() == stored["sha256"]
    assert inline == found.inline_bytes <= INLINE_BYTES_MAX
    if sum(sizes) <= INLINE_BYTES_MAX:
        assert not found.chunks


def test_the_same_large_value_twice_goes_out_once() -> None:
    large = Value("bytes", b"x" * (INLINE_BYTES_MAX + 1))
    found = packed([large, large])
    assert len(found.chunks) == 1
    assert found.stored[0] == found.stored[1]


def test_small_values_are_numbers_and_short_texts() -> None:
    assert all(is_small(value) for value in (None, True, 3, 2.5, "x" * 64))
    assert not any(is_small(value) for value in ("x" * 65, [], {}, b"", object()))


# --- the cache ------------------------------------------------------------------------------------------


async def test_a_checkpoint_that_names_a_value_nobody_brought_is_not_known_whole() -> None:
    first = EMPTY.followed_by(checkpoint("1", {"a": "1", "b": "1", "small": ""}, a=b"a1", b=b"b1"))
    assert first is not None
    assert EMPTY.followed_by(checkpoint("2", {"a": "1"})) is None
    second = first.followed_by(checkpoint("2", {"a": "2", "b": "1"}, a=b"a2"))
    assert second is not None
    assert {name: value.data for name, value in second.values.items()} == {"a": b"a2", "b": b"b1"}
    assert second.followed_by(checkpoint("3", {"a": "1", "b": "1"})) is None


def test_heads_that_were_read_are_bounded_in_bytes() -> None:
    heads = ReadHeads(bytes_max=10_000)
    for number in range(20):
        heads.remember(f"t{number}", "", Head(str(number), None, Value("b", b"x" * 900), Value("b", b""), {}, {}))
    kept = [number for number in range(20) if heads.take(f"t{number}", "") is not None]
    assert kept == list(range(20 - len(kept), 20))
    assert 3 <= len(kept) <= 9


# --- who waits for whom ---------------------------------------------------------------------------------


async def save(steps: Steps, draft: CheckpointDraft) -> None:
    await steps.save(draft, lambda _: None)


async def go_on(steps: Steps, draft: WritesDraft) -> None:
    await steps.go_on(draft, lambda _: None)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_saves_a_checkpoint_waits_for_it_where_the_run_does_not_go_on() -> None:
    steps, draft = Steps(), checkpoint()
    saving = asyncio.create_task(save(steps, draft))
    await settled()
    assert not saving.done()
    draft.succeed()
    await saving


@pytest.mark.parametrize("is_early", [True, False])
async def test_a_run_that_goes_on_waits_with_its_next_writes_for_both(is_early: bool) -> None:
    steps, saved, wrote = Steps(), checkpoint(), writes()
    first, second = (go_on(steps, wrote), save(steps, saved)) if is_early else (save(steps, saved), go_on(steps, wrote))
    tasks = [asyncio.create_task(first)]
    await settled()
    tasks.append(asyncio.create_task(second))
    await settled()
    saving, writing = (tasks[1], tasks[0]) if is_early else (tasks[0], tasks[1])
    assert saving.done()
    wrote.succeed()
    await settled()
    assert not writing.done()
    saved.succeed()
    await writing


async def test_a_checkpoint_that_failed_is_told_to_whoever_went_on() -> None:
    steps, saved, wrote = Steps(), checkpoint(), writes()
    saving = asyncio.create_task(save(steps, saved))
    await settled()
    writing = asyncio.create_task(go_on(steps, wrote))
    await saving
    wrote.succeed()
    saved.fail(Conflict("late"))
    with pytest.raises(Conflict, match="late"):
        await writing


async def test_writes_that_are_over_already_cover_no_checkpoint() -> None:
    steps, saved, wrote = Steps(), checkpoint(), writes()
    wrote.succeed()
    await go_on(steps, wrote)
    saving = asyncio.create_task(save(steps, saved))
    await settled()
    assert not saving.done()
    saved.fail(Conflict("late"))
    with pytest.raises(Conflict, match="late"):
        await saving
    assert steps._steps == {}


# --- what goes to the log together ----------------------------------------------------------------------


class Thread:
    """A thread that is held, as far as its records name it."""

    thread_id, token, is_known = "t", 1, True

    def next_record(self) -> int:
        return 1


def stored(draft: CheckpointDraft | WritesDraft, *, can_wait: bool) -> CheckpointDraft | WritesDraft:
    value = {"kind": "msgpack", "data": b"x", "size": 1}
    if isinstance(draft, CheckpointDraft):
        draft.fields |= {"run_id": None, "body": value, "metadata": value}
    else:
        draft.fields["writes"] = []
    draft.can_wait = can_wait
    return draft


async def records_of_steps(monkeypatch: pytest.MonkeyPatch, *, turns: int, can_wait: bool, seconds: float) -> int:
    """How many records five steps become that come `turns` turns of the loop apart."""
    monkeypatch.setattr(outbox, "GATHER_SECONDS_MAX", seconds)
    log = MemoryLog()
    await log.provision(TOPICS.values())
    settled: list[Draft] = []
    found = Outbox(log, Codec.numbered(), lambda: 0, lambda _thread, draft, _offset: settled.append(draft))
    for number in range(5):
        found.put(Thread(), stored(writes(str(number)), can_wait=can_wait))
        found.put(Thread(), stored(checkpoint(str(number + 1)), can_wait=can_wait))
        for _ in range(turns):
            await asyncio.sleep(0)
    await found.close()
    assert len(settled) == 10
    place = TopicPartition(CHECKPOINTS, partition_of("t"))
    return (await log.ends([place]))[place]


async def test_steps_of_a_run_that_hurries_on_become_one_record(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await records_of_steps(monkeypatch, turns=outbox.QUIET_TURNS - 2, can_wait=True, seconds=60.0) == 1


async def test_steps_somebody_waits_for_go_to_the_log_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await records_of_steps(monkeypatch, turns=outbox.QUIET_TURNS - 2, can_wait=False, seconds=60.0) == 5


async def test_steps_of_a_run_that_pauses_go_to_the_log_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await records_of_steps(monkeypatch, turns=outbox.QUIET_TURNS * 3, can_wait=True, seconds=60.0) == 5


async def test_a_run_that_never_pauses_is_written_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await records_of_steps(monkeypatch, turns=outbox.QUIET_TURNS - 2, can_wait=True, seconds=0.0) == 5


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
async def test_langgraph_says_with_what_durability_a_run_saves(durability: Literal["async", "sync", "exit"]) -> None:
    told: dict[str, set[tuple[bool, bool]]] = {"read": set(), "write": set()}

    class Listening(InMemorySaver):
        async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
            told["read"].add((begins_to_write(config), goes_on(config)))
            return await super().aget_tuple(config)

        async def aput(self, config: RunnableConfig, *rest: Any) -> RunnableConfig:
            told["write"].add((begins_to_write(config), goes_on(config)))
            return await super().aput(config, *rest)

    graph = StateGraph(dict)  # type: ignore[type-var]
    graph.add_node("node", lambda state: state)
    graph.add_edge(START, "node")
    compiled = graph.compile(checkpointer=Listening())
    config: RunnableConfig = {"configurable": {"thread_id": "t"}}
    await compiled.ainvoke({"a": 1}, config, durability=durability)
    expected = {(durability != "exit", durability == "async")}
    assert told == {"read": expected, "write": expected}
    told["read"].clear()
    await compiled.aget_state(config)
    assert told["read"] == {(False, False)}, "whoever only looks at a state is no run"


# --- how far the log is ---------------------------------------------------------------------------------


async def test_a_read_needs_its_thread_s_own_last_record_and_nothing_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontier, "THREADS_MAX", 3)
    log = MemoryLog()
    await log.provision(TOPICS.values())
    producer = await log.producer()
    found = Frontier(log)
    same = [name for name in (f"t{number}" for number in range(200)) if partition_of(name) == 0][:6]

    async def write(thread_id: str) -> int:
        return await producer.send(CHECKPOINTS, partition_of(thread_id), Outgoing(thread_id.encode(), b"x"))

    await write(same[0])
    assert [one.offset for one in await found.of(same[1])] == [0], "what was there before may be anybody's"
    second = await write(same[1])
    await write(same[2])
    assert [one.offset for one in await found.of(same[1])] == [second]
    assert [one.offset for one in await found.of(same[3])] == [0]
    for thread_id in same[2:]:
        await write(thread_id)
    assert [one.offset for one in await found.of(same[1])] == [3], "forgotten: the last forgotten record is enough"
    assert sorted(one.partition for one in await found.of_all()) == [0]
    await found.close()
