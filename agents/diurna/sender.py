"""Writes commands and broadcasts to the log, and writes them again under the same id when nobody acknowledged them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from diurna.metrics import EVENTS_EMITTED
from diurna_schemas import topics
from diurna_schemas.agents import Heartbeat
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import Headers, cloud_event, command_headers
from diurna_schemas.errors import TooLarge, Unavailable
from diurna_schemas.ids import Position
from diurna_schemas.message import COMMAND_BYTES_MAX, Command
from diurna_schemas.records import Broadcast, DeadLetterSettled
from diurna_schemas.topics import partition_of
from diurna_streams import tracing
from diurna_streams.log import Log, Outgoing, Producer

RESEND_SECONDS_MAX: Final = 120.0
"""A decider remembers a command's id for longer than this, so a command sent twice is decided once."""


def wall_clock_ms() -> int:
    """The present in milliseconds UTC."""
    return time.time_ns() // 1_000_000


class Sender:
    """One producer for all who write in this process, renewed after every error.

    A command that was written twice is decided once, by its id. A broadcast written twice is there twice, with the
    same `ce_id`: nobody decides about broadcasts, so readers that care compare the id.
    """

    def __init__(
        self, log: Log, codec: Codec, *, source: str = "/clients/python", clock_ms: Callable[[], int] = wall_clock_ms
    ) -> None:
        self._log = log
        self._codec = codec
        self._source = source
        self._clock_ms = clock_ms
        self._producer: Producer | None = None
        self._renewing = asyncio.Lock()

    async def send(
        self, command: Command, *, correlation_id: str | None = None, traceparent: str | None = None
    ) -> Position:
        """Writes a command and returns where it stands.

        Raises `TooLarge` where it does not fit into a record, `Unavailable` where the log acknowledged it in no
        attempt: it may be there nevertheless.
        """
        headers = command_headers(
            command,
            command_id=command.command_id,
            source=self._source,
            at_ms=self._clock_ms(),
            correlation_id=correlation_id,
            traceparent=tracing.understood(traceparent) or tracing.traceparent(),
        )
        value = self._codec.encode(command)
        if len(value) > COMMAND_BYTES_MAX:  # its decider would put it to the dead letters, and nobody would answer
            raise TooLarge(command.type_name, len(value), COMMAND_BYTES_MAX)
        return await self._append(command.topic, command.key, value, headers)

    async def broadcast(self, broadcast: Broadcast, *, traceparent: str | None = None) -> Position:
        """Writes a broadcast and returns where it stands."""
        headers = cloud_event(
            id=broadcast.broadcast_id,
            type_name=broadcast.event_type,
            source=f"/agents/{broadcast.source_agent}",
            subject=broadcast.source_agent,
            at_ms=broadcast.created_at_ms,
            correlation_id=broadcast.correlation_id,
            traceparent=tracing.understood(traceparent) or tracing.traceparent(),
        )
        value = self._codec.encode(broadcast)
        position = await self._append(topics.BROADCASTS, broadcast.event_type, value, headers)
        EVENTS_EMITTED.labels(broadcast.event_type, broadcast.source_agent).inc()
        return position

    async def heartbeat(self, heartbeat: Heartbeat) -> Position:
        """Writes a sign of life."""
        headers = cloud_event(
            id=f"{heartbeat.instance_id}/{heartbeat.sent_at_ms}",
            type_name="agent.heartbeat",
            source=self._source,
            subject=heartbeat.agent_id,
            at_ms=heartbeat.sent_at_ms,
        )
        return await self._append(topics.HEARTBEATS, heartbeat.instance_id, self._codec.encode(heartbeat), headers)

    async def settle_dead_letter(self, settled: DeadLetterSettled) -> Position:
        """Writes down what became of a dead letter, beside it."""
        headers = cloud_event(
            id=f"{settled.source}/{settled.verdict}",
            type_name=f"dead-letter.{settled.verdict}",
            source=self._source,
            subject=settled.source,
            at_ms=settled.at_ms,
        )
        topic = topics.dead_letter_topic_of(settled.topic)
        partitions = topics.TOPICS[topic].partitions
        return await self._append(topic, settled.source, self._codec.encode(settled), headers, partitions=partitions)

    async def close(self) -> None:
        """Closes the producer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close()

    async def _append(
        self, topic: str, key: str, value: bytes, headers: Headers, *, partitions: int = topics.PARTITIONS
    ) -> Position:
        partition = partition_of(key, partitions)
        outgoing = Outgoing(key.encode(), value, headers)
        try:
            return await self._write(topic, partition, outgoing)
        except Unavailable:
            retrying = AsyncRetrying(
                retry=retry_if_exception_type(Unavailable),
                stop=stop_after_delay(RESEND_SECONDS_MAX),
                wait=wait_random_exponential(multiplier=0.1, max=5),
                reraise=True,
            )
            return await retrying(self._write, topic, partition, outgoing)

    async def _write(self, topic: str, partition: int, outgoing: Outgoing) -> Position:
        producer = self._producer or await self._renewed()
        try:
            return Position(topic, partition, await producer.send(topic, partition, outgoing))
        except Unavailable:
            # Its state is unknown now. Others may have thrown it away already.
            if self._producer is producer:
                self._producer = None
                await producer.close()
            raise

    async def _renewed(self) -> Producer:
        async with self._renewing:
            if self._producer is None:
                self._producer = await self._log.producer()
            return self._producer
