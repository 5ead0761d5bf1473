"""The log in one process: the same promises as a broker's, for tests and for trying things out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self

from diurna_schemas.errors import Conflict, TooLarge, Unavailable, Unreadable
from diurna_schemas.topics import TOPICS, Topic
from diurna_streams.log.port import Log, Outgoing, Record, TopicPartition

BATCH_BYTES_MAX = 1_000_000


class MemoryLog(Log):
    """Lists of records behind the port. `clock_ms` gives the log's time; `fault` may refuse writes, for tests."""

    def __init__(
        self,
        *,
        clock_ms: Callable[[], int] = lambda: int(time.time() * 1000),
        fault: Callable[[str, int, Sequence[Outgoing]], None] | None = None,
    ) -> None:
        self._clock_ms = clock_ms
        self._fault = fault
        self._topics: dict[str, Topic] = {}
        self._records: dict[TopicPartition, list[Record]] = {}
        self._grown = asyncio.Event()
        self._members: dict[tuple[str, str], list[MemoryPlacement]] = {}

    async def producer(self) -> MemoryProducer:
        return MemoryProducer(self)

    async def reader(self, *, patience_ms: int = 0) -> MemoryReader:
        return MemoryReader(self)

    async def placement(self, topic: str, group: str, *, member: str | None = None) -> MemoryPlacement:
        members = self._members.setdefault((topic, group), [])
        placement = MemoryPlacement(lambda: self._leave(topic, group, placement))
        members.append(placement)
        self._share(topic, group)
        return placement

    async def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: len(self._records.get(partition, ())) for partition in partitions}

    async def offsets_at(self, partitions: Iterable[TopicPartition], at_ms: int) -> dict[TopicPartition, int]:
        return {
            partition: next(
                (record.offset for record in self._records.get(partition, ()) if record.timestamp_ms >= at_ms),
                len(self._records.get(partition, ())),
            )
            for partition in partitions
        }

    async def partitions(self, topic: str) -> int:
        return self._topics[topic].partitions if topic in self._topics else 0

    async def provision(self, topics: Iterable[Topic] = TOPICS.values(), *, replication: int = 1) -> list[str]:
        created: list[str] = []
        for topic in topics:
            there = self._topics.get(topic.name)
            if there is not None and there.partitions != topic.partitions:
                raise Conflict(
                    f"topic {topic.name} has {there.partitions} partitions where {topic.partitions} are needed"
                )
            if there is None:
                self._topics[topic.name] = topic
                created.append(topic.name)
                self._records.update({TopicPartition(topic.name, number): [] for number in range(topic.partitions)})
        return created

    async def close(self) -> None:
        return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def records(self, topic: str, partition: int) -> list[Record]:
        """All records of a partition, for tests to look at."""
        return list(self._records[TopicPartition(topic, partition)])

    def append(self, topic: str, partition: int, outgoing: Sequence[Outgoing]) -> int:
        """Writes records at once; raises what the fault raises."""
        if self._fault is not None:
            self._fault(topic, partition, outgoing)
        records = self._records.get(TopicPartition(topic, partition))
        if records is None:
            raise Unavailable(f"there is no partition {partition} of topic {topic}")
        size = sum(len(record.key or b"") + len(record.value or b"") for record in outgoing)
        if size > BATCH_BYTES_MAX:
            raise TooLarge("batch", size, BATCH_BYTES_MAX)
        first = len(records)
        now_ms = self._clock_ms()
        is_appended_time = self._topics[topic].time == "LogAppendTime"
        for offset, record in enumerate(outgoing, start=first):
            time_ms = now_ms if is_appended_time or record.timestamp_ms is None else record.timestamp_ms
            records.append(Record(topic, partition, offset, time_ms, record.key, record.value, tuple(record.headers)))
        self._grown.set()
        self._grown = asyncio.Event()
        return first

    def after(self, partition: TopicPartition, offset: int, records_max: int) -> list[Record]:
        """The records from an offset on."""
        return self._records[partition][offset : offset + records_max]

    async def grown(self, wait_ms: int) -> None:
        """Waits until something was written, at most `wait_ms`."""
        try:
            # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes with the event.
            async with asyncio.timeout(wait_ms / 1000):
                await self._grown.wait()
        except TimeoutError:
            return

    def _share(self, topic: str, group: str) -> None:
        members = self._members[topic, group]
        for index, member in enumerate(members):
            member.assign(frozenset(range(index, self._topics[topic].partitions, len(members))))

    def _leave(self, topic: str, group: str, placement: MemoryPlacement) -> None:
        members = self._members[topic, group]
        if placement in members:
            members.remove(placement)
            self._share(topic, group)


class MemoryProducer:
    """Appends at once, and yields to the loop as a real one does."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def send(self, topic: str, partition: int, record: Outgoing) -> int:
        return await self.send_batch(topic, partition, [record])

    async def send_batch(self, topic: str, partition: int, records: Sequence[Outgoing]) -> int:
        offset = self._log.append(topic, partition, records)
        await asyncio.sleep(0)
        return offset

    async def close(self) -> None:
        return


class MemoryReader:
    """Reads the lists from explicit offsets on."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._next: dict[TopicPartition, int] = {}

    async def start_at(self, offsets: Mapping[TopicPartition, int]) -> None:
        ends = await self._log.ends(offsets)
        for partition, offset in offsets.items():
            if offset > ends[partition]:
                raise Unreadable(f"{partition.topic}:{partition.partition} ends at {ends[partition]}, before {offset}")
        self._next.update(offsets)

    async def drop(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self._next.pop(partition, None)

    async def read(self, *, records_max: int = 500, wait_ms: int = 200) -> list[Record]:
        await asyncio.sleep(0)  # as a real one does: a reader that always finds something must not starve the others
        if not (found := self._take(records_max)):
            await self._log.grown(wait_ms)
            found = self._take(records_max)
        return found

    def _take(self, records_max: int) -> list[Record]:
        found: list[Record] = []
        for partition, offset in self._next.items():
            records = self._log.after(partition, offset, records_max - len(found))
            if records:
                found += records
                self._next[partition] = records[-1].offset + 1
        return found

    async def close(self) -> None:
        self._next.clear()


class MemoryPlacement:
    """A member's share of the partitions."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._changes: asyncio.Queue[frozenset[int]] = asyncio.Queue()

    def assign(self, partitions: frozenset[int]) -> None:
        """Gives it these partitions."""
        self._changes.put_nowait(partitions)

    async def changes(self) -> frozenset[int]:
        latest = await self._changes.get()
        while not self._changes.empty():
            latest = self._changes.get_nowait()
        return latest

    async def close(self) -> None:
        self._leave()
