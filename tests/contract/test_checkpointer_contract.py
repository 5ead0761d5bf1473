"""What a saver promises beside LangGraph's own suite: reads are whole and fresh, values of any size, clear refusals."""

from __future__ import annotations

import asyncio
import random
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import ERROR
from pydantic import BaseModel

from diurna.testing import team
from diurna_schemas.checkpoints import VALUE_BYTES_MAX
from diurna_schemas.errors import Conflict, InvalidInput, NotFound, TooLarge, Unavailable
from diurna_schemas.topics import CHECKPOINTS, TOPICS
from diurna_streams.log import Log, TopicPartition
from diurna_workflows.checkpointer import KafkaCheckpointSaver, SoleWriter
from support.checkpoints import checkpoint_of, config_of, latest, new_thread, put
from support.savers import Savers

pytestmark = pytest.mark.timeout(120)


async def ends(log: Log) -> dict[TopicPartition, int]:
    return await log.ends([TopicPartition(CHECKPOINTS, number) for number in range(TOPICS[CHECKPOINTS].partitions)])


async def test_what_was_put_is_read_at_once_by_every_process(savers: Savers) -> None:
    one, other = await savers(), await savers()
    thread_id = new_thread()
    parent = None
    for number in range(12):
        parent = await put(one, thread_id, {"number": number, "text": "x" * number}, parent=parent, step=number)
        await one.aput_writes(config_of(thread_id, parent), [("a", number), (ERROR, "e")], f"task-{number}", "~p")  # type: ignore[arg-type]
        mine, theirs = await latest(one, thread_id), await latest(other, thread_id)
        assert mine == theirs
        assert mine.checkpoint["channel_values"] == {"number": number, "text": "x" * number}
        assert mine.pending_writes == [(f"task-{number}", ERROR, "e"), (f"task-{number}", "a", number)]
        listed = [found async for found in other.alist(config_of(thread_id), limit=1)]  # type: ignore[arg-type]
        assert listed == [mine]


async def test_the_cache_answers_as_the_tables_do(savers: Savers) -> None:
    """Random work on a few threads through one saver, and each answer compared with that of one that knows nothing."""
    chance = random.Random(7)
    writer = await savers(idle_seconds=60.0)
    heads: dict[tuple[str, str], list[str]] = {}
    threads = [new_thread() for _ in range(3)]
    for step in range(60):
        thread_id, ns = chance.choice(threads), chance.choice(["", "", "child:1"])
        known = heads.setdefault((thread_id, ns), [])
        match chance.randrange(6):
            case 0 if known:
                await writer.aput_writes(
                    config_of(thread_id, chance.choice(known), ns),  # type: ignore[arg-type]
                    [("a", step), ("b", [step])],
                    f"task-{chance.randrange(3)}",
                )
            case 1 if known:
                some = await writer.aget_tuple(config_of(thread_id, chance.choice(known), ns))  # type: ignore[arg-type]
                assert some is not None
            case 2 if step % 20 == 19:
                await writer.adelete_thread(thread_id)
                for place in [place for place in heads if place[0] == thread_id]:
                    heads[place].clear()
            case 3 if known and step % 10 == 9:
                await writer.aprune([thread_id])
                for place in [place for place in heads if place[0] == thread_id]:
                    heads[place][:] = heads[place][-1:]
            case _:
                parent = chance.choice([*known[-1:], *known]) if known else None
                before = None if parent is None else await writer.aget_tuple(config_of(thread_id, parent, ns))  # type: ignore[arg-type]
                values = {} if before is None else dict(before.checkpoint["channel_values"])
                versions = {} if before is None else dict(before.checkpoint["channel_versions"])
                changed = {f"c{chance.randrange(4)}": writer.get_next_version(None, None)}
                values.update(dict.fromkeys(changed, step))
                versions.update(changed)
                found = checkpoint_of(values, versions)
                metadata = {"source": "loop", "step": step, "parents": {}}
                await writer.aput(config_of(thread_id, parent, ns), found, metadata, changed)  # type: ignore[arg-type]
                known.append(found["id"])
        stranger = await savers()
        assert await writer.aget_tuple(config_of(thread_id, ns=ns)) == await stranger.aget_tuple(  # type: ignore[arg-type]
            config_of(thread_id, ns=ns)  # type: ignore[arg-type]
        )
        await stranger.aclose()


