"""Writes what is to be appended: what comes in one turn of the loop, or while a batch is on its way, goes together.

What belongs to one thread becomes one record: a step's checkpoint and what its tasks wrote cost one record's price. So
do several steps of a run that waits for none of them and hurries on: they are gathered until it pauses.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from diurna_schemas.catalogue import full_name
from diurna_schemas.checkpoints import INLINE_BYTES_MAX, ThreadAdvanced, ValueChunk
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import cloud_event
from diurna_schemas.errors import Unavailable
from diurna_schemas.topics import CHECKPOINTS, partition_of
from diurna_streams.log import Log, Outgoing, Producer
from diurna_workflows.checkpointer.drafts import CheckpointDraft, Draft, RecordDraft, WritesDraft

BATCH_BYTES_MAX: Final = 900_000
"""Below what a producer takes, with room for what a record costs beside its value."""
GATHER_SECONDS_MAX: Final = 0.1
"""How long a step is kept from the log, at most, because its run hurries on."""
QUIET_TURNS: Final = 8
"""After so many turns of the loop without another draft a run has paused; LangGraph's steps are five turns apart."""
RESEND_SECONDS_MAX: Final = 60.0
QUEUED_BYTES_MAX: Final = 64 * 1024 * 1024
SOURCE: Final = "/checkpointers"
_RECORD_BYTES: Final = 100
_ADVANCED: Final = full_name(ThreadAdvanced)


class Appended(Protocol):
    """The thread a draft is for, as far as its records name it."""

    thread_id: str
    is_known: bool

    @property
    def token(self) -> int: ...

    def next_record(self) -> int:
        """The number of the next record, within what was written with this token."""
        ...


class _Item(NamedTuple):
    thread: Appended
    draft: Draft


class _Ready(NamedTuple):
    """A record, and what is durable once it is."""

    record: Outgoing
    completes: list[_Item]


Settle = Callable[[Appended, Draft, int | BaseException], None]
"""Told the offset at which a draft is durable, or why it may not be."""


class Outbox:
    """One producer for all threads, renewed after every error. What is appended to a thread stays in order."""

    def __init__(self, log: Log, codec: Codec, clock_ms: Callable[[], int], settle: Settle) -> None:
        self._log = log
        self._codec = codec
        self._clock_ms = clock_ms
        self._settle = settle
        self._producer: Producer | None = None
        self._renewing = asyncio.Lock()
        self._queues: dict[int, deque[_Item]] = {}
        self._flushing: dict[int, asyncio.Task[None]] = {}
        self._queued_bytes = 0
        self._has_room = asyncio.Event()
        self._has_room.set()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self._flushing

    async def room(self) -> None:
        """Waits while too much is on its way."""
        while self._queued_bytes > QUEUED_BYTES_MAX:
            self._has_room.clear()
            await self._has_room.wait()

    def put(self, thread: Appended, draft: Draft) -> None:
        """Queues a draft."""
        partition = partition_of(thread.thread_id)
        self._queues.setdefault(partition, deque()).append(_Item(thread, draft))
        self._queued_bytes += draft.size
        if partition not in self._flushing:
            task = asyncio.create_task(self._flush(partition), name=f"checkpoints {partition}")
            self._flushing[partition] = task

    async def close(self) -> None:
        """Writes what is queued, and closes the producer."""
        await asyncio.gather(*self._flushing.values(), return_exceptions=True)
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close()

    async def _flush(self, partition: int) -> None:
        queue = self._queues[partition]
        try:
            while queue:
                await _gathered(queue)
                items = _next_items(queue)
                try:
                    await self._write_all(partition, items)
                finally:
                    self._queued_bytes -= sum(item.draft.size for item in items)
                    self._has_room.set()
        finally:
            del self._flushing[partition]

    async def _write_all(self, partition: int, items: list[_Item]) -> None:
        ready = self._ready(items)
        left = {item: None for one in ready for item in one.completes}
        error: BaseException = Unavailable("the saver was closed while this was on its way")
        try:
            for batch in _batches(ready):
                offset = await self._write(partition, [one.record for one in batch])
                for number, one in enumerate(batch):
                    for item in one.completes:
                        del left[item]
                        self._settle(*item, offset + number)
        except Exception as caught:
            error = caught
        finally:
            for item in left:
                self._settle(*item, error)

    def _ready(self, items: list[_Item]) -> list[_Ready]:
        """The records of these drafts, thread by thread: among threads there is no order."""
        by_thread: dict[str, list[_Item]] = {}
        for item in items:
            by_thread.setdefault(item.thread.thread_id, []).append(item)
        at_ms = self._clock_ms()
        found: list[_Ready] = []
        for some in by_thread.values():
            try:
                found += [record for group in _groups(some) for record in self._records(group, at_ms)]
            except Exception as error:  # whatever the encoder makes of it: the other threads have no part in that
                for item in some:
                    self._settle(*item, error)
        return found

    def _records(self, group: list[_Item], at_ms: int) -> Iterator[_Ready]:
        """Large values in chunks, then the record that names them."""
        thread, first = group[0]
        if not thread.is_known:
            raise Unavailable(f"an earlier write to thread {thread.thread_id!r} failed")
        for item in group:
            for digest, parts in item.draft.chunks:
                for index, part in enumerate(parts):
                    chunk = ValueChunk(
                        thread_id=thread.thread_id,
                        token=thread.token,
                        sha256=digest,
                        index=index,
                        count=len(parts),
                        data=part,
                    )
                    yield _Ready(self._outgoing(thread, chunk.type_name, self._codec.encode(chunk), at_ms), [])
        if isinstance(first, RecordDraft):
            record = first.record.model_copy(update={"token": thread.token})
            value, type_name = self._codec.encode(record), record.type_name
        else:
            drafts = [item.draft for item in group]
            fields = {
                "thread_id": thread.thread_id,
                "token": thread.token,
                "checkpoints": [draft.fields for draft in drafts if isinstance(draft, CheckpointDraft)],
                "writes": [draft.fields for draft in drafts if isinstance(draft, WritesDraft)],
            }
            value, type_name = self._codec.encode_fields(_ADVANCED, fields), ThreadAdvanced.type_name
        yield _Ready(self._outgoing(thread, type_name, value, at_ms), group)

    def _outgoing(self, thread: Appended, type_name: str, value: bytes, at_ms: int) -> Outgoing:
        headers = cloud_event(
            id=f"{thread.thread_id}/{thread.token}/{thread.next_record()}",
            type_name=type_name,
            source=SOURCE,
            subject=thread.thread_id,
            at_ms=at_ms,
            correlation_id=thread.thread_id,
        )
        return Outgoing(thread.thread_id.encode(), value, headers)

    async def _write(self, partition: int, records: Sequence[Outgoing]) -> int:
        try:
            return await self._write_once(partition, records)
        except Unavailable:
            retrying = AsyncRetrying(
                retry=retry_if_exception_type(Unavailable),
                stop=stop_after_delay(RESEND_SECONDS_MAX),
                wait=wait_random_exponential(multiplier=0.1, max=2),
                reraise=True,
            )
            return await retrying(self._write_once, partition, records)

    async def _write_once(self, partition: int, records: Sequence[Outgoing]) -> int:
        producer = self._producer or await self._renewed()
        try:
            return await producer.send_batch(CHECKPOINTS, partition, records)
        except BaseException:
            await self._discard(producer)
            raise

    async def _renewed(self) -> Producer:
        async with self._renewing:
            if self._producer is None:
                self._producer = await self._log.producer()
            return self._producer

    async def _discard(self, producer: Producer) -> None:
        """A producer may stick after an error."""
        if self._producer is producer:
            self._producer = None
        await producer.close()


