"""Reading a Kafka log with librdkafka: a thread waits in C, and hands what came to the event loop in one piece.

Measured against aiokafka's consumer in the same path: see docs/explanation/log-clients.md.
"""

# confluent-kafka's annotations are partial; its objects stay inside this module.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as Place

from diurna_schemas.errors import Unavailable, Unreadable
from diurna_streams import metrics
from diurna_streams.log.port import Record, TopicPartition, present

logger = logging.getLogger(__name__)
"""Not structlog's, which prints even this to the standard output of a program that has not set it up."""

QUEUED_KBYTES_MAX: Final = 16_384
HANDED_RECORDS_MAX: Final = 20_000
HANDED_BYTES_MAX: Final = 8 * 2**20
"""Records the loop has not taken yet, and their values; the thread waits while there are more."""
POLL_SECONDS: Final = 0.05
"""How long a new assignment may have to wait for the thread."""
DRAIN_RECORDS_MAX: Final = 2_000
FETCH_WAIT_MS: Final = 500


class LibrdkafkaReader:
    """A reader in no group. Its thread only assigns and polls; everything else happens on the loop."""

    def __init__(self, servers: str, client_id: str) -> None:
        self._name = client_id
        self._options: dict[str, Any] = {
            "bootstrap.servers": servers,
            "client.id": client_id,
            "group.id": client_id,  # required, and never joined: partitions are assigned, nothing is committed
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "fetch.min.bytes": 1,
            "fetch.queue.backoff.ms": 1,  # its default of 1 s caps a replay at a tenth of the speed
            "queued.max.messages.kbytes": QUEUED_KBYTES_MAX,
            "enable.partition.eof": False,
            "allow.auto.create.topics": False,
            "log_level": 2,  # what matters comes back as an error; lost connections do not, it mends them itself
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "error_cb": _note,
        }
        self._loop = asyncio.get_running_loop()
        self._next: dict[TopicPartition, int] = {}
        self._handed: deque[Message] = deque()
        self._given = _Amount()
        """What the thread handed over so far: only the thread counts there."""
        self._taken = _Amount()
        """What was taken of it, or dropped: only the loop counts there. The rest waits, be it on its way still."""
        self._arrival: asyncio.Future[None] | None = None
        self._room = threading.Event()
        self._room.set()
        self._failure: Exception | None = None
        self._generation = 0
        self._assignments: deque[_Assignment] = deque()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    async def start_at(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._next.update(offsets)
        await self._assign()

    async def drop(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self._next.pop(partition, None)
        await self._assign()

    async def _assign(self) -> None:
        """Has the thread assign: called beside a poll, librdkafka's assign never returned (confluent-kafka 2.16).

        Whatever was handed over for an older assignment is dropped, and comes again where it is still wanted.
        """
        self._generation += 1
        self._taken.add(self._handed)
        self._handed.clear()
        self._room.set()
        places = [Place(topic, partition, offset) for (topic, partition), offset in self._next.items()]
        assignment = _Assignment(self._generation, places, self._loop.create_future())
        self._assignments.append(assignment)
        if self._thread is None:
            # Not earlier: a consumer that is connected and has nothing to read takes a second to begin.
            consumer = Consumer(self._options)
            self._thread = threading.Thread(target=self._poll, args=(consumer,), name=self._name, daemon=True)
            self._thread.start()
        await assignment.done

    async def read(self, *, records_max: int = 500, wait_ms: int = 200) -> list[Record]:
        if not self._handed and self._failure is None:
            await self._arrives(wait_ms / 1000)
        if self._handed:
            return self._take(records_max)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return []

    async def _arrives(self, seconds: float) -> None:
        """Waits until something is handed over. A bare timer: `asyncio.timeout` costs more than all else here."""
        arrival = self._arrival = self._loop.create_future()
        timer = self._loop.call_later(seconds, _settle, arrival, None)
        try:
            await arrival
        finally:
            timer.cancel()
            self._arrival = None

    def _take(self, records_max: int) -> list[Record]:
        handed, records = self._handed, list[Record]()
        taken = [handed.popleft() for _ in range(min(records_max, len(handed)))]
        for message in taken:
            record = _record(message)
            self._next[TopicPartition(record.topic, record.partition)] = record.offset + 1
            records.append(record)
        self._taken.add(taken)
        self._make_room()
        return records

    def _is_full(self) -> bool:
        waiting_bytes = self._given.bytes - self._taken.bytes
        return self._given.records - self._taken.records > HANDED_RECORDS_MAX or waiting_bytes > HANDED_BYTES_MAX

    def _make_room(self) -> None:
        if not self._room.is_set() and not self._is_full():
            self._room.set()

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._room.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    # --- the thread -------------------------------------------------------------------------------------

    def _poll(self, consumer: Consumer) -> None:
        """Waits for one message, takes what else is there, hands it over; closes the consumer in the end."""
        generation = 0
        with suppress(RuntimeError):  # the loop is closed, and nobody reads any more
            while not self._is_closed:
                self._room.wait()
                while self._assignments:
                    generation = self._assign_in_thread(consumer, self._assignments.popleft())
                first = consumer.poll(POLL_SECONDS)
                if first is None or self._is_closed:
                    continue
                messages = [first, *consumer.consume(DRAIN_RECORDS_MAX, 0)]
                self._given.add(messages)
                if self._is_full():  # cleared before they are handed over: whoever takes them makes room again
                    self._room.clear()
                self._loop.call_soon_threadsafe(self._hand_over, messages, generation)
        consumer.close()

    def _assign_in_thread(self, consumer: Consumer, assignment: _Assignment) -> int:
        failure: Exception | None = None
        try:
            consumer.assign(assignment.places)
        except KafkaException as error:
            failure = Unavailable(f"partitions could not be assigned: {error}")
        self._loop.call_soon_threadsafe(_settle, assignment.done, failure)
        return assignment.generation

    def _hand_over(self, messages: list[Message], generation: int) -> None:
        """On the loop: takes what the thread got, unless another assignment was asked for meanwhile."""
        if generation != self._generation:
            self._taken.add(messages)
            self._make_room()
            return
        for message in messages:
            error = message.error()
            if error is None:
                self._handed.append(message)
                continue
            self._taken.add([message])
            if (failure := _failure(error)) is not None:
                self._failure = failure
        self._make_room()
        if self._arrival is not None:
            _settle(self._arrival, None)


class _Amount:
    """How many messages, and how many bytes of values."""

    def __init__(self) -> None:
        self.records = 0
        self.bytes = 0

    def add(self, messages: Collection[Message]) -> None:
        self.records += len(messages)
        self.bytes += sum(map(len, messages))


class _Assignment(NamedTuple):
    """What is to be read from now on. Every assignment has a number, so that older ones' records are known."""

    generation: int
    places: list[Place]
    done: asyncio.Future[None]


def _record(message: Message) -> Record:
    headers = cast("list[tuple[str, bytes | None]] | None", message.headers())
    return Record(
        message.topic() or "",
        cast("int", message.partition()),
        cast("int", message.offset()),
        message.timestamp()[1],
        message.key(),
        message.value(),
        present(headers) if headers else (),
    )


def _note(error: KafkaError) -> None:
    """Errors librdkafka tells and goes on from, such as a broker that is away."""
    logger.debug("librdkafka: %s", error)


def _settle(done: asyncio.Future[None], failure: Exception | None) -> None:
    if done.done():
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)


def _failure(error: KafkaError) -> Exception | None:
    """What an error means to the reader; none where librdkafka goes on by itself."""
    if error.code() in {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}:  # pyright: ignore[reportPrivateUsage]
        return Unreadable(f"records are gone from the log: {error}")
    if error.retriable():
        return None
    metrics.LOG_FAILURES.labels("read").inc()
    return Unavailable(f"the log could not be read: {error}")
