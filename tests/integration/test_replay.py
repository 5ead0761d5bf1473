"""Replays on real Kafka and Postgres: made anew, compared, exchanged under load, taken back, filled from nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from diurna_projections.memory import MemoryTables
from diurna_projections.records import WITH_GAPS
from diurna_projections.store import Store
from diurna_projections.store.generations import generations, take_back
from diurna_schemas.codec import Codec
from diurna_schemas.errors import Conflict, NotFound
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.port import Record
from diurna_streams.project.bulk import project_to
from diurna_streams.project.options import ProjectorOptions
from diurna_streams.project.places import Places, partitions_of, places_of
from diurna_streams.project.projector import run_projector
from diurna_streams.project.understand import Understanding
from diurna_streams.project.writer import Writer
from diurna_streams.replay.progress import Progress
from diurna_streams.replay.rebuild import Replay, opened
from diurna_streams.replay.recover import recover
from support.own_kafka import everything, own_kafka
from support.projecting import busy_team
from support.replaying import append, caught_up

FreshDatabase = Callable[[], Awaitable[str]]
HISTORY = busy_team(31, 3_000)
CODEC = HISTORY.codec

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
async def broker() -> AsyncIterator[str]:
    """A broker with half of the history."""
    async with own_kafka() as bootstrap_servers:
        async with KafkaLog(bootstrap_servers) as log:
            await append(log, HISTORY.records[: len(HISTORY.records) // 2])
        yield bootstrap_servers


@pytest.fixture
async def log(broker: str) -> AsyncIterator[KafkaLog]:
    async with KafkaLog(broker) as made:
        yield made


@pytest.fixture
async def database_url(fresh_database: FreshDatabase) -> str:
    return await fresh_database()


@pytest.fixture
async def live(database_url: str, log: KafkaLog) -> AsyncIterator[Store]:
    """The live tables, caught up."""
    async with caught_up(database_url, log, CODEC) as store:
        yield store


@pytest.fixture
async def replay(log: KafkaLog, database_url: str, live: Store) -> AsyncIterator[Replay]:
    async with opened(log, database_url, CODEC, None) as made:
        yield made


async def fold_of(log: KafkaLog) -> dict[str, str]:
    tables = MemoryTables(CODEC)
    tables.apply(await everything(log, await partitions_of(log)))
    return tables.checksums()


@asynccontextmanager
async def projecting(broker: str, database_url: str) -> AsyncGenerator[list[tuple[int, str]]]:
    """A live projector; yields what it doubted."""
    doubts: list[tuple[int, str]] = []
    stop, ready = asyncio.Event(), asyncio.Event()
    options = ProjectorOptions(bootstrap_servers=broker, database_url=database_url, watch_interval_ms=100)
    work = asyncio.create_task(
        run_projector(
            options,
            codec=Codec.numbered(),
            stop=stop,
            ready=ready,
            on_doubt=lambda code, reason: doubts.append((code, reason)),
        )
    )
    async with asyncio.timeout(60):
        await ready.wait()
    try:
        yield doubts
    finally:
        stop.set()
        await work


async def test_a_rebuild_equals_the_live_tables_and_tells_how_far_it_is(replay: Replay, log: KafkaLog) -> None:
    shown: list[tuple[int, int]] = []
    made = await replay.rebuild(Progress(lambda progress: shown.append((progress.done, progress.total))))
    assert made.tables == await fold_of(log)
    assert shown[-1][0] == shown[-1][1] > 1_000
    assert shown == sorted(shown)
    found = await replay.verify(Progress())
    assert found.different == []
    assert found.positions


async def test_a_changed_row_is_found_and_nothing_is_promoted(replay: Replay, live: Store) -> None:
    await replay.rebuild(Progress())
    await live.database.fetch(
        "update requests set attempts = attempts + 1 where request_id = (select min(request_id) from requests)"
    )
    assert (await replay.verify(Progress())).different == ["requests"]
    with pytest.raises(Conflict, match="requests differ"):
        await replay.promote(Progress())
    assert await generations(live) == ["diurna", "diurna_next"]


async def test_damaged_tables_are_replaced_where_that_is_said_and_can_be_had_back(
    replay: Replay, live: Store, log: KafkaLog
) -> None:
    await live.database.fetch("delete from events where record_offset = 3")
    await live.database.fetch("update workflows set state = '{}'")
    damaged = (await live.checksums()).tables
    await replay.rebuild(Progress())
    found = await replay.promote(Progress(), even_different=True)
    assert found.different == ["workflows", "events"]
    assert (await live.checksums()).tables == await fold_of(log)
    for _ in range(2):  # what is refused changes nothing: it can be asked for again
        with pytest.raises(Conflict, match="workflows, events differ"):
            await replay.roll_back(Progress())
        assert await generations(live) == ["diurna", "diurna_before"]
    await replay.roll_back(Progress(), even_different=True)
    assert (await live.checksums()).tables == damaged


async def test_a_rebuild_that_begins_anew_throws_away_what_an_earlier_one_left(replay: Replay, live: Store) -> None:
    await replay.rebuild(Progress())
    left = await Store.connect(live.database.url, schema=replay.schema)
    await left.database.fetch("update workflows set state = '{}'")
    await left.close()
    await replay.rebuild(Progress())
    assert (await replay.verify(Progress())).different == ["workflows"]
    await replay.rebuild(Progress(), is_anew=True)
    assert (await replay.verify(Progress())).different == []


async def test_a_rollback_that_was_killed_half_way_is_ended_by_a_promotion(replay: Replay, live: Store) -> None:
    await replay.rebuild(Progress())
    await replay.promote(Progress())
    await take_back(live)
    with pytest.raises(Conflict, match="promote or drop it first"):
        await replay.roll_back(Progress())
    await replay.promote(Progress())
    assert await generations(live) == ["diurna", "diurna_before"]


async def test_generations_are_exchanged_under_load_and_readers_see_no_gap(
    broker: str, log: KafkaLog, database_url: str, live: Store, replay: Replay
) -> None:
    counts: list[int] = []
    reading = asyncio.Event()

    async def read() -> None:
        while True:
            (row,) = await live.database.fetch("select count(*) as events from events")
            counts.append(row["events"])
            reading.set()

    rest = HISTORY.records[len(HISTORY.records) // 2 :]
    async with projecting(broker, database_url) as doubts, asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(read())
        await replay.rebuild(Progress())
        writing = tasks.create_task(_little_by_little(log, rest))
        await replay.promote(Progress())
        await replay.rebuild(Progress())  # another generation: the one before is replaced
        await replay.promote(Progress())
        await writing
        partitions = await partitions_of(log)
        async with asyncio.timeout(60):
            while (await places_of(log, live, partitions)).lag:  # noqa: ASYNC110 - the projector moves it
                await asyncio.sleep(0.05)
        await reading.wait()
        reader.cancel()
    assert doubts == []
    assert counts == sorted(counts)
    assert (await live.checksums()).tables == await fold_of(log)
    assert await generations(live) == ["diurna", "diurna_before"]


async def _little_by_little(log: KafkaLog, records: list[Record]) -> None:
    for start in range(0, len(records), 50):
        await append(log, records[start : start + 50])


async def test_the_generation_before_can_be_taken_back(replay: Replay, live: Store, log: KafkaLog) -> None:
    with pytest.raises(NotFound, match="diurna_before"):
        await replay.roll_back(Progress())
    await live.database.fetch("comment on table events is 'the first'")
    await replay.rebuild(Progress())
    await replay.promote(Progress())
    assert await _comment(live) is None
    await replay.roll_back(Progress())
    assert await _comment(live) == "the first"
    assert (await live.checksums()).tables == await fold_of(log)


async def _comment(store: Store) -> str | None:
    (row,) = await store.database.fetch("select obj_description('events'::regclass) as comment")
    return None if row["comment"] is None else str(row["comment"])


async def test_a_rebuild_that_broke_off_goes_on_where_it_was(replay: Replay, log: KafkaLog, database_url: str) -> None:
    half = await Store.connect(database_url, schema=replay.schema)
    await half.migrate()
    ends = {place: end // 2 for place, end in (await log.ends(await partitions_of(log))).items()}
    before = await project_to(ends, log, Writer(half, Understanding(CODEC, None)))
    await half.close()
    progress = Progress()
    await replay.rebuild(progress)
    assert 0 < progress.done < before + progress.done
    assert (await replay.verify(Progress())).different == []


async def test_a_rebuild_ends_although_the_log_goes_on(
    replay: Replay, log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at the log finds one more record at its end: no rebuild that chased it would ever be done."""
    looks = 0

    async def growing(*arguments: Any) -> Places:
        nonlocal looks
        looks += 1
        found = await places_of(*arguments)
        last = found.ends.keys() - {place for place in found.ends if place.topic in WITH_GAPS}
        ends = {place: end + looks * (place == min(last)) for place, end in found.ends.items()}
        return Places(found.next, ends)

    monkeypatch.setattr("diurna_streams.project.bulk.places_of", growing)
    progress = Progress()
    async with asyncio.timeout(60):
        await replay.rebuild(progress)
    assert progress.done == progress.total


