"""The tables in a real Postgres: equal to the fold of the log, whatever the batches, repetitions and faults."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from diurna_projections.advance import understood
from diurna_projections.errors import OutOfStep
from diurna_projections.memory import MemoryTables
from diurna_projections.records import Reading
from diurna_projections.rows import TABLES
from diurna_projections.store import Applied, Store
from diurna_projections.store.statements import migrations
from diurna_schemas.errors import Conflict, InvalidInput, Unavailable, Unreadable
from diurna_schemas.records import DeadLetter
from diurna_schemas.topics import partition_of
from diurna_streams.log.port import Record
from support.projecting import History, batches, busy_team


@pytest.fixture
async def store(fresh_database: Callable[[], Awaitable[str]]) -> AsyncIterator[Store]:
    made = await Store.connect(await fresh_database())
    await made.migrate()
    await made.index_search()
    yield made
    await made.close()


def places(history: History) -> set[tuple[str, int]]:
    return {(record.topic, record.partition) for record in history.records}


async def stretch(history: History, records: list[Record], size_max: int) -> AsyncIterator[list[Reading]]:
    for batch in batches(records, random.Random(1), size_max):
        yield understood(history.codec, batch)


def folded(history: History) -> MemoryTables:
    tables = MemoryTables(history.codec)
    tables.apply(history.records)
    return tables


async def is_equal(store: Store, tables: MemoryTables) -> bool:
    found = await store.checksums()
    return found.tables == tables.checksums() and await store.heads() == tables.heads


async def test_the_tables_equal_the_fold_of_the_log_whatever_the_batches(store: Store) -> None:
    history = busy_team(11, 1500)
    whole = folded(history)
    total = Applied()
    for batch in batches(history.records, random.Random(1), 400):
        total += await store.apply(understood(history.codec, batch))
    assert await is_equal(store, whole)
    assert total.aliens == whole.aliens > 0
    assert total.duplicates == whole.duplicates > 0
    assert total.dead_letters == len(whole.tables.dead_letters) > 0


async def test_applying_a_batch_again_changes_nothing(store: Store) -> None:
    history = busy_team(2, 100)
    readings = understood(history.codec, history.records)
    await store.apply(readings)
    again = await store.apply(readings)
    assert again == Applied(repeated=len(readings))
    assert await is_equal(store, folded(history))


async def test_two_writers_at_once_project_every_record_once(store: Store) -> None:
    history = busy_team(3, 600)
    other = await Store.connect(_url(store), is_durable=False)

    async def write(one: Store, seed: int) -> Applied:
        total = Applied()
        for batch in batches(history.records, random.Random(seed), 40):
            total += await one.apply(understood(history.codec, batch))
        return total

    totals = await asyncio.gather(write(store, 1), write(other, 2))
    await other.close()
    whole = folded(history)
    assert await is_equal(store, whole)
    accepted = sum(total.accepted for total in totals)
    beats = sum(record.topic == "agents.heartbeats" for record in history.records)
    assert accepted == len(whole.tables.events) + beats


async def test_a_stretch_loaded_at_once_equals_the_fold_of_the_log(store: Store) -> None:
    history = busy_team(11, 1500)
    whole = folded(history)
    half = len(history.records) // 2
    total = await store.load(places(history), stretch(history, history.records[:half], 70))
    total += await store.load(places(history), stretch(history, history.records[half:], 300))
    assert await is_equal(store, whole)
    assert total.aliens == whole.aliens > 0
    assert total.dead_letters == len(whole.tables.dead_letters) > 0
    again = await store.load(places(history), stretch(history, history.records, 300))
    assert again == Applied(repeated=len(history.records))


async def test_a_stretch_that_breaks_off_leaves_nothing_and_can_be_loaded_again(store: Store) -> None:
    history = busy_team(12, 300)

    async def breaking() -> AsyncIterator[list[Reading]]:
        async for readings in stretch(history, history.records[:400], 100):
            yield readings
        raise Unavailable("the log went away")

    with pytest.raises(Unavailable, match="the log went away"):
        await store.load(places(history), breaking())
    assert await store.database.fetch("select 1 from events") == []
    await store.load(places(history), stretch(history, history.records, 100))
    assert await is_equal(store, folded(history))


async def test_another_writer_waits_for_a_stretch_and_finds_it_done(store: Store) -> None:
    history = busy_team(13, 100)
    other = await Store.connect(_url(store))
    waiting: list[asyncio.Task[Applied]] = []

    async def contended() -> AsyncIterator[list[Reading]]:
        readings = understood(history.codec, history.records)
        yield readings[:200]
        waiting.append(asyncio.create_task(other.apply(readings)))
        yield readings[200:]

    await store.load(places(history), contended())
    assert await waiting[0] == Applied(repeated=len(history.records))
    await other.close()
    assert await is_equal(store, folded(history))


async def test_hostile_headers_and_bytes_are_copied_as_they_would_be_inserted(store: Store) -> None:
    history = History()
    chance = random.Random(5)
    alphabet = "a\\\t\n\r\x00\x7f'\"é\ud83d\ude00 .N".encode("utf-16", "surrogatepass").decode("utf-16")
    for number in range(400):
        record = history.broadcast(f"hostile-{number}", {})
        headers = tuple(
            (name, "".join(chance.choices(alphabet, k=chance.choice([0, 1, 7, 300]))).encode())
            for name, _ in record.headers
        )
        key = chance.choice([None, b"", bytes(chance.randrange(256) for _ in range(9))])
        history.records[-1] = record._replace(headers=headers if number % 2 else record.headers, key=key)
    await store.load(places(history), stretch(history, history.records, 50))
    copied = await store.checksums()
    assert await is_equal(store, folded(history))
    inserted = await Store.connect(_url(store), schema="inserted")
    await inserted.migrate()
    for batch in batches(history.records, chance, 20):
        await inserted.apply(understood(history.codec, batch))
    assert (await inserted.checksums()).tables == copied.tables
    await inserted.close()


async def test_a_writer_whose_rows_another_changed_asks_for_them_again(store: Store) -> None:
    history = busy_team(14, 400)
    other = await Store.connect(_url(store))
    writers = [store, other]
    for number, batch in enumerate(batches(history.records, random.Random(3), 25)):
        await writers[number % 2].apply(understood(history.codec, batch))
    await other.close()
    assert await is_equal(store, folded(history))


async def test_indexes_for_search_are_left_out_only_for_long_stretches_and_come_back(store: Store) -> None:
    async def indexes() -> set[str]:
        found = await store.database.fetch(
            "select indexname from pg_indexes where schemaname = current_schema() and tablename = 'events'"
        )
        return {row["indexname"] for row in found}

    whole = await indexes()
    assert {"events_by_place", "events_by_correlation"} <= whole
    await store.leave_search(1_000)
    assert await indexes() == whole
    await store.leave_search(1_000_000)
    assert await indexes() == set()
    await asyncio.gather(store.index_search(), store.index_search())
    assert await indexes() == whole


async def test_a_gap_is_refused_and_the_whole_batch_with_it(store: Store) -> None:
    history = busy_team(4, 50)
    place = history.records[0].topic, history.records[0].partition
    missing = next(record for record in history.records if (record.topic, record.partition) == place and record.offset)
    shown = [record for record in history.records if record is not missing]
    with pytest.raises(OutOfStep):
        await store.apply(understood(history.codec, shown))
    assert all(head.next_offset == 0 for head in (await store.heads()).values())
    assert await store.database.fetch("select 1 from events") == []


async def test_dead_letters_are_written_down_before_the_position_moves(store: Store) -> None:
    history = History()
    poisoned = history.poison("agents.events", 2)
    buried: list[DeadLetter] = []

    async def failing(letter: DeadLetter) -> None:
        raise Unavailable("the log does not answer")

    async def bury(letter: DeadLetter) -> None:
        buried.append(letter)

    readings = understood(history.codec, [poisoned])
    with pytest.raises(Unavailable):
        await Store(store.database, dead_letters=failing).apply(readings)
    assert (await store.heads())["agents.events", 2].next_offset == 0
    await Store(store.database, dead_letters=bury).apply(readings)
    assert [letter.source for letter in buried] == ["agents.events:2:0"]
    (row,) = await store.database.fetch("select id, error from dead_letters")
    assert row["id"] == "agents.events:2:0"


async def test_what_postgres_refuses_is_a_dead_letter_and_stops_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids are bounded, so a row too large for an index is made here by letting one through."""
    monkeypatch.setattr("diurna_projections.logged.indexed", lambda text: text)
    history = History()
    chance = random.Random(1)
    history.broadcast("before", {})
    big = "".join(chance.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(20_000))
    refused = history.broadcast("refused", {})
    headers = tuple((name, big.encode()) if name == "ce_subject" else (name, value) for name, value in refused.headers)
    history.records[-1] = type(refused)(
        refused.topic, refused.partition, refused.offset, refused.timestamp_ms, refused.key, refused.value, headers
    )
    history.broadcast("after", {})
    total = await store.apply(understood(history.codec, history.records))
    assert (total.accepted, total.dead_letters) == (2, 1)
    (row,) = await store.database.fetch("select error from dead_letters")
    assert "ProgramLimitExceeded" in row["error"]


