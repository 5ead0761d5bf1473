"""Where records that cannot be projected are written down: the topic of the projections' dead letters."""

from __future__ import annotations

from typing import Self

import structlog

from diurna_schemas.codec import Codec
from diurna_schemas.envelope import cloud_event
from diurna_schemas.errors import Unavailable
from diurna_schemas.records import DeadLetter
from diurna_schemas.topics import PROJECTION_DEAD_LETTERS, TOPICS, partition_of
from diurna_streams import metrics
from diurna_streams.log.port import Log, Outgoing, Producer

logger = structlog.get_logger(__name__)


class Graves:
    """Writes dead letters. The producer is made when the first one comes, and anew after any error."""

    def __init__(self, log: Log, codec: Codec) -> None:
        self._log = log
        self._codec = codec
        self._producer: Producer | None = None

    async def bury(self, letter: DeadLetter) -> None:
        """Writes a dead letter and returns once it is durable. Its id is its source, so that twice is once."""
        headers = cloud_event(
            id=letter.source,
            type_name="dead-letter",
            source="/project",
            subject=letter.source,
            at_ms=letter.at_ms,
        )
        outgoing = Outgoing(letter.source.encode(), self._codec.encode(letter), headers)
        partition = partition_of(letter.source, TOPICS[PROJECTION_DEAD_LETTERS].partitions)
        if self._producer is None:
            self._producer = await self._log.producer()
        try:
            await self._producer.send(PROJECTION_DEAD_LETTERS, partition, outgoing)
        except Unavailable:
            await self._producer.close()
            self._producer = None
            raise
        metrics.DEAD_LETTERS.labels(topic=letter.topic).inc()
        logger.warning("dead letter", position=letter.source, error=letter.error[:300])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._producer is not None:
            await self._producer.close()