async def test_many_threads_at_once_do_not_mix(savers: Savers) -> None:
    saver = await savers()

    async def work(number: int) -> None:
        thread_id, parent = new_thread(), None
        for step in range(5):
            parent = await put(saver, thread_id, {"who": [number, step]}, parent=parent, step=step)
            await asyncio.gather(
                *(
                    saver.aput_writes(config_of(thread_id, parent), [("w", [number, step])], f"t{one}")
                    for one in range(3)
                )  # type: ignore[arg-type]
            )
        found = await latest(saver, thread_id)
        assert found.checkpoint["channel_values"] == {"who": [number, 4]}
        assert [write[2] for write in found.pending_writes or []] == [[number, 4]] * 3
        history = [one.checkpoint["channel_values"]["who"] async for one in saver.alist(config_of(thread_id))]  # type: ignore[arg-type]
        assert history == [[number, step] for step in reversed(range(5))]

    await asyncio.gather(*(work(number) for number in range(25)))


@pytest.mark.parametrize("size", [600_000, 5_000_000, VALUE_BYTES_MAX - 100])
async def test_large_values_come_back_whole(savers: Savers, size: int) -> None:
    saver, other = await savers(), await savers()
    thread_id = new_thread()
    value = random.Random(size).randbytes(size)
    first = await put(saver, thread_id, {"large": value, "small": "x"})
    await saver.aput_writes(config_of(thread_id, first), [("large", value), ("small", 1)], "task")  # type: ignore[arg-type]
    for reader in (saver, other):
        found = await latest(reader, thread_id)
        assert found.checkpoint["channel_values"] == {"large": value, "small": "x"}
        assert found.pending_writes == [("task", "large", value), ("task", "small", 1)]


async def test_many_values_that_are_too_much_together_come_back_whole(savers: Savers) -> None:
    saver, other = await savers(), await savers()
    thread_id = new_thread()
    values = {f"channel-{number}": random.Random(number).randbytes(90_000) for number in range(40)}
    await put(saver, thread_id, values)
    assert (await latest(other, thread_id)).checkpoint["channel_values"] == values


async def test_a_value_above_the_limit_is_refused_and_the_thread_is_untouched(savers: Savers) -> None:
    saver = await savers()
    thread_id = new_thread()
    first = await put(saver, thread_id, {"a": 1})
    before = await ends(savers.team.connection.log)
    with pytest.raises(TooLarge, match=r"channel_values\.large"):
        await put(saver, thread_id, {"large": bytes(VALUE_BYTES_MAX + 1)}, parent=first)
    with pytest.raises(TooLarge, match=r"writes\.large"):
        await saver.aput_writes(config_of(thread_id, first), [("large", bytes(VALUE_BYTES_MAX + 1))], "task")  # type: ignore[arg-type]
    assert await ends(savers.team.connection.log) == before
    assert (await latest(saver, thread_id)).checkpoint["id"] == first


class Unknown:
    """Nothing msgpack knows."""


async def test_what_cannot_be_serialised_is_refused_and_the_thread_is_untouched(savers: Savers) -> None:
    saver = await savers()
    thread_id = new_thread()
    first = await put(saver, thread_id, {"a": 1})
    before = await ends(savers.team.connection.log)
    with pytest.raises(InvalidInput, match=r"channel_values\.bad: it cannot be serialised"):
        await put(saver, thread_id, {"bad": Unknown()}, parent=first)
    with pytest.raises(InvalidInput, match=r"writes\.bad"):
        await saver.aput_writes(config_of(thread_id, first), [("bad", Unknown())], "task")  # type: ignore[arg-type]
    assert await ends(savers.team.connection.log) == before


