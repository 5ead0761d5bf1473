"""Records nobody could understand are kept whole, with their position, and stop nobody."""

from __future__ import annotations

import time
from typing import Final

import structlog

from diurna_schemas.codec import Codec
from diurna_schemas.envelope import cloud_event, header
from diurna_schemas.message import TEXT_CHARACTERS_MAX
from diurna_schemas.records import DeadLetter
from diurna_schemas.topics import TOPICS, partition_of
from diurna_streams import metrics
from diurna_streams.log import Outgoing, Producer, Record

logger = structlog.get_logger(__name__)

RECORD_BYTES_MAX: Final = 900_000
"""Of a record's key, headers and value together: what is kept must fit into one batch."""


async def bury(
    record: Record, error: BaseException, *, stage: str, topic: str, codec: Codec, producer: Producer
) -> DeadLetter:
    """Writes `record` to the dead letters on `topic`, and returns once that is durable.

    The same record may be buried twice, after a crash; its id is its position, so it stays one dead letter. Of a
    record that fills a whole batch only the beginning is kept, and the error says so: a letter is a little larger.
    """
    key, value, kept_headers, note = _kept(record)
    letter = DeadLetter(
        stage=stage,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=max(record.timestamp_ms, 0),
        record_key=key,
        record_value=value,
        record_headers=kept_headers,
        error_type=type(error).__name__,
        error=str(error)[: TEXT_CHARACTERS_MAX - len(note)] + note,
        at_ms=int(time.time() * 1000),
    )
    headers = cloud_event(
        id=letter.source,
        type_name="dead-letter",
        source=f"/{stage}",
        subject=letter.source,
        at_ms=letter.at_ms,
    )
    partition = partition_of(letter.source, TOPICS[topic].partitions)
    await producer.send(topic, partition, Outgoing(letter.source.encode(), codec.encode(letter), headers))
    metrics.DEAD_LETTERS.labels(topic=record.topic).inc()
    correlation_id = header(record.headers, "correlationid")
    logger.warning(
        "dead letter", position=letter.source, stage=stage, error=letter.error[:300], correlation_id=correlation_id
    )
    return letter


def _kept(record: Record) -> tuple[bytes | None, bytes | None, dict[str, bytes], str]:
    """What of a record fits into one letter, and a note where that is not everything."""
    headers = {name: part or b"" for name, part in record.headers}
    sizes = sum(len(name.encode()) + len(part) for name, part in headers.items()), len(record.key or b"")
    whole = sum(sizes) + len(record.value or b"")
    if whole <= RECORD_BYTES_MAX:
        return record.key, record.value, headers, ""
    if sizes[0] > RECORD_BYTES_MAX // 4:
        headers, sizes = {}, (0, sizes[1])
    key = record.key and record.key[: RECORD_BYTES_MAX // 4]
    room = RECORD_BYTES_MAX - sizes[0] - len(key or b"")
    value = record.value and record.value[:room]
    return key, value, headers, f" (of its {whole} bytes only the first ones are kept here)"
