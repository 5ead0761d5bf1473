"""The fold of LangGraph threads: values once a version, writes once a task, late writers passed over, damage noted."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diurna_projections.folds.packing import PackedWrite, pack, unpack
from diurna_projections.memory import MemoryTables
from diurna_projections.threads import FoldedThreads, Key, Keys, Saved, Wanted
from support.projecting import batches
from support.thread_histories import ThreadHistory, busy_threads, chunked, inline


def folded(history: ThreadHistory) -> MemoryTables:
    tables = MemoryTables(history.codec)
    tables.apply(history.records)
    return tables


def reads(history: ThreadHistory) -> FoldedThreads:
    return FoldedThreads(folded(history).tables)


def values(history: ThreadHistory, thread_id: str = "t", checkpoint_id: str | None = None) -> dict[str, bytes]:
    found = reads(history).get(thread_id, "", checkpoint_id).saved
    assert found is not None
    return {blob.channel: blob.value for blob in found.blobs}


def written(found: Saved) -> dict[int, bytes]:
    return {one.number: one.value for row in found.writes for one in unpack(row.writes)}


def test_a_checkpoint_has_the_values_of_its_versions_whichever_checkpoint_brought_them() -> None:
    history = ThreadHistory()
    history.saved("t", "1", channels={"a": "1", "b": "1"}, blobs={"a": b"a1", "b": b"b1"})
    history.saved("t", "2", parent="1", channels={"a": "2", "b": "1"}, blobs={"a": b"a2"})
    assert values(history) == {"a": b"a2", "b": b"b1"}
    assert values(history, checkpoint_id="1") == {"a": b"a1", "b": b"b1"}


def test_the_same_records_twice_are_one() -> None:
    history = ThreadHistory()
    history.saved("t", "1", channels={"a": "1"}, blobs={"a": b"a1"})
    history.wrote("t", "1", "task", b"x")
    once = folded(history).tables
    history.saved("t", "1", channels={"a": "1"}, blobs={"a": b"a1"})
    history.wrote("t", "1", "task", b"x")
    twice = folded(history).tables
    assert [row[:6] for row in twice.checkpoint_writes] == [row[:6] for row in once.checkpoint_writes]
    assert [row[:8] for row in twice.checkpoints] == [row[:8] for row in once.checkpoints]
    assert len(twice.checkpoint_blobs) == 1


def test_what_a_task_wrote_first_stays_but_special_channels_are_written_over() -> None:
    history = ThreadHistory()
    history.saved("t", "1")
    history.wrote("t", "1", "task", b"first")
    history.wrote("t", "1", "task", b"second")
    history.wrote("t", "1", "task", b"error", first=-1)
    history.wrote("t", "1", "task", b"another error", first=-1)
    found = reads(history).get("t", "", "1").saved
    assert found is not None
    assert written(found) == {0: b"first", -1: b"another error"}


def test_writes_come_in_the_order_in_which_a_run_applies_them() -> None:
    history = ThreadHistory()
    history.saved("t", "1")
    history.wrote("t", "1", "a-task", b"last", path="~b")
    history.wrote("t", "1", "z-task", b"first", b"second", path="~a")
    found = reads(history).get("t", "", "1").saved
    assert found is not None
    assert [one.value for row in found.writes for one in unpack(row.writes)] == [b"first", b"second", b"last"]


def test_writes_may_stand_before_their_checkpoint() -> None:
    history = ThreadHistory()
    history.wrote("t", "1", "task", b"x")
    history.saved("t", "1")
    found = reads(history).get("t", "", "1").saved
    assert found is not None
    assert written(found) == {0: b"x"}


def test_a_large_value_is_put_together_from_its_chunks_and_they_are_gone() -> None:
    history = ThreadHistory()
    data = random.Random(1).randbytes(950)
    value = history.value("t", 0, data)
    history.saved("t", "1", channels={"a": "1"}, blobs={"a": value})
    tables = folded(history).tables
    assert [row.value for row in tables.checkpoint_blobs] == [data]
    assert len(tables.checkpoint_chunks) == 0


@pytest.mark.parametrize("fault", ["missing chunk", "wrong bytes", "wrong size", "no bytes at all", "too many chunks"])
def test_a_value_that_is_not_what_its_record_says_is_a_dead_letter_and_damages_its_thread_alone(fault: str) -> None:
    history = ThreadHistory()
    history.saved("t", "1", channels={"a": "1"}, blobs={"a": b"good"})
    history.saved("other", "1", channels={"a": "1"}, blobs={"a": b"good"})
    data = b"x" * 250
    value = history.value("t", 0, data)
    match fault:
        case "missing chunk":
            value = value.model_copy(update={"chunks": 4})
        case "wrong bytes":
            value = value.model_copy(update={"sha256": "f" * 64})
            _, parts = chunked(data)
            for index, part in enumerate(parts):
                from diurna_schemas.checkpoints import ValueChunk

                history.add(ValueChunk(thread_id="t", token=0, sha256="f" * 64, index=index, count=3, data=part))
        case "wrong size":
            value = inline(b"abc").model_copy(update={"size": 4})
        case "no bytes at all":
            value = inline(b"").model_copy(update={"data": None})
        case _:
            value = value.model_copy(update={"chunks": 1_000})
    damaged = history.saved("t", "2", parent="1", channels={"a": "2"}, blobs={"a": value})
    tables = folded(history).tables
    (letter,) = tables.dead_letters
    assert letter.source_offset == damaged.offset
    (damage,) = tables.checkpoint_damages
    assert damage == ("t", letter.error, damaged.partition, damaged.offset)
    assert [row.checkpoint_id for row in tables.checkpoints.group("t")] == ["1"]
    assert [row.value for row in tables.checkpoint_blobs] == [b"good", b"good"]


def test_bytes_nobody_understands_damage_the_thread_their_key_names() -> None:
    history = ThreadHistory()
    history.saved("t", "1")
    record = history.poison("t")
    (damage,) = folded(history).tables.checkpoint_damages
    assert (damage.thread_id, damage.record_offset) == ("t", record.offset)
    assert "Confluent" in damage.damage


def test_a_key_that_is_no_text_or_belongs_elsewhere_damages_no_thread() -> None:
    history = ThreadHistory()
    history.history.append("checkpoints.events", 0, b"\xff\xfe", b"broken", ())
    history.history.append("checkpoints.events", 0, None, b"broken", ())
    record = history.saved("t", "1")
    history.records[-1] = record._replace(partition=(record.partition + 1) % 6)
    tables = folded(history).tables
    assert (len(tables.checkpoint_threads), len(tables.checkpoint_damages)) == (0, 0)
    assert len(tables.dead_letters) == 3


def test_a_late_writer_changes_nothing_and_is_counted() -> None:
    history = ThreadHistory()
    history.saved("t", "1", token=7, channels={"a": "1"}, blobs={"a": b"good"})
    history.saved("t", "9", token=3, channels={"a": "1"}, blobs={"a": b"late"})
    history.wrote("t", "1", "task", b"late", token=6)
    history.deleted("t", token=6)
    tables = folded(history).tables
    thread = tables.checkpoint_threads.get("t")
    assert thread is not None
    assert (thread.token, thread.refused) == (7, 3)
    assert values(history) == {"a": b"good"}
    assert len(tables.checkpoint_writes) == 0


def test_a_deleted_thread_keeps_its_token_so_that_nobody_late_brings_it_back() -> None:
    history = ThreadHistory()
    history.saved("t", "1", token=7)
    history.value("t", 7, b"x" * 250)  # of a writer who died before its record
    history.poison("t")
    history.dropped("t", ("", "1"), token=8)
    history.deleted("t", token=8)
    history.saved("t", "2", token=7)
    tables = folded(history).tables
    assert (len(tables.checkpoints), len(tables.checkpoint_chunks), len(tables.checkpoint_damages)) == (0, 0, 0)
    thread = tables.checkpoint_threads.get("t")
    assert thread is not None
    assert thread.token == 8


def test_what_is_dropped_is_what_was_named() -> None:
    history = ThreadHistory()
    history.saved("t", "1", channels={"a": "1", "b": "1"}, blobs={"a": b"a1", "b": b"b1"})
    history.wrote("t", "1", "task", b"x")
    history.saved("t", "2", parent="1", channels={"a": "2", "b": "1"}, blobs={"a": b"a2"})
    history.wrote("t", "2", "task", b"y")
    history.saved("t", "1", ns="child", channels={"a": "1"}, blobs={"a": b"child"})
    assert reads(history).keys("t") == Keys(
        [("", "1", {"a": "1", "b": "1"}), ("child", "1", {"a": "1"}), ("", "2", {"a": "2", "b": "1"})],
        [("", "a", "1"), ("", "a", "2"), ("", "b", "1"), ("child", "a", "1")],
        [("", "1", "task"), ("", "2", "task")],
    )
    history.dropped("t", ("", "1"), writes=[("", "1", "task")], blobs=[("", "a", "1")])
    tables = folded(history).tables
    assert values(history) == {"a": b"a2", "b": b"b1"}
    assert [one.value for row in tables.checkpoint_writes for one in unpack(row.writes)] == [b"y"]
    assert sorted(row.value for row in tables.checkpoint_blobs) == [b"a2", b"b1", b"child"]
    kept = reads(history).get("t", "", "2").saved
    assert kept is not None
    assert not kept.has_parent


@pytest.mark.parametrize("seed", range(6))
def test_batches_of_any_size_and_repetitions_give_the_same_rows(seed: int) -> None:
    history = busy_threads(seed, 600)
    whole = folded(history)
    parts = MemoryTables(history.codec)
    before: list[object] = []
    for batch in batches(history.records, random.Random(seed), 60):
        parts.apply([*before, *batch])  # type: ignore[list-item]
        before = list(batch)
    assert parts.checksums() == whole.checksums()
    threads = list(whole.tables.checkpoint_threads)
    assert any(thread.refused for thread in threads)
    assert len(whole.tables.checkpoint_damages) > 0
    assert len(whole.tables.checkpoints) > 20


def test_a_page_is_newest_first_and_goes_on_where_the_last_ended() -> None:
    history = ThreadHistory()
    for number in range(7):
        history.saved(f"t{number % 2}", f"{number}", run_id=f"run-{number % 3}")
    found = reads(history)
    first = found.page(Wanted(), limit=3)
    assert [saved.row.checkpoint_id for saved in first] == ["6", "5", "4"]
    rest = found.page(Wanted(after=first[-1].key), limit=10)
    assert [saved.row.checkpoint_id for saved in rest] == ["3", "2", "1", "0"]
    odd = found.page(Wanted(thread_id="t1", before="5"), limit=10)
    assert [saved.row.checkpoint_id for saved in odd] == ["3", "1"]
    assert found.keys_of_runs(["run-1"]) == [Key("t0", "", "4"), Key("t1", "", "1")]


def test_ancestors_are_found_nearest_first_and_a_circle_ends() -> None:
    history = ThreadHistory()
    history.saved("t", "1", channels={"a": "1"})
    history.saved("t", "2", parent="1", channels={"a": "2"})
    history.saved("t", "3", parent="2", channels={"a": "3"})
    chain = reads(history).chain(Key("t", "", "3"))
    assert [(one.checkpoint_id, one.channels) for one in chain] == [("2", {"a": "2"}), ("1", {"a": "1"})]
    history.saved("t", "1", parent="3", channels={"a": "1"})
    assert len(reads(history).chain(Key("t", "", "3"))) <= 100_000


@given(
    writes=st.dictionaries(
        st.integers(-1_000, 2**31), st.tuples(st.text(max_size=5), st.text(max_size=5), st.binary(max_size=9))
    )
)
def test_packed_writes_come_back_in_order(writes: dict[int, tuple[str, str, bytes]]) -> None:
    given_writes = [PackedWrite(number, *rest) for number, rest in writes.items()]
    assert unpack(pack(given_writes)) == sorted(given_writes)
