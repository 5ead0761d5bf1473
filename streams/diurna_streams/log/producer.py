"""Writes records to Kafka over aiokafka's connections: what one turn of the event loop brings is one batch a partition.

aiokafka's own producer took twice the CPU for a record that goes alone: see docs/explanation/log-clients.md.
"""

# aiokafka carries no complete annotations; its objects stay inside this module.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import aiokafka
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    RecordTooLargeError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from diurna_schemas.errors import TooLarge, Unavailable
from diurna_streams import metrics
from diurna_streams.log.port import Outgoing, TopicPartition

BATCH_BYTES_MAX: Final = 1_000_000
"""Just below a broker's default of 1 MiB a batch."""
REQUEST_TIMEOUT_MS: Final = 15_000
UNKNOWN_MS: Final = 5_000
"""So long may a partition be unknown to the broker, as one is that was made just now, before it counts as not there."""
RETRY_SECONDS: Final = 0.1
_ALL: Final = -1


class _Batch:
    """Records of one partition that the log takes whole or not at all, and who waits for their offsets."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._builder = DefaultRecordBatchBuilder(
            magic=2,
            compression_type=0,
            is_transactional=0,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            batch_size=BATCH_BYTES_MAX,
        )
        self._data: bytes | None = None
        self._count = 0
        self._waiting: list[tuple[int, asyncio.Future[int]]] = []
        self.began = loop.time()

    def add(self, record: Outgoing, now_ms: int) -> bool:
        """Takes the record, where there is room for it."""
        timestamp = now_ms if record.timestamp_ms is None else record.timestamp_ms
        added = self._builder.append(self._count, timestamp, record.key, record.value, list(record.headers))
        if added is None or (self._count == 0 and self._builder.size() > BATCH_BYTES_MAX):
            return False
        self._count += 1
        return True

    def offset(self) -> asyncio.Future[int]:
        """The offset of the record that was added last, once it is acknowledged."""
        future: asyncio.Future[int] = self._loop.create_future()
        self._waiting.append((self._count - 1, future))
        return future

    def data(self) -> bytes:
        """The batch as the log keeps it; nothing may be added any more."""
        if self._data is None:
            self._data = bytes(self._builder.build())
        return self._data

    def written(self, first_offset: int) -> None:
        for number, future in self._waiting:
            if not future.done():
                future.set_result(first_offset + number)

    def failed(self, error: Exception) -> None:
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(error)


class _Lane:
    """One partition's batches, in order. One is under way at a time, so none overtakes another."""

    def __init__(self, place: TopicPartition) -> None:
        self.place = place
        self.kafka_place = aiokafka.TopicPartition(*place)
        self.batches: deque[_Batch] = deque()
        self.open: _Batch | None = None
        """The last batch, while it takes more records."""
        self.is_busy = False
        self.failure: Exception | None = None
        """Why a batch is lost. Nothing follows it then: what comes later may have been made from it."""

    def put(self, batch: _Batch, *, is_open: bool) -> None:
        self.batches.append(batch)
        self.open = batch if is_open else None

    def fail(self, batch: _Batch, error: Exception) -> None:
        self.failure = error
        batch.failed(error)
        while self.batches:
            self.batches.popleft().failed(self.lost())
        self.open = None

    def lost(self) -> Unavailable:
        """What those are told whose records would have followed the one that is lost."""
        return Unavailable(f"{self.place.topic}:{self.place.partition} lost a record before: {self.failure}")

    def take(self) -> _Batch:
        """The first batch: it is under way now."""
        batch = self.batches.popleft()
        if batch is self.open:
            self.open = None
        self.is_busy = True
        return batch


_Parcel = list[tuple[_Lane, _Batch]]
"""What goes to one broker in one request."""


