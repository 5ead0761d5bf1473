"""What a log can do: the narrow port through which all records pass, Faust's projector alone excepted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self, cast

from diurna_schemas.envelope import Headers
from diurna_schemas.ids import Position
from diurna_schemas.topics import Topic


class TopicPartition(NamedTuple):
    """One ordered sequence of records."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be written. Without `timestamp_ms` the time of sending is taken."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


class Record(NamedTuple):
    """A record as it stands on the log. `timestamp_ms` is milliseconds UTC. A tuple: millions of them are made."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def position(self) -> Position:
        return Position(self.topic, self.partition, self.offset)


def present(headers: Sequence[tuple[str, bytes | None]]) -> Headers:
    """Headers without null values, which Kafka allows and hardly anybody writes."""
    for _, value in headers:
        if value is None:
            return tuple((name, value or b"") for name, value in headers)
    return cast("Headers", tuple(headers))


class Producer(Protocol):
    """Writes records. What is sent to one partition lands in the order of the calls.

    After any error its state is unknown, and what was sent to that partition afterwards fails too: close it and take a
    new one.
    """

    async def send(self, topic: str, partition: int, record: Outgoing) -> int:
        """Writes one record, together with others of the same moment, and returns its offset once it is durable.

        Raises `Unavailable` where the log did not acknowledge it: it may or may not be there.
        """
        ...

    async def send_batch(self, topic: str, partition: int, records: Sequence[Outgoing]) -> int:
        """Writes the records as one batch, all or none, and returns the first one's offset.

        Raises `TooLarge` where they do not fit into one batch, `Unavailable` where the log did not acknowledge them.
        """
        ...

    async def close(self) -> None: ...


class Reader(Protocol):
    """Reads partitions from explicit offsets on. It belongs to no group and commits nothing."""

    async def start_at(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Reads these partitions too, from these offsets on; one that is read already is sought there."""
        ...

    async def drop(self, partitions: Iterable[TopicPartition]) -> None:
        """Reads these partitions no longer; nothing of them is returned afterwards."""
        ...

    async def read(self, *, records_max: int = 500, wait_ms: int = 200) -> list[Record]:
        """The next records, in order within each partition; empty where none came within `wait_ms`.

        Raises `Unreadable` where the next offset is gone from the log: silently skipping is what it never does.
        """
        ...

    async def close(self) -> None: ...


class Placement(Protocol):
    """Which partitions of a topic this process looks after, shared out among all members of a group.

    A hint and nothing more: two members may believe for a while that they have the same partition.
    """

    async def changes(self) -> frozenset[int]:
        """Waits for the next change and returns the partitions that are this member's now."""
        ...

    async def close(self) -> None: ...


class Log(Protocol):
    """A whole log."""

    async def producer(self) -> Producer:
        """A started producer of its own."""
        ...

    async def reader(self, *, patience_ms: int = 0) -> Reader:
        """A started reader of its own, which reads nothing yet.

        With `patience_ms` records may come that much later, many at a time, and cost less: for followers, and for
        long stretches of the log.
        """
        ...

    async def placement(self, topic: str, group: str, *, member: str | None = None) -> Placement:
        """Joins a group. A `member` that comes back under its name gets its partitions back at once."""
        ...

    async def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset of each partition that is still there."""
        ...

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition."""
        ...

    async def offsets_at(self, partitions: Iterable[TopicPartition], at_ms: int) -> dict[TopicPartition, int]:
        """The offset of each partition's first record at or after a time; its end where there is none."""
        ...

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 where it is not there."""
        ...

    async def provision(self, topics: Iterable[Topic], *, replication: int = 1) -> list[str]:
        """Creates the topics that are missing and returns their names.

        Raises `Conflict` where one is there with another number of partitions.
        """
        ...

    async def close(self) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...
