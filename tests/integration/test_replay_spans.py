"""Replays of a part of the log on real Kafka and Postgres: tables as they were, and a part of them proven."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest

from diurna_projections.memory import MemoryTables, Place
from diurna_projections.store import Store
from diurna_projections.store.generations import generations
from diurna_projections.store.logged import LoggedEvents
from diurna_schemas.errors import Conflict, InvalidInput
from diurna_schemas.topics import HEARTBEATS
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.port import Reader, Record
from diurna_streams.project.bulk import project_to
from diurna_streams.project.places import partitions_of
from diurna_streams.project.understand import Understanding
from diurna_streams.project.writer import Writer
from diurna_streams.replay.compare import SpanComparison, compare
from diurna_streams.replay.progress import Progress
from diurna_streams.replay.recover import recover
from diurna_streams.replay.span import projected_offsets
from support.own_kafka import everything, own_kafka
from support.projecting import busy_team
from support.replaying import append, caught_up

FreshDatabase = Callable[[], Awaitable[str]]
HISTORY = busy_team(83, 1_500)
CODEC = HISTORY.codec
OWN = "as_it_was"

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
async def broker() -> AsyncIterator[str]:
    async with own_kafka() as bootstrap_servers:
        async with KafkaLog(bootstrap_servers) as log:
            await append(log, HISTORY.records)
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
async def middle(log: KafkaLog) -> dict[Place, int]:
    """Where the log stood when half of it was written: an event of agents was the next one."""
    half = [record for record in HISTORY.records if record.topic == "agents.events"]
    return await projected_offsets(log, str(half[len(half) // 2].position), field="--to")


async def fold_to(log: KafkaLog, until: Mapping[Place, int]) -> dict[str, str]:
    found = await everything(log, await partitions_of(log))
    tables = MemoryTables(CODEC)
    tables.apply([record for record in found if record.offset < until[record.topic, record.partition]])
    return tables.checksums()


# --- recover ------------------------------------------------------------------------------------------------


async def test_the_tables_of_a_moment_stand_in_a_schema_of_their_own_and_the_live_ones_are_left_alone(
    log: KafkaLog, database_url: str, live: Store, middle: dict[Place, int]
) -> None:
    before = await live.checksums()
    progress = Progress()
    then = await recover(log, database_url, CODEC, None, schema=OWN, until=middle, progress=progress)
    assert then.tables == await fold_to(log, middle)
    assert then.next == {place: offset for place, offset in middle.items() if offset}
    assert progress.done == progress.total == sum(middle.values())
    assert then.tables["events"] != before.tables["events"]
    assert await live.checksums() == before
    assert await generations(live) == ["diurna"]
    indexes = await live.database.fetch("select indexname from pg_indexes where schemaname = $1", OWN)
    assert len(indexes) == len(await live.database.fetch("select from pg_indexes where schemaname = 'diurna'"))

    with pytest.raises(Conflict, match="nothing is taken out of tables"):
        await recover(log, database_url, CODEC, None, schema=OWN, until=dict.fromkeys(middle, 1))
    ends = await projected_offsets(log, "2990-01-01", field="--to")
    later = await recover(log, database_url, CODEC, None, schema=OWN, until=ends)
    assert later.tables == before.tables, "it goes on from where it stands"


async def test_tables_that_stand_further_are_not_taken_back(
    log: KafkaLog, database_url: str, live: Store, middle: dict[Place, int]
) -> None:
    before = await live.checksums()
    with pytest.raises(Conflict, match="nothing is taken out of tables, name another schema"):
        await recover(log, database_url, CODEC, None, until=middle)
    assert await live.checksums() == before


async def test_live_tables_that_are_gone_are_filled_to_a_moment(
    log: KafkaLog, database_url: str, live: Store, middle: dict[Place, int]
) -> None:
    await live.drop()
    assert (await recover(log, database_url, CODEC, None, until=middle)).tables == await fold_to(log, middle)


async def test_a_schema_of_somebody_else_or_of_another_generation_is_not_touched(
    log: KafkaLog, database_url: str, live: Store, middle: dict[Place, int]
) -> None:
    await live.database.fetch("create schema theirs")
    await live.database.fetch("create table theirs.positions (topic text)")
    for schema in ("theirs", "public", "information_schema"):
        with pytest.raises(Conflict, match=f"schema {schema} is there, and no replay has made it"):
            await recover(log, database_url, CODEC, None, schema=schema, until=middle)
    for schema in ("diurna_next", "diurna_before", "pg_mine", "Mine", "mine; drop schema diurna"):
        with pytest.raises(InvalidInput, match="schema: ") as refused:
            await recover(log, database_url, CODEC, None, schema=schema, until=middle)
        assert refused.value.value == schema
    found = await live.database.fetch("select table_schema from information_schema.tables where table_name = 'events'")
    assert [row["table_schema"] for row in found] == ["diurna"]
    assert await live.database.fetch("select column_name from information_schema.columns where table_schema = 'theirs'")


async def test_tables_go_on_from_a_moment_only_where_they_have_reached_it(
    log: KafkaLog, database_url: str, live: Store, middle: dict[Place, int]
) -> None:
    """As those restored from a backup do: it must not be older than it is believed to be."""
    whole = (await live.checksums()).tables
    await live.drop()
    with pytest.raises(Conflict, match="what is between would be missing"):
        await recover(log, database_url, CODEC, None, since=middle)
    assert await generations(live) == [], "nothing was made"
    restored = (await recover(log, database_url, CODEC, None, until=middle)).tables
    ends = await projected_offsets(log, "2990-01-01", field="--from")
    with pytest.raises(Conflict, match="what is between would be missing"):
        await recover(log, database_url, CODEC, None, since=ends)
    assert (await live.checksums()).tables == restored
    progress = Progress()
    assert (await recover(log, database_url, CODEC, None, since=middle, progress=progress)).tables == whole
    assert progress.done == sum(ends.values()) - sum(middle.values())


class CompactedLog(KafkaLog):
    """A log that has lost the last heartbeats before an offset, as compaction loses them."""

    lost: range = range(0)

    async def reader(self, *, patience_ms: int = 0) -> Reader:
        made = await super().reader(patience_ms=patience_ms)
        read = made.read

        async def kept(*, records_max: int, wait_ms: int = 0) -> list[Record]:
            found = await read(records_max=records_max, wait_ms=wait_ms)
            return [one for one in found if one.topic != HEARTBEATS or one.offset not in self.lost]

        made.read = kept  # type: ignore[method-assign]
        return made


async def test_an_end_before_which_the_records_were_compacted_away_is_reached_all_the_same(
    broker: str, database_url: str
) -> None:
    tables = await Store.connect(database_url)
    await tables.migrate()
    async with CompactedLog(broker) as log:
        beats = [place for place in await partitions_of(log) if place.topic == HEARTBEATS]
        ends = await log.ends(beats)
        place = max(beats, key=lambda one: ends[one])
        end = ends[place] // 2
        log.lost = range(end - 3, end)
        async with asyncio.timeout(30):
            await project_to({place: end}, log, Writer(tables, Understanding(CODEC, None)))
    assert (await tables.heads())[place].next_offset == end - 3
    await tables.close()


# --- verify -------------------------------------------------------------------------------------------------


async def compared(
    log: KafkaLog,
    live: Store,
    since: Mapping[Place, int] | None = None,
    until: Mapping[Place, int] | None = None,
) -> SpanComparison:
    return await compare(log, LoggedEvents(live), CODEC, since=since, until=until)


async def test_all_of_the_log_and_any_part_of_it_is_what_the_table_holds(
    log: KafkaLog, live: Store, middle: dict[Place, int]
) -> None:
    whole = await compared(log, live)
    assert whole.is_same
    assert whole.log == whole.table == (await live.checksums()).tables["events"]
    parts = [await compared(log, live, middle), await compared(log, live, None, middle)]
    assert all(part.is_same for part in parts)
    assert sum(part.records for part in parts) == whole.records
    assert sum(part.dead_letters for part in parts) == whole.dead_letters > 0
    assert sum(part.passed_over for part in parts) == whole.passed_over > 0


@pytest.mark.parametrize(
    ("damage", "what", "columns"),
    [
        (
            "update events set at_ms = at_ms + 1, correlation_id = 'x' where {where}",
            "different",
            "correlation_id, at_ms",
        ),
        ("delete from events where {where}", "missing", ""),
        (
            "update events set record_offset = (select max(record_offset) + 1 from events where {place}) where {where}",
            "missing",
            "",
        ),
    ],
)
async def test_a_damaged_row_is_named_by_its_position(
    log: KafkaLog, live: Store, middle: dict[Place, int], damage: str, what: str, columns: str
) -> None:
    place = ("workflows.events", max(range(6), key=lambda number: middle["workflows.events", number]))
    found = LoggedEvents(live)
    offset = await found.last_before(place, middle[place])
    assert offset is not None
    where = f"topic = '{place[0]}' and partition = {place[1]}"
    await live.database.fetch(damage.format(place=where, where=f"{where} and record_offset = {offset}"))
    shown = await compared(log, live, None, middle)
    (first,) = shown.different
    assert (first.position, first.what, ", ".join(first.columns)) == (f"{place[0]}:{place[1]}:{offset}", what, columns)
    assert shown.log != shown.table
    whole = await compared(log, live)
    assert whole.different[0] == first


async def test_a_row_for_which_there_is_no_event_is_one_too_many(log: KafkaLog, live: Store) -> None:
    agents = [record for record in HISTORY.records if record.topic == "agents.events"]
    zombie = next(record for record in agents if dict(record.headers).get("chain_hash") == b"e" * 32)
    await live.database.fetch(
        "insert into events select topic, $1, $2, event_id || '?', type, subject, source, correlation_id, causation_id,"
        " at_ms, record_key, value from events where topic = 'agents.events' limit 1",
        zombie.partition,
        zombie.offset,
    )
    (first,) = (await compared(log, live)).different
    assert (first.position, first.what) == (str(zombie.position), "too many")


async def test_a_part_that_is_not_projected_yet_is_waited_for(
    log: KafkaLog, live: Store, database_url: str, middle: dict[Place, int]
) -> None:
    await live.drop()
    await recover(log, database_url, CODEC, None, until=middle)
    ends = await projected_offsets(log, "2990-01-01", field="--to")
    comparing = asyncio.create_task(compared(log, live, middle, ends))
    await recover(log, database_url, CODEC, None)
    assert (await comparing).is_same