def test_a_serialiser_that_runs_what_it_reads_is_refused() -> None:
    async def make() -> None:
        KafkaCheckpointSaver(None, serde=JsonPlusSerializer(pickle_fallback=True))  # type: ignore[arg-type]

    with pytest.raises(InvalidInput, match="pickle"):
        asyncio.run(make())


class Colour(BaseModel):
    """A class LangGraph does not know."""

    name: str


async def test_classes_come_back_only_where_they_are_allowed(savers: Savers) -> None:
    strict = await savers()
    allowing = await savers(serde=JsonPlusSerializer(allowed_msgpack_modules=[Colour]))
    thread_id = new_thread()
    await put(strict, thread_id, {"colour": Colour(name="red"), "when": datetime(2026, 1, 1, tzinfo=UTC)})
    found = (await latest(strict, thread_id)).checkpoint["channel_values"]
    assert found == {"colour": {"name": "red"}, "when": datetime(2026, 1, 1, tzinfo=UTC)}
    assert (await latest(allowing, thread_id)).checkpoint["channel_values"]["colour"] == Colour(name="red")
    derived = strict.with_allowlist([(Colour.__module__, "Colour")])
    again = await derived.aget_tuple(config_of(thread_id))  # type: ignore[arg-type]
    assert again is not None
    assert again.checkpoint["channel_values"]["colour"] == Colour(name="red")


BAD_CONFIGS: list[tuple[Any, str]] = [
    (None, "config"),
    ({}, "configurable"),
    ({"configurable": []}, "configurable"),
    ({"configurable": {}}, "thread_id"),
    ({"configurable": {"thread_id": 7}}, "thread_id"),
    ({"configurable": {"thread_id": "two words"}}, "thread_id"),
    ({"configurable": {"thread_id": "x" * 200}}, "thread_id"),
    ({"configurable": {"thread_id": ""}}, "thread_id"),
    ({"configurable": {"thread_id": "t", "checkpoint_ns": 1}}, "checkpoint_ns"),
    ({"configurable": {"thread_id": "t", "checkpoint_ns": "a\x00b"}}, "checkpoint_ns"),
    ({"configurable": {"thread_id": "t", "checkpoint_ns": "x" * 1_001}}, "checkpoint_ns"),
    ({"configurable": {"thread_id": "t", "checkpoint_ns": "\ud800"}}, "checkpoint_ns"),
    ({"configurable": {"thread_id": "t", "checkpoint_id": 5}}, "checkpoint_id"),
    ({"configurable": {"thread_id": "t", "checkpoint_id": "a b"}}, "checkpoint_id"),
]


@pytest.mark.parametrize(("config", "field"), BAD_CONFIGS, ids=lambda value: str(value)[:50])
async def test_a_config_that_is_wrong_is_refused_with_its_field(savers: Savers, config: Any, field: str) -> None:
    saver = await savers()
    with pytest.raises(InvalidInput, match=field):
        await saver.aget_tuple(config)
    with pytest.raises(InvalidInput, match=field):
        await saver.aput(config, checkpoint_of({}, {}), {}, {})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=field):
        await saver.aput_writes(config, [("a", 1)], "task")


