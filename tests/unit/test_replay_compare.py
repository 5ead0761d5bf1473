"""A part of the log compared with the rows of it: every kind of damage is found, and named by its first position."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from diurna_projections.folds import LOGGED
from diurna_projections.memory import MemoryTables, Place, row_checksum
from diurna_projections.rows import EVENTS, LoggedEvent
from diurna_schemas.errors import InvalidInput, Refused, Unavailable
from diurna_schemas.topics import BROADCASTS, TOPICS
from diurna_streams.log.memory import MemoryLog
from diurna_streams.log.port import Outgoing, Record, TopicPartition
from diurna_streams.replay import compare as comparing
from diurna_streams.replay.compare import Difference, SpanComparison, compare
from diurna_streams.replay.progress import Progress
from diurna_streams.replay.span import projected_offsets
from support.projecting import History, busy_team

HISTORY = busy_team(71, 400)


class RowsInMemory:
    """The table of events as a dictionary."""

    def __init__(self, history: History) -> None:
        folded = MemoryTables(history.codec)
        folded.apply(history.records)
        self.checksum = folded.checksums()["events"]
        self.next = {place: head.next_offset for place, head in folded.heads.items()}
        self.letters = {(row.topic, row.source_partition, row.source_offset) for row in folded.tables.dead_letters}
        self.rows = {row[:3]: row for row in folded.tables.events}

    async def ends(self) -> Mapping[Place, int]:
        return self.next

    async def last_before(self, place: Place, offset: int) -> int | None:
        return max((key[2] for key in self.rows if key[:2] == place and key[2] < offset), default=None)

    async def checksums(self, place: Place, start: int, end: int) -> dict[int, str]:
        found = [row for key, row in sorted(self.rows.items()) if key[:2] == place and start <= key[2] < end]
        return {row.record_offset: row_checksum(EVENTS, row) for row in found}

    async def buried(self, place: Place, start: int, end: int) -> set[int]:
        return {key[2] for key in self.letters if key[:2] == place and start <= key[2] < end}

    async def row(self, place: Place, offset: int) -> LoggedEvent | None:
        return self.rows.get((*place, offset))


async def log_of(records: list[Record]) -> MemoryLog:
    now_ms = 0
    log = MemoryLog(clock_ms=lambda: now_ms)
    await log.provision(TOPICS.values())
    for record in records:
        now_ms = record.timestamp_ms
        outgoing = Outgoing(record.key, record.value, record.headers, record.timestamp_ms)
        log.append(record.topic, record.partition, [outgoing])
    return log


@pytest.fixture
def table() -> RowsInMemory:
    return RowsInMemory(HISTORY)


@pytest.fixture
async def log() -> MemoryLog:
    return await log_of(HISTORY.records)


async def compared(
    log: MemoryLog,
    table: RowsInMemory,
    since: Mapping[Place, int] | None = None,
    until: Mapping[Place, int] | None = None,
) -> SpanComparison:
    return await compare(log, table, HISTORY.codec, since=since, until=until)


def longest(table: RowsInMemory) -> list[LoggedEvent]:
    """The rows of the chained partition that has most of them, in order."""
    by_place: dict[Place, list[LoggedEvent]] = {}
    for key, row in sorted(table.rows.items()):
        if key[0] != BROADCASTS:
            by_place.setdefault((key[0], key[1]), []).append(row)
    return max(by_place.values(), key=len)


async def test_the_whole_log_has_the_checksum_of_the_table_of_events(log: MemoryLog, table: RowsInMemory) -> None:
    shown: list[tuple[int, int]] = []
    progress = Progress(lambda now: shown.append((now.done, now.total)))
    found = await compare(log, table, HISTORY.codec, progress=progress)
    assert found.is_same
    assert found.log == found.table == table.checksum
    assert found.events == len(table.rows)
    assert found.dead_letters > 0, "there is poison in it"
    assert found.passed_over > 0, "and there are zombies"
    assert found.records == found.events + found.dead_letters + found.passed_over
    assert shown[-1] == (found.records, found.records)


async def test_any_part_is_equal_wherever_it_begins_and_ends(log: MemoryLog, table: RowsInMemory) -> None:
    chance = random.Random(5)
    for _ in range(60):
        since = {place: chance.randint(0, end) for place, end in table.next.items()}
        until = {place: chance.randint(since[place], end) for place, end in table.next.items()}
        places = dict.fromkeys(every_place(), 0)
        found = await compared(log, table, {**places, **since}, {**places, **until})
        assert found.is_same, (since, until)
        logged = [place for place in until if place[0] in LOGGED]
        assert found.records == sum(until[place] - since[place] for place in logged)


def every_place() -> list[Place]:
    return [(topic, number) for topic in (*TOPICS,) for number in range(TOPICS[topic].partitions)]


async def test_the_first_row_that_was_changed_is_named_with_its_columns(log: MemoryLog, table: RowsInMemory) -> None:
    rows = longest(table)
    for row in (rows[20], rows[9], rows[40]):
        table.rows[row[:3]] = row._replace(subject="another", value=b"")
    found = await compared(log, table)
    assert not found.is_same
    assert found.log == table.checksum != found.table
    assert found.different == [Difference(position_of(rows[9]), "different", ("subject", "value"))]


async def test_a_row_that_is_missing_is_named(log: MemoryLog, table: RowsInMemory) -> None:
    lost = longest(table)[12]
    del table.rows[lost[:3]]
    found = await compared(log, table)
    assert found.different == [Difference(position_of(lost), "missing")]


async def test_a_row_of_what_does_not_count_is_one_too_many(log: MemoryLog, table: RowsInMemory) -> None:
    """A zombie's event, a dead letter, and a record that never was."""
    events = [record for record in HISTORY.records if record.topic == "agents.events"]
    strange = [record for record in events if (record.topic, record.partition, record.offset) not in table.rows]
    whole = table.rows.copy()
    for record in (strange[0], strange[-1]):
        row = longest(table)[0]._replace(topic=record.topic, partition=record.partition, record_offset=record.offset)
        table.rows = {**whole, row[:3]: row}
        found = await compared(log, table)
        assert found.different == [Difference(str(record.position), "too many")]


