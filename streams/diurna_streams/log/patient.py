"""Reading a Kafka log patiently with aiokafka: it parses records in C, headers too, at a sixth of librdkafka's price.

librdkafka makes Python objects of every header one by one: 13 of them cost more than the rest of a record. It wins
where single records are waited for, which is not the case here: see docs/explanation/log-clients.md.
"""

# aiokafka carries no complete annotations; its objects stay inside this module.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import aiokafka
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from diurna_schemas.errors import Unavailable, Unreadable
from diurna_streams import metrics
from diurna_streams.log.port import Record, TopicPartition, present


class PatientReader:
    """A reader in no group that takes what comes many at a time. It takes over a started consumer."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._fetcher: Any = getattr(consumer, "_fetcher", None)
        self._next: dict[TopicPartition, int] = {}

    async def start_at(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._next.update(offsets)
        self._assign()

    async def drop(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self._next.pop(partition, None)
        self._assign()

    def _assign(self) -> None:
        self._consumer.assign([aiokafka.TopicPartition(*place) for place in self._next])
        for place, offset in self._next.items():  # never `seek_to_beginning`: it was seen to read nothing
            self._consumer.seek(aiokafka.TopicPartition(*place), offset)

    async def read(self, *, records_max: int = 500, wait_ms: int = 200) -> list[Record]:
        self._shorten()
        try:
            found: Any = await self._consumer.getmany(timeout_ms=wait_ms, max_records=records_max)
        except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
            raise Unreadable(f"records are gone from the log: {error}") from error
        except (KafkaError, OSError) as error:
            metrics.LOG_FAILURES.labels("read").inc()
            raise Unavailable(f"the log could not be read: {type(error).__name__}: {error}") from error
        records: list[Record] = []
        for place, messages in found.items():
            if messages:
                self._next[TopicPartition(*place)] = messages[-1].offset + 1
                records += [one if type(one) is Record else _record(place, one) for one in messages]
        return records

    def _shorten(self) -> None:
        """Has what was fetched turned into our records at once: a tenth of the whole bulk path goes into aiokafka's.

        This reaches into aiokafka, and what it does not find there it leaves: `read` takes both kinds.
        """
        for result in getattr(self._fetcher, "_records", {}).values():
            if (parts := getattr(result, "_partition_records", None)) is not None:
                parts._consumer_record = _record

    async def close(self) -> None:
        await self._consumer.stop()


def _record(place: Any, found: Any) -> Record:
    """Our record of aiokafka's: of the one it reads, or of the one it gives out."""
    topic, partition = place
    # what `Record(…)` does, without the call between: this runs for every record that is read
    return tuple.__new__(
        Record, (topic, partition, found.offset, found.timestamp, found.key, found.value, present(found.headers))
    )
