"""A log that can only be read: what replays with changed rules is shown this one, so that it can have no effect."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn, Self

from diurna_schemas.errors import Refused
from diurna_schemas.topics import Topic
from diurna_streams.log.port import Log, Reader, TopicPartition


class Barrier(Log):
    """Lets reads through, and refuses everything else."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def reader(self, *, patience_ms: int = 0) -> Reader:
        return await self._log.reader(patience_ms=patience_ms)

    async def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._log.starts(partitions)

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._log.ends(partitions)

    async def offsets_at(self, partitions: Iterable[TopicPartition], at_ms: int) -> dict[TopicPartition, int]:
        return await self._log.offsets_at(partitions, at_ms)

    async def partitions(self, topic: str) -> int:
        return await self._log.partitions(topic)

    async def producer(self) -> NoReturn:
        raise Refused("nothing is written in a replay", code="side_effect")

    async def placement(self, topic: str, group: str, *, member: str | None = None) -> NoReturn:
        raise Refused(f"no group of {topic} is joined in a replay", code="side_effect")

    async def provision(self, topics: Iterable[Topic], *, replication: int = 1) -> NoReturn:
        raise Refused("no topic is made in a replay", code="side_effect")

    async def close(self) -> None:
        """The log behind it belongs to somebody else."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return
