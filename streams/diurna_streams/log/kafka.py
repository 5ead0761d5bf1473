"""The log on a Kafka broker: written with acks=all, read with whichever suits."""

# aiokafka carries no complete annotations; its objects stay inside this module.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportIncompatibleMethodOverride=false, reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, Self
from weakref import WeakSet

import aiokafka
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, TopicAlreadyExistsError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from diurna_schemas.errors import Conflict, Unavailable
from diurna_schemas.topics import Topic
from diurna_streams import metrics
from diurna_streams.log.librdkafka import LibrdkafkaReader
from diurna_streams.log.patient import PatientReader
from diurna_streams.log.port import Log, Reader, TopicPartition
from diurna_streams.log.producer import REQUEST_TIMEOUT_MS, KafkaProducer
from diurna_streams.log.quiet import quieten

SESSION_TIMEOUT_MS: Final = 6_000
HEARTBEAT_INTERVAL_MS: Final = 1_000
_METADATA_MAX_AGE_MS: Final = 30_000
_PATIENT_BYTES: Final = 1_000_000
_NEVER_MS: Final = 2**31 - 1
_ASKED_AGAIN_MS: Final = 10
"""Whoever asks about a topic for the first time waits this long, until aiokafka knows the topic."""


class KafkaLog(Log):
    """A Kafka cluster. `bootstrap_servers` is `host:port`, several joined by commas."""

    def __init__(self, bootstrap_servers: str, *, client_id: str = "diurna") -> None:
        quieten()
        self._servers = bootstrap_servers
        self._client_id = client_id
        self._numbers = itertools.count(1)
        self._readers: WeakSet[LibrdkafkaReader] = WeakSet()
        self._query: AIOKafkaConsumer | None = None
        self._query_lock = asyncio.Lock()

    @property
    def bootstrap_servers(self) -> str:
        """Where it is, for another one of it."""
        return self._servers

    def _name(self, role: str) -> str:
        return f"{self._client_id}-{role}-{next(self._numbers)}"

    async def producer(self) -> KafkaProducer:
        client = AIOKafkaClient(
            bootstrap_servers=self._servers,
            client_id=self._name("producer"),
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=_METADATA_MAX_AGE_MS,
        )
        try:
            await client.bootstrap()
        except (KafkaError, OSError) as error:
            await client.close()
            raise _not_connected(self._servers, error) from error
        return KafkaProducer(client)

    async def reader(self, *, patience_ms: int = 0) -> Reader:
        if patience_ms:
            return PatientReader(await self._consumer("patient", wait_ms=patience_ms, bytes_min=_PATIENT_BYTES))
        reader = LibrdkafkaReader(self._servers, self._name("reader"))
        self._readers.add(reader)
        return reader

    async def placement(self, topic: str, group: str, *, member: str | None = None) -> KafkaPlacement:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            client_id=self._name("placement"),
            group_id=group,
            group_instance_id=member,
            enable_auto_commit=False,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            max_poll_interval_ms=_NEVER_MS,  # it only places: records are read by a reader of its own
            auto_offset_reset="latest",
        )
        placement = KafkaPlacement(consumer)
        consumer.subscribe([topic], listener=placement)
        await _started(consumer, self._servers)
        return placement

    async def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        wanted = _kafka_partitions(partitions)
        async with self._asking("the first offsets") as consumer:
            found = await consumer.beginning_offsets(wanted) if wanted else {}
        return {TopicPartition(*partition): offset for partition, offset in found.items()}

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        wanted = _kafka_partitions(partitions)
        async with self._asking("the end offsets") as consumer:
            found = await consumer.end_offsets(wanted) if wanted else {}
        return {TopicPartition(*partition): offset for partition, offset in found.items()}

    async def offsets_at(self, partitions: Iterable[TopicPartition], at_ms: int) -> dict[TopicPartition, int]:
        wanted = _kafka_partitions(partitions)
        async with self._asking("offsets by time") as consumer:
            found = await consumer.offsets_for_times(dict.fromkeys(wanted, at_ms)) if wanted else {}
            ends = await consumer.end_offsets([partition for partition in wanted if found.get(partition) is None])
        return {
            TopicPartition(*partition): hit.offset if (hit := found.get(partition)) is not None else ends[partition]
            for partition in wanted
        }

    async def partitions(self, topic: str) -> int:
        # A consumer's metadata is as old as `metadata_max_age_ms`: it does not know a topic that was made just now.
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers, client_id=self._name("admin"))
        await _started(admin, self._servers)
        try:
            (described,) = await admin.describe_topics([topic])
        except (KafkaError, OSError) as error:
            raise Unavailable(f"{self._servers} did not describe {topic}: {type(error).__name__}: {error}") from error
        finally:
            await admin.close()
        return len(described["partitions"])

    async def provision(self, topics: Iterable[Topic], *, replication: int = 1) -> list[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers, client_id=self._name("admin"))
        await _started(admin, self._servers)
        try:
            there = set(await admin.list_topics())
            wanted = list(topics)
            missing = [topic for topic in wanted if topic.name not in there]
            created: list[str] = []
            if missing:
                # What was made just now may be missing in the list still: then it is there already, and no error.
                created = _created(await admin.create_topics([_new_topic(topic, replication) for topic in missing]))
            by_name = {topic.name: topic for topic in wanted}
            # Those made just now too: until the broker describes them, they have no partitions for anybody.
            for described in await _described(admin, list(by_name)) if by_name else ():
                _check_partitions(described, by_name)
            return created
        except (KafkaError, OSError) as error:
            raise Unavailable(f"the topics could not be provisioned at {self._servers}: {error}") from error
        finally:
            await admin.close()

    async def close(self) -> None:
        await asyncio.gather(*(reader.close() for reader in self._readers))
        if self._query is not None:
            await self._query.stop()
            self._query = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _consumer(
        self, role: str, *, wait_ms: int = 500, bytes_min: int = 1, retry_ms: int = 100
    ) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            client_id=self._name(role),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=wait_ms,
            fetch_min_bytes=bytes_min,
            retry_backoff_ms=retry_ms,
            max_partition_fetch_bytes=4 * 1024 * 1024,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=_METADATA_MAX_AGE_MS,
        )
        await _started(consumer, self._servers)
        return consumer

    @asynccontextmanager
    async def _asking(self, what: str) -> AsyncGenerator[AIOKafkaConsumer]:
        """One consumer for questions about offsets, kept: each new one would cost a connection."""
        async with self._query_lock:
            if self._query is None:
                self._query = await self._consumer("query", retry_ms=_ASKED_AGAIN_MS)
            try:
                yield self._query
            except (KafkaError, OSError) as error:
                metrics.LOG_FAILURES.labels("ask").inc()
                raise Unavailable(f"{self._servers} did not say {what}: {type(error).__name__}: {error}") from error