class KafkaProducer:
    """Writes with acks=all. What fails in a way that may pass is written again for as long as a request may take.

    So a record may stand on the log twice: readers know the second one by its id, or by its link in the chain.
    """

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[TopicPartition, _Lane] = {}
        self._is_flushing = False
        self._under_way: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def send(self, topic: str, partition: int, record: Outgoing) -> int:
        lane = self._lane(topic, partition)
        now_ms = time.time_ns() // 1_000_000
        batch = lane.open
        if batch is None or not batch.add(record, now_ms):
            batch = _Batch(self._loop)
            if not batch.add(record, now_ms):
                raise TooLarge("record", _size([record]), BATCH_BYTES_MAX)
            lane.put(batch, is_open=True)
        return await self._acknowledged(lane, batch)

    async def send_batch(self, topic: str, partition: int, records: Sequence[Outgoing]) -> int:
        lane = self._lane(topic, partition)
        now_ms = time.time_ns() // 1_000_000
        batch = _Batch(self._loop)
        if not all(batch.add(record, now_ms) for record in records):
            raise TooLarge("batch", _size(records), BATCH_BYTES_MAX)
        lane.put(batch, is_open=False)
        return await self._acknowledged(lane, batch) - len(records) + 1

    async def close(self) -> None:
        """Lets what is under way arrive, unless something failed before."""
        self._is_closed = True
        while (self._under_way or self._is_flushing) and not any(lane.failure for lane in self._lanes.values()):
            await asyncio.wait(self._under_way) if self._under_way else await asyncio.sleep(0)
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        for lane in self._lanes.values():
            while lane.batches:
                lane.take().failed(_closed(lane.place))
        await self._client.close()

    def _lane(self, topic: str, partition: int) -> _Lane:
        place = TopicPartition(topic, partition)
        lane = self._lanes.get(place)
        if self._is_closed:
            raise _closed(place)
        if lane is None:
            lane = self._lanes[place] = _Lane(place)
            lane.is_busy = True
            self._begin(self._open(lane))
        elif lane.failure is not None:
            raise lane.lost()
        return lane

    async def _open(self, lane: _Lane) -> None:
        """Finds out who leads the partition; what is sent meanwhile waits in order."""
        try:
            await self._client.add_topic(lane.place.topic)
        finally:
            lane.is_busy = False
            self._flush_soon()

    async def _acknowledged(self, lane: _Lane, batch: _Batch) -> int:
        """The offset of the record that was added last, once the log has it."""
        offset = batch.offset()
        self._flush_soon()
        return await offset

    # --- on the way -------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        """With the next turn of the loop, so that all of this turn goes together."""
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        parcels: dict[int, _Parcel] = {}
        for lane in self._lanes.values():
            if lane.batches and not lane.is_busy:
                leader = self._client.cluster.leader_for_partition(lane.kafka_place)
                parcels.setdefault(_NOBODY if leader is None else leader, []).append((lane, lane.take()))
        for node, parcel in parcels.items():
            self._begin(self._deliver(node, parcel))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _deliver(self, node: int, parcel: _Parcel) -> None:
        """Sends one request, and tells everybody in it how it ended."""
        try:
            errors = await self._errors(node, parcel)
            if errors and self._is_put_back(parcel, errors):
                await self._client.force_metadata_update()
                await asyncio.sleep(RETRY_SECONDS)
        except asyncio.CancelledError:
            for lane, batch in parcel:
                batch.failed(_closed(lane.place))
            raise
        finally:
            for lane, _ in parcel:
                lane.is_busy = False
        if any(lane.batches for lane, _ in parcel):
            self._flush_soon()

    async def _errors(self, node: int, parcel: _Parcel) -> dict[TopicPartition, Exception]:
        """Sends the request and returns what went wrong, by partition."""
        if node == _NOBODY:
            return {lane.place: self._why_nobody(lane.place) for lane, _ in parcel}
        topics: dict[str, list[tuple[int, bytes]]] = {}
        for lane, batch in parcel:
            topics.setdefault(lane.place.topic, []).append((lane.place.partition, batch.data()))
        request = ProduceRequest(None, _ALL, REQUEST_TIMEOUT_MS, list(topics.items()))
        try:
            response = await self._client.send(node, request)
        except (KafkaError, OSError) as error:
            return {lane.place: error for lane, _ in parcel}
        batches = {lane.place: batch for lane, batch in parcel}
        errors: dict[TopicPartition, Exception] = {}
        for topic, partitions in response.topics:
            for partition, code, offset, *_rest in partitions:
                place = TopicPartition(topic, partition)
                if code:
                    errors[place] = for_code(code)()
                else:
                    batches[place].written(offset)
        return errors

    def _why_nobody(self, place: TopicPartition) -> Exception:
        """Why nobody leads a partition: it is unknown, or whoever led it is away."""
        is_known = place.partition in (self._client.cluster.partitions_for_topic(place.topic) or ())
        why: Exception = NotLeaderForPartitionError() if is_known else UnknownTopicOrPartitionError()
        return why

    def _is_put_back(self, parcel: _Parcel, errors: dict[TopicPartition, Exception]) -> bool:
        """Puts back what may be tried again, and gives up the rest."""
        is_any = False
        for lane, batch in parcel:
            error = errors.get(lane.place)
            if error is None:
                continue
            age_ms = (self._loop.time() - batch.began) * 1000
            patience_ms = UNKNOWN_MS if isinstance(error, UnknownTopicOrPartitionError) else REQUEST_TIMEOUT_MS
            if _may_pass(error) and age_ms < patience_ms and not self._is_closed:
                lane.batches.appendleft(batch)
                is_any = True
            else:
                lane.fail(batch, _failure(lane.place, batch, error))
        return is_any


_NOBODY: Final = -1
"""No broker leads the partition, as far as is known."""


def _may_pass(error: Exception) -> bool:
    return isinstance(error, OSError) or getattr(error, "retriable", False)


def _failure(place: TopicPartition, batch: _Batch, error: Exception) -> Exception:
    if isinstance(error, MessageSizeTooLargeError | RecordTooLargeError):
        return TooLarge("batch", len(batch.data()), BATCH_BYTES_MAX)
    metrics.LOG_FAILURES.labels("write").inc()
    return Unavailable(
        f"{place.topic}:{place.partition} did not acknowledge the write: {type(error).__name__}: {error}"
    )


def _closed(place: TopicPartition) -> Unavailable:
    return Unavailable(f"{place.topic}:{place.partition} did not acknowledge the write: the producer was closed")


def _size(records: Sequence[Outgoing]) -> int:
    """About how many bytes the records are."""
    return sum(
        len(record.key or b"")
        + len(record.value or b"")
        + sum(len(name) + len(value) for name, value in record.headers)
        for record in records
    )
