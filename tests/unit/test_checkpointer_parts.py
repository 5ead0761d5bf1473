"""The parts of the saver by themselves: what goes out in chunks, who waits for whom, what a config must be."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diurna_schemas.checkpoints import CHUNK_BYTES, INLINE_BYTES_MAX
from diurna_schemas.errors import Conflict
from diurna_schemas.topics import CHECKPOINTS, TOPICS, partition_of
from diurna_streams.log import Outgoing
from diurna_streams.log.memory import MemoryLog
from diurna_workflows.checkpointer import frontier
from diurna_workflows.checkpointer.cache import EMPTY, Head, ReadHeads
from diurna_workflows.checkpointer.drafts import CheckpointDraft, WritesDraft
from diurna_workflows.checkpointer.frontier import Frontier
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
    async with steps.saving(draft) as saving:
        await saving.is_over


async def go_on(steps: Steps, draft: WritesDraft) -> None:
    async with steps.going_on(draft):
        await draft.done


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
