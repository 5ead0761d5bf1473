"""What a saver reads: a small port, fulfilled by the tables in Postgres, or by folding the log in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

import structlog

from diurna_projections.memory import MemoryTables
from diurna_projections.thread_rows import CheckpointBlob, CheckpointWrites
from diurna_projections.threads import Accept, Ancestor, FoldedThreads, Found, Key, Keys, Saved, Summary, Wanted
from diurna_schemas.chain import Head
from diurna_schemas.codec import Codec, schema_id_of
from diurna_schemas.errors import DiurnaError, TimedOut, Unreadable
from diurna_schemas.ids import Position
from diurna_schemas.topics import CHECKPOINTS, TOPICS
from diurna_streams.decide.follower import Learn
from diurna_streams.log import Log, Record, TopicPartition

logger = structlog.get_logger(__name__)

_RETRY_SECONDS: Final = 0.5
_READ_RECORDS_MAX: Final = 5_000


class ReadsThreads(Protocol):
    """The threads as some position of the log left them."""

    async def passed(self, positions: Iterable[Position], *, seconds: float) -> None:
        """Waits until answers hold these records. Raises `TimedOut`, or `Unavailable` where that cannot be known."""
        ...

    async def get(self, thread_id: str, checkpoint_ns: str, checkpoint_id: str | None) -> Found:
        """A checkpoint, the newest of the namespace where none is named."""
        ...

    async def summary(self, thread_id: str) -> Summary:
        """The thread and the newest checkpoint of each namespace."""
        ...

    async def keys(self, thread_id: str) -> Keys:
        """Everything the thread has."""
        ...

    async def page(self, wanted: Wanted, *, limit: int, accept: Accept | None = None) -> list[Saved]:
        """The first `limit` checkpoints that are wanted and accepted, newest first."""
        ...

    async def keys_of_runs(self, run_ids: Iterable[str]) -> list[Key]:
        """The checkpoints that these runs made."""
        ...

    async def chain(self, key: Key) -> list[Ancestor]:
        """The ancestors of a checkpoint, nearest first."""
        ...

    async def blobs(
        self, thread_id: str, checkpoint_ns: str, versions: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], CheckpointBlob]:
        """The values of channels at versions, as far as there are any, by channel and version."""
        ...

    async def writes(self, thread_id: str, checkpoint_ns: str, checkpoint_ids: Iterable[str]) -> list[CheckpointWrites]:
        """What was written after these checkpoints, in order within each."""
        ...

    async def close(self) -> None: ...


class FollowedThreads:
    """Folds every thread of the log in memory, from the first record on: for tests, and where there is no Postgres.

    It holds all checkpoints there are, and reads the whole topic before its first answer.
    """

    def __init__(self, log: Log, codec: Codec, *, learn: Learn | None = None) -> None:
        self._log = log
        self._codec = codec
        self._learn = learn
        self._memory = MemoryTables(codec)
        self._threads = FoldedThreads(self._memory.tables, self._next_of)
        self._moved = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def passed(self, positions: Iterable[Position], *, seconds: float) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name="diurna-threads")
        wanted = list(positions)

        def is_there() -> bool:
            heads = self._memory.heads
            return all(heads.get((one.topic, one.partition), Head()).next_offset > one.offset for one in wanted)

        try:
            async with asyncio.timeout(seconds), self._moved:
                await self._moved.wait_for(is_there)
        except TimeoutError as error:
            raise TimedOut(f"the fold of the log to pass {', '.join(map(str, wanted[:3]))}", seconds) from error

    async def get(self, thread_id: str, checkpoint_ns: str, checkpoint_id: str | None) -> Found:
        return self._threads.get(thread_id, checkpoint_ns, checkpoint_id)

    async def summary(self, thread_id: str) -> Summary:
        return self._threads.summary(thread_id)

    async def keys(self, thread_id: str) -> Keys:
        return self._threads.keys(thread_id)

    async def page(self, wanted: Wanted, *, limit: int, accept: Accept | None = None) -> list[Saved]:
        return self._threads.page(wanted, limit=limit, accept=accept)

    async def keys_of_runs(self, run_ids: Iterable[str]) -> list[Key]:
        return self._threads.keys_of_runs(run_ids)

    async def chain(self, key: Key) -> list[Ancestor]:
        return self._threads.chain(key)

    async def blobs(
        self, thread_id: str, checkpoint_ns: str, versions: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], CheckpointBlob]:
        return self._threads.blobs(thread_id, checkpoint_ns, versions)

    async def writes(self, thread_id: str, checkpoint_ns: str, checkpoint_ids: Iterable[str]) -> list[CheckpointWrites]:
        return self._threads.writes(thread_id, checkpoint_ns, checkpoint_ids)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def _next_of(self, partition: int) -> int:
        return self._memory.heads.get((CHECKPOINTS, partition), Head()).next_offset

    async def _follow(self) -> None:
        while True:
            try:
                await self._read()
            except DiurnaError as error:
                logger.warning("following threads starts again", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _read(self) -> None:
        heads = self._memory.heads
        places = [TopicPartition(CHECKPOINTS, number) for number in range(TOPICS[CHECKPOINTS].partitions)]
        reader = await self._log.reader()
        try:
            await reader.start_at({place: heads.get(place, Head()).next_offset for place in places})
            while True:
                records = await reader.read(records_max=_READ_RECORDS_MAX, wait_ms=1_000)
                if records:
                    await self._learn_all(records)
                    self._memory.apply(records)
                    async with self._moved:
                        self._moved.notify_all()
        finally:
            await reader.close()

    async def _learn_all(self, records: Iterable[Record]) -> None:
        for record in records:
            with suppress(Unreadable):  # nobody knows it: a dead letter
                schema_id = schema_id_of(record.value)
                if self._learn is not None and not self._codec.knows(schema_id):
                    await self._learn(schema_id)