async def _gathered(queue: deque[_Item]) -> None:
    """Waits for what else this turn brings, and for a run's next steps as long as it hurries on."""
    await asyncio.sleep(0)
    queued, size, quiet_turns, until = 0, 0, 0, time.monotonic() + GATHER_SECONDS_MAX
    while quiet_turns < QUIET_TURNS and size < BATCH_BYTES_MAX and time.monotonic() < until:
        quiet_turns += 1
        for item in islice(queue, queued, None):
            if not item.draft.can_wait:
                return
            queued, quiet_turns = queued + 1, 0
            size += item.draft.size
        await asyncio.sleep(0)


def _next_items(queue: deque[_Item]) -> list[_Item]:
    """As many as fit into a batch or so, and one at least."""
    items = [queue.popleft()]
    size = items[0].draft.size
    while queue and size + queue[0].draft.size <= BATCH_BYTES_MAX:
        size += queue[0].draft.size
        items.append(queue.popleft())
    return items


def _groups(items: list[_Item]) -> Iterator[list[_Item]]:
    """What can stand in one record: checkpoints and writes, as long as their values fit into it."""
    group: list[_Item] = []
    size = 0
    for item in items:
        draft = item.draft
        is_alone = isinstance(draft, RecordDraft)
        if group and (
            is_alone or isinstance(group[0].draft, RecordDraft) or size + draft.inline_bytes > INLINE_BYTES_MAX
        ):
            yield group
            group, size = [], 0
        group.append(item)
        size += draft.inline_bytes
    if group:
        yield group


def _batches(ready: list[_Ready]) -> Iterator[list[_Ready]]:
    batch: list[_Ready] = []
    size = 0
    for one in ready:
        record_size = _size_of(one.record)
        if batch and size + record_size > BATCH_BYTES_MAX:
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += record_size
    if batch:
        yield batch


def _size_of(record: Outgoing) -> int:
    headers = sum(len(name) + len(value) + 4 for name, value in record.headers)
    return len(record.value or b"") + len(record.key or b"") + headers + _RECORD_BYTES
