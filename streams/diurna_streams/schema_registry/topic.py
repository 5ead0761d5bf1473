"""The registry's log as partition 0 of a topic, on whatever keeps the log: a broker, or memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from diurna_schemas.errors import Refused, TooLarge, Unavailable
from diurna_schemas.topics import SCHEMAS, TOPICS
from diurna_streams.log.port import Log, Outgoing, Producer, Reader, TopicPartition
from diurna_streams.schema_registry.model import Entry
from diurna_streams.schema_registry.refusals import invalid_schema
from diurna_streams.schema_registry.store import SchemaLog, Written

_PARTITION: Final = 0


class SchemaTopic(SchemaLog):
    """`_schemas` on a log, made where it is missing; `log` stays the caller's to close."""

    def __init__(self, log: Log, *, topic: str = SCHEMAS, replication: int = 1) -> None:
        self._log = log
        self._place = TopicPartition(topic, _PARTITION)
        self._replication = replication
        self._reader: Reader | None = None
        self._producer: Producer | None = None

    async def start(self) -> int:
        await self._log.provision([replace(TOPICS[SCHEMAS], name=self._place.topic)], replication=self._replication)
        if self._reader is None:
            self._reader = await self._log.reader()
        first = (await self._log.starts([self._place]))[self._place]
        await self._reader.start_at({self._place: first})
        return first

    async def append(self, entries: Sequence[Entry]) -> int:
        if self._producer is None:
            self._producer = await self._log.producer()
        producer = self._producer
        try:
            return await producer.send_batch(*self._place, [Outgoing(entry.key, entry.value) for entry in entries])
        except TooLarge as error:
            raise invalid_schema(f"its record is too large: {error.size} bytes, at most {error.size_max}") from error
        except Unavailable:
            # An idempotent producer may stick after an error: the next write takes a new one.
            self._producer = None
            await producer.close()
            raise

    async def read(self, *, wait_ms: int) -> list[Written]:
        if self._reader is None:
            raise Refused("the schema topic was not started")
        return [
            Written(record.offset, record.timestamp_ms, Entry(record.key or b"", record.value))
            for record in await self._reader.read(wait_ms=wait_ms)
        ]

    async def end(self) -> int:
        return (await self._log.ends([self._place]))[self._place]

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        producer, self._producer = self._producer, None
        if reader is not None:
            await reader.close()
        if producer is not None:
            await producer.close()