class KafkaPlacement(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped for mypy
    """A member of a consumer group that never fetches: the group only says which partitions are whose."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._changes: asyncio.Queue[frozenset[int]] = asyncio.Queue()

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        if list(revoked):
            self._changes.put_nowait(frozenset())

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        partitions = list(assigned)
        if partitions:
            self._consumer.pause(*partitions)
        self._changes.put_nowait(frozenset(partition.partition for partition in partitions))

    async def changes(self) -> frozenset[int]:
        latest = await self._changes.get()
        while not self._changes.empty():
            latest = self._changes.get_nowait()
        return latest

    async def close(self) -> None:
        await self._consumer.stop()


def _kafka_partitions(partitions: Iterable[TopicPartition]) -> list[aiokafka.TopicPartition]:
    return [aiokafka.TopicPartition(*partition) for partition in partitions]


async def _started(client: AIOKafkaConsumer | AIOKafkaAdminClient, servers: str) -> None:
    try:
        await client.start()
    except (KafkaError, OSError) as error:
        stop = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop
        await stop()
        raise _not_connected(servers, error) from error


def _not_connected(servers: str, error: Exception) -> Unavailable:
    metrics.LOG_FAILURES.labels("connect").inc()
    return Unavailable(f"Kafka does not answer at {servers}: {type(error).__name__}: {error}")


def _new_topic(topic: Topic, replication: int) -> NewTopic:
    return NewTopic(
        name=topic.name,
        num_partitions=topic.partitions,
        replication_factor=replication,
        topic_configs={
            "cleanup.policy": topic.cleanup,
            "retention.ms": str(topic.retention_ms),
            "message.timestamp.type": topic.time,
            "min.insync.replicas": "2" if replication > 2 else "1",
            **topic.config,
        },
    )


def _created(answer: Any) -> list[str]:
    for name, code, *rest in answer.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise KafkaError(f"{name}: error {code} {rest[0] if rest else ''}")
    return [name for name, code, *_rest in answer.topic_errors if code == 0]


async def _described(admin: AIOKafkaAdminClient, topics: list[str]) -> list[dict[str, Any]]:
    """What the broker says of topics that are there. One that was made just now may be unknown to it for a moment."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(KafkaError), wait=wait_fixed(0.05), stop=stop_after_delay(5), reraise=True
    ):
        with attempt:
            found: list[dict[str, Any]] = await admin.describe_topics(topics)
            if unknown := [one["topic"] for one in found if one["error_code"]]:
                raise KafkaError(f"the broker does not describe {', '.join(unknown)}")
            return found
    raise AssertionError("unreachable: the last attempt raises")


def _check_partitions(described: dict[str, Any], wanted: dict[str, Topic]) -> None:
    name, found = described["topic"], len(described["partitions"])
    if found != (expected := wanted[name].partitions):
        raise Conflict(
            f"topic {name} has {found} partitions where {expected} are needed: a key's partition must never change"
        )