async def test_other_input_that_is_wrong_is_refused_with_its_field(savers: Savers) -> None:
    saver = await savers()
    thread_id = new_thread()
    place = config_of(thread_id)
    wrong: list[tuple[str, Any]] = [
        ("checkpoint", saver.aput(place, [], {}, {})),  # type: ignore[arg-type]
        ("checkpoint.id", saver.aput(place, {"id": 3}, {}, {})),  # type: ignore[arg-type, typeddict-item]
        ("metadata", saver.aput(place, checkpoint_of({}, {}), [], {})),  # type: ignore[arg-type]
        ("new_versions", saver.aput(place, checkpoint_of({}, {}), {}, [])),  # type: ignore[arg-type]
        ("channel_versions", saver.aput(place, checkpoint_of({}, {"a": None}), {}, {})),  # type: ignore[arg-type]
        ("checkpoint_id", saver.aput_writes(place, [("a", 1)], "task")),  # type: ignore[arg-type]
        ("task_id", saver.aput_writes(config_of(thread_id, "x"), [("a", 1)], "")),  # type: ignore[arg-type]
        ("channel", saver.aput_writes(config_of(thread_id, "x"), [("a\x00", 1)], "task")),  # type: ignore[arg-type]
        ("thread_id", saver.adelete_thread(5)),  # type: ignore[arg-type]
        ("run_ids", saver.adelete_for_runs("run")),
        ("thread_ids", saver.aprune("thread")),
        ("strategy", saver.aprune([thread_id], strategy="some")),
        ("target_thread_id", saver.acopy_thread(thread_id, thread_id)),
        ("limit", anext(saver.alist(place, limit="3"))),  # type: ignore[arg-type]
        ("filter", anext(saver.alist(place, filter=[1]))),  # type: ignore[arg-type]
    ]
    for field, work in wrong:
        with pytest.raises(InvalidInput, match=field):
            await work
    assert await saver.aget_tuple(place) is None  # type: ignore[arg-type]


async def test_threads_that_are_not_there(savers: Savers) -> None:
    saver = await savers()
    nobody = new_thread()
    assert await saver.aget_tuple(config_of(nobody)) is None  # type: ignore[arg-type]
    assert await saver.aget_tuple(config_of(nobody, "1f0")) is None  # type: ignore[arg-type]
    assert [one async for one in saver.alist(config_of(nobody))] == []  # type: ignore[arg-type]
    before = await ends(savers.team.connection.log)
    await saver.adelete_thread(nobody)
    await saver.aprune([nobody])
    await saver.adelete_for_runs([nobody])
    assert await ends(savers.team.connection.log) == before
    with pytest.raises(NotFound, match=nobody):
        await saver.acopy_thread(nobody, new_thread())
    there = new_thread()
    await put(saver, there)
    with pytest.raises(NotFound, match="checkpoint"):
        await saver.acopy_until(there, new_thread(), "1f0")


async def test_a_copy_has_everything_and_goes_its_own_way(savers: Savers) -> None:
    saver, other = await savers(), await savers()
    source, target = new_thread(), new_thread()
    first = await put(saver, source, {"a": b"x" * 700_000, "b": 1}, step=0)
    second = await put(saver, source, {"a": 2}, parent=first, step=1)
    await put(saver, source, {"c": 3}, ns="child:1")
    await saver.aput_writes(config_of(source, second), [("a", 1), (ERROR, "e")], "task", "~p")  # type: ignore[arg-type]
    await saver.acopy_thread(source, target)
    await saver.acopy_thread(source, target)  # again, as after an interruption
    originals = [one async for one in other.alist(config_of(source, ns=None))]  # type: ignore[arg-type]
    copies = [one async for one in other.alist(config_of(target, ns=None))]  # type: ignore[arg-type]
    assert len(copies) == len(originals) == 3
    for original, copied in zip(originals, copies, strict=True):
        assert copied[1:3] == original[1:3]
        assert copied.pending_writes == original.pending_writes
        assert copied.config["configurable"]["thread_id"] == target
    third = await put(saver, target, {"a": 4}, parent=second, step=2)
    assert (await latest(other, target)).checkpoint["id"] == third
    assert (await latest(other, source)).checkpoint["id"] == second
    with pytest.raises(Conflict, match="which thread"):
        await saver.acopy_thread(source, target)