async def test_nul_characters_and_broken_json_are_kept_readable(store: Store) -> None:
    history = History()
    request = history.request("request-1", "reviewer").model_copy(update={"payload": "broken \x00 json"})
    history.submitted(request)
    history.broadcast("odd", {"text": "\x00"})
    await store.apply(understood(history.codec, history.records))
    assert await is_equal(store, folded(history))
    (row,) = await store.database.fetch("select payload from requests")
    assert row["payload"] == '"broken \ufffd json"'


async def test_migrating_twice_or_at_once_changes_nothing(store: Store) -> None:
    others = [await Store.connect(_url(store)) for _ in range(3)]
    assert [await one.migrate() for one in others] == [[], [], []]
    await store.drop()
    applied = await asyncio.gather(*(one.migrate() for one in others))
    assert sorted(len(names) for names in applied) == [0, 0, len(migrations())]
    for one in others:
        await one.close()


async def test_two_schemas_of_one_database_know_nothing_of_each_other(store: Store) -> None:
    green = await Store.connect(_url(store), schema="green")
    await green.migrate()
    history = busy_team(5, 60)
    await green.apply(understood(history.codec, history.records))
    assert await store.heads() == {}
    assert await is_equal(green, folded(history))
    await green.close()


async def test_a_changed_migration_is_refused_with_the_way_on(store: Store) -> None:
    async with store.database.connection() as connection:
        await connection.execute("update migrations set digest = 'other'")
    with pytest.raises(Conflict, match="drop the schema"):
        await store.migrate()


