"""Which part of the log a replay is about: from a time or position on, up to another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence

from diurna_projections.moment import Moment, parse
from diurna_projections.records import PROJECTED
from diurna_schemas.envelope import link_of
from diurna_schemas.errors import BrokenChain, InvalidInput
from diurna_schemas.ids import Position
from diurna_schemas.topics import TOPICS, Family
from diurna_streams.audit.reading import Lessons, Tap
from diurna_streams.log.port import Log, Record, TopicPartition
from diurna_streams.project.places import partitions_of


async def command_offsets(log: Log, family: Family, text: str, *, field: str) -> list[int]:
    """For each partition of a family the first command at or after a moment.

    A position may be that of a command or of an event. In the other partitions its time counts. Raises `InvalidInput`
    where it is not on the log, or not of this family.
    """
    places = [TopicPartition(family.commands, number) for number in range(TOPICS[family.commands].partitions)]
    found = parse(text, field=field)
    if isinstance(found, Moment):
        return await _at(log, places, found.at_ms)
    record = await _record(log, (family.commands, family.events), found, field)
    offset = record.offset
    if record.topic == family.events:
        try:
            offset = link_of(record.headers).command_offset
        except BrokenChain as error:
            raise InvalidInput(field, text, "it is no event that was decided") from error
    offsets = await _at(log, places, record.timestamp_ms)
    offsets[record.partition] = offset
    return offsets


async def projected_offsets(log: Log, text: str, *, field: str) -> dict[tuple[str, int], int]:
    """For each partition the tables are made of the first record at or after a moment.

    A position may be that of any such record. In the other partitions its time counts. Raises `InvalidInput` where it
    is not on the log.
    """
    places = await partitions_of(log)
    found = parse(text, field=field)
    if isinstance(found, Moment):
        return dict(zip(places, await _at(log, places, found.at_ms), strict=True))
    record = await _record(log, PROJECTED, found, field)
    offsets = await _at(log, places, record.timestamp_ms)
    return {**dict(zip(places, offsets, strict=True)), (record.topic, record.partition): record.offset}


async def records_of(
    log: Log, place: TopicPartition, start: int, end: int, lessons: Lessons
) -> AsyncGenerator[list[Record]]:
    """The records of one partition from `start` to `end`, in pieces; their schemas are known."""
    tap = Tap(log, place, start)
    try:
        while tap.next_offset < end:
            records = [record for record in await tap.read() if record.offset < end]
            await lessons.take(records)
            yield records
    finally:
        await tap.close()


async def _at(log: Log, places: Sequence[TopicPartition], at_ms: int) -> list[int]:
    found = await log.offsets_at(places, at_ms)
    return [found[place] for place in places]


async def _record(log: Log, topics: Collection[str], position: Position, field: str) -> Record:
    place = TopicPartition(position.topic, position.partition)
    if position.topic not in topics or position.partition >= TOPICS[position.topic].partitions:
        raise InvalidInput(field, str(position), f"a position of {' or '.join(topics)} is expected")
    start, end = (await log.starts([place]))[place], (await log.ends([place]))[place]
    if not start <= position.offset < end:
        raise InvalidInput(field, str(position), f"the log has {start} to {end - 1} there")
    tap = Tap(log, place, position.offset)
    try:
        return (await tap.read())[0]
    finally:
        await tap.close()