async def test_a_copy_up_to_a_checkpoint_leaves_out_what_came_after(savers: Savers) -> None:
    saver = await savers()
    source, target = new_thread(), new_thread()
    first = await put(saver, source, {"a": 1}, step=0)
    second = await put(saver, source, {"a": 2}, parent=first, step=1)
    third = await put(saver, source, {"a": 3}, parent=second, step=2)
    for one in (first, second, third):
        await saver.aput_writes(config_of(source, one), [("a", one)], "task")  # type: ignore[arg-type]
    await put(saver, source, {"c": 1}, ns="child:1", parents={"": first})
    await put(saver, source, {"c": 2}, ns="child:2", parents={"": second})
    branch = await put(saver, source, {"a": 9}, parent=first, step=1)
    await saver.acopy_until(source, target, second)
    copies = [one async for one in saver.alist(config_of(target))]  # type: ignore[arg-type]
    assert [one.checkpoint["id"] for one in copies] == [second, first]
    assert [one.pending_writes for one in copies] == [[], [("task", "a", first)]]
    children = [one async for one in saver.alist({"configurable": {"thread_id": target}})]
    assert {one.config["configurable"]["checkpoint_ns"] for one in children} == {"", "child:1"}
    assert branch not in {one.checkpoint["id"] for one in children}


async def test_pruning_keeps_the_values_of_what_it_keeps(savers: Savers) -> None:
    saver, other = await savers(), await savers()
    thread_id = new_thread()
    first = await put(saver, thread_id, {"kept": "from the first", "changed": 1}, step=0)
    before = (await latest(saver, thread_id)).checkpoint["channel_versions"]
    changed = saver.get_next_version(str(before["changed"]), None)
    found = checkpoint_of({"kept": "from the first", "changed": 2}, {**before, "changed": changed})
    await saver.aput(config_of(thread_id, first), found, {"source": "loop", "step": 1}, {"changed": changed})  # type: ignore[arg-type]
    await put(saver, thread_id, {"c": 1}, ns="child:1", parents={"": first})
    await put(saver, thread_id, {"c": 1}, ns="child:2", parents={"": found["id"]})
    await saver.aprune([thread_id])
    for reader in (saver, other):
        kept = await latest(reader, thread_id)
        assert kept.checkpoint["channel_values"] == {"kept": "from the first", "changed": 2}
        assert kept.parent_config is None
        every = [one async for one in reader.alist({"configurable": {"thread_id": thread_id}})]
        assert [one.config["configurable"]["checkpoint_ns"] for one in every] == ["child:2", ""]


async def test_a_listing_filters_pages_and_ends(savers: Savers) -> None:
    saver = await savers()
    thread_id, parent = new_thread(), None
    ids: list[str] = []
    for step in range(45):
        parent = await put(saver, thread_id, parent=parent, step=step, even=step % 2 == 0)
        ids.append(parent)
    every = [one.checkpoint["id"] async for one in saver.alist(config_of(thread_id))]  # type: ignore[arg-type]
    assert every == ids[::-1]
    even = [one.metadata["step"] async for one in saver.alist(config_of(thread_id), filter={"even": True}, limit=22)]  # type: ignore[arg-type]
    assert even == list(range(44, 1, -2))
    before = [
        one.metadata["step"]
        async for one in saver.alist(config_of(thread_id), before=config_of(thread_id, ids[5]), limit=3)  # type: ignore[arg-type]
    ]
    assert before == [4, 3, 2]
    assert [one async for one in saver.alist(config_of(thread_id), limit=0)] == []  # type: ignore[arg-type]
    everywhere = [one.checkpoint["id"] async for one in saver.alist(None, limit=60)]
    assert everywhere == sorted(everywhere, reverse=True)
    assert set(ids) <= set(everywhere)


async def test_the_blocking_twins_work_from_other_threads_and_refuse_the_loop_s_own(savers: Savers) -> None:
    saver = await savers()
    thread_id, copied = new_thread(), new_thread()
    place: Any = config_of(thread_id)
    outcome: list[Any] = []

    def work() -> None:
        found = checkpoint_of({"a": 1}, {"a": "1"})
        stored = saver.put(place, found, {"source": "loop", "step": 1, "run_id": "run"}, {"a": "1"})  # type: ignore[arg-type, typeddict-item]
        saver.put_writes(stored, [("a", 2)], "task")
        outcome.append(saver.get_tuple(place))
        outcome.append(list(saver.list(place, limit=5)))
        outcome.append(saver.get_delta_channel_history(config=stored, channels=["a"]))
        saver.copy_thread(thread_id, copied)
        saver.prune([copied])
        saver.delete_for_runs(["run"])
        outcome.append(saver.get_tuple(place))
        saver.delete_thread(thread_id)

    thread = threading.Thread(target=work)
    thread.start()
    await asyncio.to_thread(thread.join)
    found, listed, history, gone = outcome
    assert found.pending_writes == [("task", "a", 2)]
    assert listed == [found]
    assert history == {"a": {"writes": []}}
    assert gone is None
    with pytest.raises(asyncio.InvalidStateError, match="aget_tuple"):
        saver.get_tuple(place)
    with pytest.raises(asyncio.InvalidStateError, match="alist"):
        next(saver.list(place))


