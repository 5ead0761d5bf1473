"""LangGraph threads in a real Postgres: the rows of the fold, and every answer equal to that of the fold in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from diurna_projections.advance import understood
from diurna_projections.memory import MemoryTables
from diurna_projections.store import Store, StoredThreads
from diurna_projections.threads import FoldedThreads, Key, Wanted
from diurna_schemas.errors import TimedOut
from diurna_schemas.ids import Position
from diurna_schemas.topics import CHECKPOINTS
from support.projecting import batches
from support.thread_histories import ThreadHistory, busy_threads


@pytest.fixture
async def store(fresh_database: Callable[[], Awaitable[str]]) -> AsyncIterator[Store]:
    made = await Store.connect(await fresh_database())
    await made.migrate()
    yield made
    await made.close()


def folded(history: ThreadHistory) -> MemoryTables:
    tables = MemoryTables(history.codec)
    tables.apply(history.records)
    return tables


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_tables_equal_the_fold_whatever_the_batches(store: Store, seed: int) -> None:
    history = busy_threads(seed, 1_200)
    for batch in batches(history.records, random.Random(seed), 150):
        await store.apply(understood(history.codec, batch))
    whole = folded(history)
    assert (await store.checksums()).tables == whole.checksums()
    assert len(whole.tables.checkpoints) > 20


async def test_two_rebuilds_of_one_log_are_equal_byte_by_byte(store: Store) -> None:
    history = busy_threads(3, 800)
    await store.apply(understood(history.codec, history.records))
    first = (await store.checksums()).tables
    await store.drop()
    again = Store(store.database)
    await again.migrate()
    for batch in batches(history.records, random.Random(9), 30):
        await again.apply(understood(history.codec, batch))
    assert (await again.checksums()).tables == first


async def test_every_answer_is_that_of_the_fold_in_memory(store: Store) -> None:
    history = busy_threads(5, 900)
    await store.apply(understood(history.codec, history.records))
    whole = folded(history)
    expected = FoldedThreads(whole.tables, lambda number: whole.heads[CHECKPOINTS, number].next_offset)
    stored = StoredThreads(store.database)
    names = [f"thread-{number}" for number in range(9)] + ["nobody's"]
    keys = [saved.key for saved in expected.page(Wanted(), limit=10_000)]
    for thread_id in names:
        assert await stored.summary(thread_id) == expected.summary(thread_id)
        assert (await stored.summary(thread_id)).next > 0
        assert await stored.keys(thread_id) == expected.keys(thread_id)
        for ns in ("", "child:1", "none"):
            assert await stored.get(thread_id, ns, None) == expected.get(thread_id, ns, None)
    for key in [*keys, Key("thread-1", "", "nothing")]:
        assert await stored.get(*key) == expected.get(*key)
        assert await stored.chain(key) == expected.chain(key)
    chance = random.Random(1)
    for _ in range(60):
        some = chance.choice(keys)
        wanted = Wanted(
            thread_id=chance.choice([None, some.thread_id]),
            checkpoint_ns=chance.choice([None, some.checkpoint_ns]),
            checkpoint_id=chance.choice([None, None, some.checkpoint_id]),
            before=chance.choice([None, some.checkpoint_id]),
            after=chance.choice([None, some]),
        )
        accept = chance.choice([None, lambda row: row.checkpoint_id[-1] in "13579"])
        limit = chance.choice([1, 7, 1_000])
        assert await stored.page(wanted, limit=limit, accept=accept) == expected.page(
            wanted, limit=limit, accept=accept
        )
    runs = ["run-1", "run-2", "run-nobody"]
    assert sorted(await stored.keys_of_runs(runs)) == sorted(expected.keys_of_runs(runs))
    thread = keys[0].thread_id
    ids = [key.checkpoint_id for key in keys if key.thread_id == thread]
    assert await stored.writes(thread, "", ids) == expected.writes(thread, "", ids)
    versions = [("c1", str(number)) for number in range(100)]
    assert await stored.blobs(thread, "", versions) == expected.blobs(thread, "", versions)
    assert await stored.blobs(thread, "", []) == {}
    await stored.passed([], seconds=1)


async def test_a_listing_longer_than_one_look_is_whole(store: Store) -> None:
    history = ThreadHistory()
    for number in range(350):
        history.saved("long", f"{number:05d}", parent=f"{number - 1:05d}" if number else None)
    await store.apply(understood(history.codec, history.records))
    stored = StoredThreads(store.database)
    found = await stored.page(Wanted(thread_id="long"), limit=1_000)
    assert [saved.row.checkpoint_id for saved in found] == [f"{number:05d}" for number in reversed(range(350))]
    some = await stored.page(Wanted(), limit=2, accept=lambda row: row.checkpoint_id.endswith("00"))
    assert [saved.row.checkpoint_id for saved in some] == ["00300", "00200"]
    assert len(await stored.chain(Key("long", "", "00349"))) == 349


async def test_a_reader_waits_until_the_record_is_in_the_tables(store: Store) -> None:
    history = ThreadHistory()
    record = history.saved("t", "1")
    stored = StoredThreads(store.database)
    position = Position(record.topic, record.partition, record.offset)
    waiting = asyncio.create_task(stored.passed([position], seconds=20))
    await asyncio.sleep(0)
    assert not waiting.done()
    await store.apply(understood(history.codec, history.records))
    await waiting
    with pytest.raises(TimedOut, match="the projection to pass"):
        await stored.passed([Position(record.topic, record.partition, 99)], seconds=0.05)
