"""A decider's state, set down now and then, so that recovery need not read the whole log."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog

from diurna_schemas.chain import Head
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import cloud_event
from diurna_schemas.errors import Unreadable
from diurna_schemas.records import Snapshot
from diurna_streams.deciders.rules import Rules
from diurna_streams.log import Log, Outgoing, Producer, Record, TopicPartition

logger = structlog.get_logger(__name__)

CHUNK_BYTES_MAX: Final = 512 * 1024
CHUNKS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Settled:
    """A state and the chain's head it belongs to."""

    head: Head
    state: Any


async def write(
    settled: Settled, *, rules: Rules[Any, Any, Any], partition: int, codec: Codec, producer: Producer, at_ms: int
) -> int:
    """Writes a snapshot in chunks, the last one last, and returns its size in bytes."""
    packed = await asyncio.to_thread(_pack, rules, settled.state)  # the state never changes, so a thread may read it
    pieces = [packed[start : start + CHUNK_BYTES_MAX] for start in range(0, len(packed), CHUNK_BYTES_MAX)]
    if len(pieces) > CHUNKS_MAX:
        logger.error("the state is too large for a snapshot", family=rules.family.name, size_bytes=len(packed))
        return 0
    head = settled.head
    for chunk, piece in enumerate(pieces):
        snapshot = Snapshot(
            topic=rules.family.events,
            partition=partition,
            logic_version=rules.logic_version,
            incarnation=head.incarnation,
            next_event_offset=head.next_offset,
            last_command_offset=head.command_offset,
            last_index=head.index,
            chain_hash=head.hash,
            chunk=chunk,
            chunks=len(pieces),
            taken_at_ms=at_ms,
            state=piece,
        )
        name = f"{partition}/{chunk}"
        headers = cloud_event(
            id=f"{rules.family.events}:{partition}:{head.next_offset}/{chunk}",
            type_name="snapshot",
            source=f"/deciders/{rules.family.events}/{partition}",
            subject=name,
            at_ms=at_ms,
        )
        record = Outgoing(name.encode(), codec.encode(snapshot), headers, at_ms)
        await producer.send(rules.family.snapshots, partition, record)
    return len(packed)


def _pack(rules: Rules[Any, Any, Any], state: Any) -> bytes:
    return zlib.compress(orjson.dumps(rules.dump(state)), level=1)


async def load(log: Log, codec: Codec, rules: Rules[Any, Any, Any], partition: int) -> Settled | None:
    """The newest whole snapshot of a partition that these rules can use; none where there is none."""
    place = TopicPartition(rules.family.snapshots, partition)
    records = await _all_records(log, place)
    chunks: dict[int, Snapshot] = {}
    whole: list[Snapshot] | None = None
    for record in records:
        try:
            snapshot = codec.decode(record.value)
        except Unreadable as error:
            logger.warning("unreadable snapshot", position=str(record.position), error=str(error))
            continue
        if not isinstance(snapshot, Snapshot) or snapshot.logic_version != rules.logic_version:
            continue
        if snapshot.chunk == 0:
            chunks = {}
        chunks[snapshot.chunk] = snapshot
        if len(chunks) == snapshot.chunks and len({piece.chain_hash for piece in chunks.values()}) == 1:
            whole = [chunks[number] for number in range(snapshot.chunks)]
    if whole is None:
        return None
    first = whole[0]
    head = Head(
        first.next_event_offset, first.chain_hash, first.incarnation, first.last_command_offset, first.last_index
    )
    try:
        return Settled(head, rules.load(orjson.loads(zlib.decompress(b"".join(piece.state for piece in whole)))))
    except Exception:  # a broken snapshot costs time, and never a start: the events have everything
        logger.exception("a snapshot cannot be used", topic=place.topic, partition=partition)
        return None


async def _all_records(log: Log, place: TopicPartition) -> list[Record]:
    start, end = (await log.starts([place]))[place], (await log.ends([place]))[place]
    if start >= end:
        return []
    reader = await log.reader()
    try:
        await reader.start_at({place: start})
        records: list[Record] = []
        idle = 0
        while (not records or records[-1].offset + 1 < end) and idle < _IDLE_READS_MAX:
            found = await reader.read()
            idle = 0 if found else idle + 1
            records += found
        return records
    finally:
        await reader.close()


_IDLE_READS_MAX: Final = 5
"""The end of a compacted partition may be gone; nothing more comes after so many empty reads."""