async def test_the_columns_of_every_table_are_the_fields_of_its_row(store: Store) -> None:
    for table in TABLES:
        found = await store.database.fetch(
            "select column_name from information_schema.columns"
            " where table_schema = $1 and table_name = $2 order by ordinal_position",
            store.database.schema,
            table.name,
        )
        assert tuple(row["column_name"] for row in found) == table.columns


async def test_emptied_positions_let_the_tables_be_filled_from_the_beginning(store: Store) -> None:
    history = busy_team(6, 80)
    await store.apply(understood(history.codec, history.records))
    async with store.database.connection() as connection:
        names = ", ".join([*(table.name for table in TABLES), "positions"])
        await connection.execute(f"truncate {names}")
    # the heartbeats' topic may have gaps, so that going on would hide one
    for topic in ("agents.heartbeats", "agents.events"):
        known = next(record for record in history.records if record.topic == topic)
        record = history.append(topic, known.partition, known.key, known.value, known.headers)
        with pytest.raises(OutOfStep):
            await store.apply(understood(history.codec, [record]))
    await Store(store.database).apply(understood(history.codec, history.records))  # a writer that begins anew
    assert await is_equal(store, folded(history))


async def test_a_database_that_is_away_or_a_wrong_schema_name_says_so() -> None:
    with pytest.raises(Unavailable, match="Postgres could not connect"):
        await Store.connect("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(InvalidInput, match="schema"):
        await Store.connect("postgresql://nobody@127.0.0.1:1/nothing", schema='x"; drop')


async def test_a_connection_that_dies_in_the_middle_leaves_all_or_nothing(store: Store) -> None:
    history = busy_team(7, 300)
    killer = await asyncpg.connect(_url(store))
    chance = random.Random(7)

    async def kill() -> None:
        for _ in range(8):  # bounded, or a slow machine would never get a batch through
            await killer.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
            await asyncio.sleep(chance.random() * 0.2)

    killing = asyncio.create_task(kill())
    failures = 0
    for batch in batches(history.records, chance, 10):
        while True:
            try:
                await store.apply(understood(history.codec, batch))
                break
            except Unavailable:
                failures += 1
    killing.cancel()
    await asyncio.gather(killing, return_exceptions=True)
    await killer.close()
    assert failures > 0
    assert await is_equal(store, folded(history))


async def test_a_reading_of_the_wrong_kind_for_its_topic_is_a_dead_letter(store: Store) -> None:
    history = History()
    beat = history.heartbeat("reviewer", "one")
    misplaced = history.append("broadcasts", partition_of("x"), b"x", beat.value, ())
    readings = [Reading(misplaced, understood(history.codec, [beat])[0].content)]
    assert not isinstance(readings[0].content, Unreadable)
    applied = await store.apply(readings)
    assert applied.dead_letters == 1


def _url(store: Store) -> str:
    parameters = store.database._pool._connect_args
    return str(parameters[0])
