"""Records nobody could understand are kept whole, with their position, and stop nobody."""

from __future__ import annotations

import time

import structlog

from diurna_projections.folds.dead_letters import letter_of
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import cloud_event, header
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
    letter = letter_of(record, error, stage=stage, at_ms=int(time.time() * 1000))
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
