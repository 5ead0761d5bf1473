"""Compares a part of the log with what the table of events holds of it, without making anything anew.

Of each partition the chain is followed from the last event the table has before that part, by the rule every projector
follows. What is accepted there is a row; the checksums of the rows are compared in order with those of the table.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from diurna_projections.advance import advance, understood
from diurna_projections.folds import LOGGED, is_logged
from diurna_projections.logged import row_of
from diurna_projections.memory import Place, row_checksum
from diurna_projections.records import CHAINED, LogRecord, Reading
from diurna_projections.rows import EVENTS, LoggedEvent
from diurna_schemas.chain import Head
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import chain_hash, header, link_of
from diurna_schemas.errors import BrokenChain, Refused, Unavailable
from diurna_schemas.ids import Position
from diurna_streams.audit.reading import Lessons, Tap
from diurna_streams.decide.follower import Learn, learns_nothing
from diurna_streams.log.port import Log, Record, TopicPartition
from diurna_streams.replay.progress import Progress
from diurna_streams.replay.span import records_of

What = Literal["different", "missing", "too many", "edited"]
"""A row that differs, an event without a row, a row without an event, an event whose hash is not that of its bytes."""

_BEHIND_SECONDS_MAX: Final = 60.0
_LOOK_AGAIN_SECONDS: Final = 0.2


class EventTable(Protocol):
    """The table of events by places of the log."""

    async def ends(self) -> Mapping[Place, int]:
        """For each partition the offset that is projected next."""
        ...

    async def last_before(self, place: Place, offset: int) -> int | None:
        """The offset of the last event before another; none where there is none."""
        ...

    async def checksums(self, place: Place, start: int, end: int) -> dict[int, str]:
        """The checksum of each row from an offset to before another, in order."""
        ...

    async def buried(self, place: Place, start: int, end: int) -> set[int]:
        """The offsets of records the tables could not take, and hold as dead letters."""
        ...

    async def row(self, place: Place, offset: int) -> LoggedEvent | None:
        """One row."""
        ...


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a partition first differs, in what way, and which columns of the row do."""

    position: str
    what: What
    columns: tuple[str, ...] = ()


@dataclass(slots=True)
class SpanComparison:
    """What was compared, in records of the log, and the first difference of each partition that has one."""

    since: dict[TopicPartition, int]
    until: dict[TopicPartition, int]
    records: int = 0
    events: int = 0
    dead_letters: int = 0
    passed_over: int = 0
    """Records that do not count: duplicates, and what links to nothing."""
    log: str = ""
    table: str = ""
    """The checksum of the rows, here and there: of the whole log it is that of the table of events."""
    different: list[Difference] = field(default_factory=list[Difference])

    @property
    def is_same(self) -> bool:
        return self.log == self.table and not self.different


async def compare(
    log: Log,
    table: EventTable,
    codec: Codec,
    *,
    learn: Learn = learns_nothing,
    since: Mapping[Place, int] | None = None,
    until: Mapping[Place, int] | None = None,
    progress: Progress | None = None,
) -> SpanComparison:
    """Compares from the offsets `since`, else the first, to before `until`, else as far as the table stands.

    Raises `Refused` where there is no record between them, `Unavailable` where the table does not come that far, or the
    log does not answer.
    """
    told = progress or Progress()
    found = await _span(log, table, since, until)
    lengths = {place: end - found.since[place] for place, end in found.until.items()}
    if not any(lengths.values()):
        raise Refused("there is no record in that span: nothing can be compared")
    told.expect(sum(lengths.values()))
    lessons = Lessons(codec, learn)
    sums = _Sums()
    for place, length in lengths.items():
        if length:
            await _Course(log, table, codec, place=place, lessons=lessons, told=told).run(found, sums)
    found.log, found.table = sums.log.hexdigest(), sums.table.hexdigest()
    return found


async def _span(
    log: Log,
    table: EventTable,
    since: Mapping[Place, int] | None,
    until: Mapping[Place, int] | None,
) -> SpanComparison:
    places = [
        TopicPartition(topic, number) for topic in sorted(LOGGED) for number in range(await log.partitions(topic))
    ]
    starts = await log.starts(places)
    ends = await _reached(table, {} if until is None else {place: until[place] for place in places})
    last = {place: (ends.get(place, 0) if until is None else until[place]) for place in places}
    first = {place: max(starts[place], 0 if since is None else since[place]) for place in places}
    return SpanComparison({place: min(first[place], last[place]) for place in places}, last)