async def test_a_saver_may_be_awaited_on_another_event_loop(savers: Savers) -> None:
    saver = await savers()
    thread_id = new_thread()
    place = config_of(thread_id, await put(saver, thread_id, {"a": 1}))

    async def elsewhere() -> tuple[Any, list[Any]]:
        await saver.aput_writes(place, [("a", 2)], "task")
        return await saver.aget_tuple(place), [one async for one in saver.alist(place)]

    found, listed = await asyncio.to_thread(asyncio.run, elsewhere())
    assert found.pending_writes == [("task", "a", 2)]
    assert listed == [found]


def test_a_saver_whose_event_loop_is_over_says_so() -> None:
    async def made() -> KafkaCheckpointSaver:
        async with team() as found:
            return KafkaCheckpointSaver(found.connect())

    async def used(saver: KafkaCheckpointSaver) -> None:
        await saver.aget_tuple(config_of("t"))

    saver = asyncio.run(made())
    with pytest.raises(Conflict, match="event loop"):
        asyncio.run(used(saver))


async def test_a_log_that_does_not_answer_leaves_nothing_half_known(
    savers: Savers, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = await savers()
    thread_id = new_thread()
    first = await put(saver, thread_id, {"a": 1})
    monkeypatch.setattr("diurna_workflows.checkpointer.outbox.RESEND_SECONDS_MAX", 0.05)

    async def failing(*_: Any) -> int:
        raise Unavailable("nobody answers")

    producer = saver._threads.outbox._producer
    assert producer is not None
    monkeypatch.setattr(saver._connection.log, "producer", failing)
    await producer.close()
    monkeypatch.setattr(producer, "send_batch", failing)
    with pytest.raises(Unavailable):
        await put(saver, thread_id, {"a": 2}, parent=first)
    monkeypatch.undo()
    assert (await latest(saver, thread_id)).checkpoint["id"] == first
    second = await put(saver, thread_id, {"a": 3}, parent=first)
    assert (await latest(await savers(), thread_id)).checkpoint["id"] == second


async def test_a_put_that_nobody_waits_for_any_more_is_known_all_the_same(savers: Savers) -> None:
    saver, other = await savers(), await savers()
    thread_id = new_thread()
    first = await put(saver, thread_id, {"a": 1})
    putting = asyncio.create_task(put(saver, thread_id, {"a": 2}, parent=first))
    while saver._threads.outbox.is_idle:  # noqa: ASYNC110 - it is on its way as soon as the loop has turned
        await asyncio.sleep(0)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    async with asyncio.timeout(20):
        while (await latest(saver, thread_id)).checkpoint["channel_values"] != {"a": 2}:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert await latest(saver, thread_id) == await latest(other, thread_id)


async def test_without_a_guard_one_process_may_write(savers: Savers) -> None:
    saver = await savers(guard=SoleWriter())
    thread_id = new_thread()
    first = await put(saver, thread_id, {"a": 1})
    assert (await latest(await savers(), thread_id)).checkpoint["id"] == first
    guarded = await savers()
    second = await put(guarded, thread_id, {"a": 2}, parent=first)
    unguarded = await savers(guard=SoleWriter())
    with pytest.raises(Conflict, match="does not hold the lock"):
        await put(unguarded, thread_id, {"a": 3}, parent=second)
    assert (await latest(guarded, thread_id)).checkpoint["id"] == second