async def test_damage_outside_of_the_part_is_not_looked_at(log: MemoryLog, table: RowsInMemory) -> None:
    rows = longest(table)
    place: Place = (rows[0].topic, rows[0].partition)
    whole = dict.fromkeys(every_place(), 0) | table.next
    for damaged in (rows[10], rows[11]):
        del table.rows[damaged[:3]]
    since = {**whole, place: rows[12].record_offset}
    assert (await compared(log, table, since)).is_same, "though the row right before it is gone"
    until = {**whole, place: rows[10].record_offset}
    assert (await compared(log, table, None, until)).is_same
    since = {**whole, place: rows[11].record_offset}
    assert (await compared(log, table, since)).different == [Difference(position_of(rows[11]), "missing")]


async def test_an_event_whose_bytes_are_not_those_of_its_hash_is_named_though_the_table_holds_them(
    table: RowsInMemory,
) -> None:
    row = longest(table)[15]
    records = [
        record._replace(value=row.value + b"!") if str(record.position) == position_of(row) else record
        for record in HISTORY.records
    ]
    table.rows[row[:3]] = row._replace(value=row.value + b"!")
    found = await compared(await log_of(records), table)
    assert found.different == [Difference(position_of(row), "edited")]
    assert not found.is_same


async def test_an_event_the_tables_could_not_take_is_a_dead_letter_and_no_row(
    log: MemoryLog, table: RowsInMemory
) -> None:
    row = longest(table)[15]
    before = (await compared(log, table)).dead_letters
    del table.rows[row[:3]]
    table.letters.add(row[:3])
    found = await compared(log, table)
    assert found.is_same
    assert found.dead_letters == before + 1


async def test_each_partition_says_where_it_first_differs(log: MemoryLog, table: RowsInMemory) -> None:
    first = [min(key for key in table.rows if key[0] == topic) for topic in ("agents.events", BROADCASTS)]
    lost = [table.rows.pop(key) for key in first]
    found = await compared(log, table)
    assert found.different == [Difference(position_of(row), "missing") for row in lost]


async def test_a_part_without_records_and_one_the_tables_have_not_reached_are_refused(
    log: MemoryLog, table: RowsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dict.fromkeys(every_place(), 0) | table.next
    with pytest.raises(Refused, match="no record in that span"):
        await compared(log, table, whole, whole)
    with pytest.raises(Refused, match="no record in that span"):
        await compared(log, table, whole, dict.fromkeys(whole, 0))
    monkeypatch.setattr(comparing, "_BEHIND_SECONDS_MAX", 0)
    place = next(place for place in table.next if place[0] == "agents.events")
    table.next = {**table.next, place: table.next[place] - 1}
    with pytest.raises(Unavailable, match=f"{place[0]}:{place[1]}:{table.next[place]}"):
        await compared(log, table, None, whole)


async def test_the_time_of_a_position_counts_in_the_other_partitions(log: MemoryLog) -> None:
    record = HISTORY.records[len(HISTORY.records) // 2]
    offsets = await projected_offsets(log, str(record.position), field="--to")
    at_the_time = await projected_offsets(log, str(record.timestamp_ms), field="--to")
    place = (record.topic, record.partition)
    assert offsets[place] == record.offset
    assert offsets == {**at_the_time, place: record.offset}
    for number in range(TOPICS["workflows.events"].partitions):
        place = TopicPartition("workflows.events", number)
        before = log.records(*place)[: offsets[place]]
        assert all(one.timestamp_ms < record.timestamp_ms for one in before)
        after = log.records(*place)[offsets[place] :]
        assert all(one.timestamp_ms >= record.timestamp_ms for one in after)
    assert sum((await projected_offsets(log, "0", field="--to")).values()) == 0
    ends = await projected_offsets(log, "2990-01-01", field="--to")
    assert sum(ends.values()) == len(HISTORY.records)


@pytest.mark.parametrize("text", ["tomorrow", "agents.commands:0:0", "agents.events:0:999999", "agents.events:77:0"])
async def test_a_moment_that_is_not_on_the_log_is_refused_with_field_and_value(log: MemoryLog, text: str) -> None:
    with pytest.raises(InvalidInput, match=text) as refused:
        await projected_offsets(log, text, field="--from")
    assert refused.value.field == "--from"


def position_of(row: LoggedEvent) -> str:
    return f"{row.topic}:{row.partition}:{row.record_offset}"
