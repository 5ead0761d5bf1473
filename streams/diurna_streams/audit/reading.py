"""What an audit needs from the log beside the records: schemas it does not know yet, and dead letters."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from diurna_schemas.codec import Codec, schema_id_of
from diurna_schemas.errors import Unavailable, Unreadable
from diurna_schemas.topics import TOPICS, Family, partition_of
from diurna_streams.decide.follower import Learn
from diurna_streams.log import Log, Reader, Record, TopicPartition
from diurna_streams.snapshots import Settled

_UNKNOWN_IDS_MAX: Final = 1_000
_EMPTY_READS_MAX: Final = 30
_READ_WAIT_MS: Final = 1_000
_RECORDS_MAX: Final = 1_000
_PATIENCE_MS: Final = 20
"""At the end of a partition the last records come so much later; on the long way there each costs less."""


class Lessons:
    """Makes the schemas of records known before they are looked at. An id nobody knows is asked for once."""

    def __init__(self, codec: Codec, learn: Learn) -> None:
        self._codec = codec
        self._learn = learn
        self._hopeless: set[int] = set()

    async def take(self, records: Iterable[Record]) -> None:
        """Raises `Unavailable` where the registry has to be asked and does not answer."""
        for record in records:
            try:
                schema_id = schema_id_of(record.value)
            except Unreadable:
                continue
            if self._codec.knows(schema_id) or schema_id in self._hopeless:
                continue
            with suppress(Unreadable):  # nobody knows it, or it describes something that is not ours
                await self._learn(schema_id)
            if not self._codec.knows(schema_id):
                if len(self._hopeless) >= _UNKNOWN_IDS_MAX:
                    self._hopeless.clear()
                self._hopeless.add(schema_id)


class Tap:
    """One partition from an offset on, in pieces; it is opened when the first piece is read."""

    def __init__(self, log: Log, place: TopicPartition, offset: int) -> None:
        self._log = log
        self._reader: Reader | None = None
        self.place = place
        self.next_offset = offset

    async def read(self) -> list[Record]:
        """The next records of a partition that is known to have more.

        Raises `Unreadable` where they are gone from the log, `Unavailable` where none come for long.
        """
        if self._reader is None:
            self._reader = await self._log.reader(patience_ms=_PATIENCE_MS)
            await self._reader.start_at({self.place: self.next_offset})
        for _ in range(_EMPTY_READS_MAX):
            if records := await self._reader.read(records_max=_RECORDS_MAX, wait_ms=_READ_WAIT_MS):
                self.next_offset = records[-1].offset + 1
                return records
        silence_seconds = _EMPTY_READS_MAX * _READ_WAIT_MS // 1000
        raise Unavailable(f"nothing came from {self.place.topic}:{self.place.partition} for {silence_seconds} s")

    async def move_to(self, offset: int) -> None:
        """Goes on somewhere else."""
        await self.close()
        self.next_offset = offset

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()


def beginning(first_event: int, snapshot: Settled | None) -> Settled | None:
    """Where to begin: nowhere else than at the first event, unless that is gone and a snapshot goes on from there."""
    if first_event == 0:
        return None
    if snapshot is None or snapshot.head.next_offset < first_event:
        raise Unavailable(f"the first {first_event} events are gone from the log, and no snapshot goes on from there")
    return snapshot


async def is_buried(log: Log, family: Family, command: Record) -> bool:
    """Whether a dead letter says that nobody could decide this command."""
    source = str(command.position)
    place = TopicPartition(family.dead_letters, partition_of(source, TOPICS[family.dead_letters].partitions))
    end = (await log.ends([place]))[place]
    tap = Tap(log, place, (await log.starts([place]))[place])
    try:
        while tap.next_offset < end:
            if any(record.key == source.encode() for record in await tap.read()):
                return True
        return False
    finally:
        await tap.close()