async def _reached(table: EventTable, wanted: Mapping[TopicPartition, int]) -> Mapping[Place, int]:
    """Where the table stands, once that is as far as it is asked about."""
    deadline = time.monotonic() + _BEHIND_SECONDS_MAX
    while True:
        ends = await table.ends()
        behind = [place for place, end in wanted.items() if ends.get(place, 0) < end]
        if not behind:
            return ends
        if time.monotonic() > deadline:
            place = behind[0]
            end = ends.get(place, 0)
            raise Unavailable(f"the tables stand still at {place.topic}:{place.partition}:{end}, before the span's end")
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


class _Sums:
    """The checksums of the log's rows and the table's, in order."""

    def __init__(self) -> None:
        self.log = hashlib.md5(usedforsecurity=False)
        self.table = hashlib.md5(usedforsecurity=False)


class _Course:
    """One partition."""

    def __init__(
        self, log: Log, table: EventTable, codec: Codec, *, place: TopicPartition, lessons: Lessons, told: Progress
    ) -> None:
        self._log = log
        self._table = table
        self._codec = codec
        self._place = place
        self._lessons = lessons
        self._progress = told
        self._is_different = False

    async def run(self, found: SpanComparison, sums: _Sums) -> None:
        """Adds what there is in the span to what was found."""
        start, end = found.since[self._place], found.until[self._place]
        head = await self._head_at(start)
        async for records in records_of(self._log, self._place, start, end, self._lessons):
            if not records:
                continue
            step = advance(*self._place, head, understood(self._codec, records))
            head = step.head
            found.records += len(records)
            found.passed_over += step.duplicates + step.aliens
            await self._check(records, step.accepted, found, sums)
            self._progress.advance(len(records))

    async def _head_at(self, start: int) -> Head:
        """The chain's head before an offset, from the last event the table has there."""
        if self._place.topic not in CHAINED:
            return Head(next_offset=start)
        known = await self._table.last_before(self._place, start)
        head = Head() if known is None else await self._head_of(known)
        async for records in records_of(self._log, self._place, head.next_offset, start, self._lessons):
            head = advance(*self._place, head, understood(self._codec, records)).head
        return head

    async def _head_of(self, offset: int) -> Head:
        """The head once the event at an offset counts; where none stands there, the one the chain begins with."""
        tap = Tap(self._log, self._place, offset)
        try:
            record = (await tap.read())[0]
            return Head().after(link_of(record.headers), record.offset)
        except BrokenChain:
            return Head()
        finally:
            await tap.close()

    async def _check(
        self, records: Sequence[Record], accepted: Sequence[Reading], found: SpanComparison, sums: _Sums
    ) -> None:
        """Compares the rows of one piece of the log."""
        place, start, end = self._place, records[0].offset, records[-1].offset + 1
        table = await self._table.checksums(place, start, end)
        logged = [reading.record for reading in accepted if is_logged(reading)]
        log = {record.offset: row_checksum(EVENTS, row_of(record)) for record in logged}
        if log.keys() - table.keys():  # folding may have failed, or Postgres have refused it: then it is a dead letter
            buried = await self._table.buried(place, start, end)
            log = {offset: digest for offset, digest in log.items() if offset in table or offset not in buried}
        found.events += len(log)
        found.dead_letters += len(accepted) - len(log)
        sums.log.update("".join(log.values()).encode())
        sums.table.update("".join(table.values()).encode())
        if self._is_different:
            return
        edited = {one.record.offset for one in accepted if place.topic in CHAINED and not _is_intact(one.record)}
        wrong = {offset for offset in log.keys() | table.keys() if log.get(offset) != table.get(offset)} | edited
        if wrong:
            self._is_different = True
            first = min(wrong)
            if first in edited:
                found.different.append(Difference(str(Position(*place, first)), "edited"))
            else:
                found.different.append(await self._difference(first, records, log, table))

    async def _difference(
        self, offset: int, records: Sequence[Record], log: Mapping[int, str], table: Mapping[int, str]
    ) -> Difference:
        position = str(Position(*self._place, offset))
        if offset not in table:
            return Difference(position, "missing")
        if offset not in log:
            return Difference(position, "too many")
        is_there = await self._table.row(self._place, offset)
        expected = row_of(next(record for record in records if record.offset == offset))
        columns = [
            name
            for number, name in enumerate(EVENTS.columns)
            if is_there is not None and is_there[number] != expected[number]
        ]
        return Difference(position, "different", tuple(columns))


def _is_intact(record: LogRecord) -> bool:
    """Whether an event's bytes are those its hash was made of."""
    link = link_of(record.headers)
    type_name = header(record.headers, "ce_type") or ""
    return chain_hash(link.previous, link.at, type_name, record.key or b"", record.value or b"") == link.hash
