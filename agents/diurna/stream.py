"""The log as one stream that can be left and taken up again: what stands behind Server-Sent Events.

A cursor says what comes next. It is a list of positions joined by commas: of each partition the stream reads the next
offset, those still at 0 left out, and always at least two. Taken up there, the stream neither leaves out nor repeats
anything. A single position is understood too, as the last event somebody has seen: the stream goes on after it, and in
the other partitions from the time of that event on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from diurna.bootstrap import LOOK_BACK_RECORDS, Watched, resolve
from diurna.seen import Learn, Seen
from diurna_projections.documents import event_document
from diurna_projections.logged import row_of
from diurna_schemas import topics
from diurna_schemas.chain import Acceptor, Head, Verdict
from diurna_schemas.codec import Codec
from diurna_schemas.errors import InvalidInput, shown
from diurna_schemas.ids import Position
from diurna_streams.log import Log, Reader, TopicPartition

STREAM_TOPICS: Final = (*topics.EVENT_TOPICS, topics.BROADCASTS)
CURSOR_POSITIONS_MAX: Final = 1_000
_READ_WAIT_MS: Final = 1_000
_READ_RECORDS_MAX: Final = 50
"""They are kept until the client has taken them, and each may be large."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are wanted; what is None does not matter."""

    topic: str | None = None
    type: str | None = None
    subject: str | None = None
    correlation_id: str | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics to read. Raises `InvalidInput` where there is no such topic of events."""
        if self.topic is None:
            return STREAM_TOPICS
        if self.topic not in STREAM_TOPICS:
            raise InvalidInput("topic", self.topic, f"one of {', '.join(STREAM_TOPICS)} is expected")
        return (self.topic,)

    def wants(self, seen: Seen) -> bool:
        return (
            (self.type is None or seen.type_name == self.type)
            and (self.subject is None or seen.subject == self.subject)
            and (self.correlation_id is None or seen.correlation_id == self.correlation_id)
        )


class Streamed(NamedTuple):
    """An event, and the cursor that takes the stream up right after it. None: nothing came for a moment."""

    seen: Seen | None
    cursor: str


class EventStream:
    """One reader over all partitions of some topics, each judged by its chain."""

    def __init__(self, log: Log, codec: Codec, wanted: Filter, *, learn: Learn | None = None) -> None:
        self._log = log
        self._codec = codec
        self._wanted = wanted
        self._learn = learn
        self._places = [
            TopicPartition(topic, partition)
            for topic in wanted.topics
            for partition in range(topics.TOPICS[topic].partitions)
        ]

    async def start(self, cursor: str | None, *, field: str = "Last-Event-ID") -> dict[TopicPartition, Watched]:
        """Where to read from. Raises `InvalidInput` where the cursor, given as `field`, fits no place on this log."""
        if not cursor:
            return await resolve(self._log, self._places, None)
        positions = _parsed(cursor, field)
        ends = await self._log.ends(self._places)
        starts = await self._log.starts(self._places)
        if len(positions) == 1:
            offsets = await self._after(positions[0], field)
        else:
            offsets = _following(positions, field)
        found: dict[TopicPartition, Watched] = {}
        for place in self._places:
            offset = offsets.get(place, 0)
            if offset > ends[place]:
                text = f"{place.topic}:{place.partition}:{offset}"
                raise InvalidInput(field, text, f"the log ends there at {ends[place]}")
            found[place] = _watched(place, max(offset, starts[place]), starts[place])
        return found

    async def events(self, starting: Mapping[TopicPartition, Watched]) -> AsyncGenerator[Streamed]:
        """The events from there on, without end."""
        reader = await self._log.reader()
        try:
            watched = dict(starting)
            consumed = {place: one.live_from for place, one in watched.items()}
            await reader.start_at({place: one.next_offset for place, one in watched.items()})
            while True:
                is_silent = True
                async for seen in self._read(reader, watched, consumed):
                    is_silent = False
                    yield Streamed(seen, _cursor(consumed))
                if is_silent:
                    yield Streamed(None, _cursor(consumed))
        finally:
            await reader.close()

    async def _read(
        self, reader: Reader, watched: dict[TopicPartition, Watched], consumed: dict[TopicPartition, int]
    ) -> AsyncGenerator[Seen]:
        for record in await reader.read(records_max=_READ_RECORDS_MAX, wait_ms=_READ_WAIT_MS):
            place = TopicPartition(record.topic, record.partition)
            one = watched[place]
            if record.offset < one.next_offset:
                continue
            one.next_offset = record.offset + 1
            is_accepted = one.judge(record) is Verdict.ACCEPTED
            if record.offset < one.live_from:
                continue
            consumed[place] = record.offset + 1
            seen = Seen(record, self._codec)
            if is_accepted and self._wanted.wants(seen):
                if self._learn is not None:
                    await seen.learned(self._learn)
                yield seen

    async def _after(self, position: Position, field: str) -> dict[TopicPartition, int]:
        """What comes after one event that was seen."""
        own = TopicPartition(position.topic, position.partition)
        if own not in self._places:
            raise InvalidInput(field, str(position), "this stream does not read that partition")
        ends = await self._log.ends([own])
        if position.offset >= ends[own]:
            raise InvalidInput(field, str(position), f"the log ends there at {ends[own]}")
        reader = await self._log.reader()
        try:
            await reader.start_at({own: position.offset})
            records = await reader.read(records_max=1, wait_ms=5_000)
        finally:
            await reader.close()
        if not records:
            raise InvalidInput(field, str(position), "there is no record at this position")
        offsets = await self._log.offsets_at(self._places, records[0].timestamp_ms)
        return {**offsets, own: position.offset + 1}


def described(seen: Seen, codec: Codec) -> dict[str, Any]:
    """An event as `GET /events` shows it."""
    return event_document(row_of(seen.record)._asdict(), codec)


def _parsed(cursor: str, field: str) -> list[Position]:
    parts = cursor.split(",")
    if len(parts) > CURSOR_POSITIONS_MAX:
        raise InvalidInput(field, shown(cursor), f"at most {CURSOR_POSITIONS_MAX} positions are allowed")
    return [Position.parse(part.strip(), field=field) for part in parts]


def _following(positions: list[Position], field: str) -> dict[TopicPartition, int]:
    """A cursor of ours; it may be a wider stream's. Left out, a wrong place would begin a partition anew, unnoticed."""
    offsets: dict[TopicPartition, int] = {}
    for one in positions:
        place = TopicPartition(one.topic, one.partition)
        if one.topic not in STREAM_TOPICS or one.partition >= topics.TOPICS[one.topic].partitions:
            raise InvalidInput(field, str(one), "there is no such partition to stream")
        if place in offsets:
            raise InvalidInput(field, str(one), "that partition is named twice")
        offsets[place] = one.offset
    return offsets


def _cursor(consumed: Mapping[TopicPartition, int]) -> str:
    moved = {place: offset for place, offset in consumed.items() if offset > 0}
    if len(moved) < 2:
        moved |= dict(_first_two(consumed, moved))
    return ",".join(f"{place.topic}:{place.partition}:{offset}" for place, offset in sorted(moved.items()))


def _first_two(
    consumed: Mapping[TopicPartition, int], moved: Mapping[TopicPartition, int]
) -> Iterable[tuple[TopicPartition, int]]:
    """Enough partitions at 0 for the cursor to be told from a single position."""
    still = [(place, offset) for place, offset in consumed.items() if place not in moved]
    return still[: 2 - len(moved)]


def _watched(place: TopicPartition, offset: int, start: int) -> Watched:
    """Reads from `offset` on, and a little before it to know the chain there."""
    if place.topic not in topics.EVENT_TOPICS:
        return Watched(offset, offset, None)
    first = max(start, offset - LOOK_BACK_RECORDS)
    if first == 0:
        return Watched(0, offset, Acceptor(Head()))
    return Watched(first, offset, Acceptor(None), is_tentative=True)