async def test_of_two_promotions_at_once_one_is_told_that_it_came_late(
    replay: Replay, log: KafkaLog, database_url: str
) -> None:
    await replay.rebuild(Progress())
    async with opened(log, database_url, CODEC, None) as other:
        ends = await asyncio.gather(*(one.promote(Progress()) for one in (replay, other)), return_exceptions=True)
    late = [end for end in ends if isinstance(end, BaseException)]
    assert [type(end) for end in late] == [Conflict], ends
    assert replay.schema in str(late[0])


async def test_tables_of_another_version_are_thrown_away_and_made_anew(replay: Replay, database_url: str) -> None:
    half = await Store.connect(database_url, schema=replay.schema)
    await half.migrate()
    await half.database.fetch("update migrations set digest = 'of another version'")
    await half.close()
    await replay.rebuild(Progress())
    assert (await replay.verify(Progress())).different == []


async def test_a_dropped_schema_and_a_dropped_database_come_back_as_they_were(
    log: KafkaLog, database_url: str, live: Store
) -> None:
    before = await live.checksums()
    await live.drop()
    assert await recover(log, database_url, CODEC, None) == before
    await live.close()
    name = urlsplit(database_url).path.lstrip("/")
    elsewhere = await asyncpg.connect(database_url.replace(f"/{name}", "/postgres"))
    await elsewhere.execute(f'drop database "{name}" with (force)')
    await elsewhere.close()
    assert await recover(log, database_url, CODEC, None) == before
