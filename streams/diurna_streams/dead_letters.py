"""Records nobody could understand are kept whole, with their position, and stop nobody."""

from __future__ import annotations

import time

import structlog

from diurna_schemas.codec import Codec
from diurna_schemas.envelope import cloud_event
from diurna_schemas.message import TEXT_CHARACTERS_MAX
from diurna_schemas.records import DeadLetter
from diurna_schemas.topics import TOPICS, partition_of
from diurna_streams import metrics
from diurna_streams.log import Outgoing, Producer, Record

logger = structlog.get_logger(__name__)


async def bury(
    record: Record, error: BaseException, *, stage: str, topic: str, codec: Codec, producer: Producer
) -> DeadLetter:
    """Writes `record` to the dead letters on `topic`, and returns once that is durable.

    The same record may be buried twice, after a crash; its id is its position, so it stays one dead letter.
    """
    letter = DeadLetter(
        stage=stage,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=max(record.timestamp_ms, 0),
        record_key=record.key,
        record_value=record.value,
        record_headers={name: value or b"" for name, value in record.headers},
        error_type=type(error).__name__,
        error=str(error)[:TEXT_CHARACTERS_MAX],
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
    logger.warning("dead letter", position=letter.source, stage=stage, error=letter.error[:300])
    return letter
