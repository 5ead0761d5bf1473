"""Audits a whole log, partition by partition, up to the positions it has now: `diurna audit verify`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from diurna_schemas.codec import Codec
from diurna_schemas.errors import Unreadable
from diurna_schemas.topics import TOPICS
from diurna_streams import snapshots
from diurna_streams.audit.findings import PartitionReport, Report
from diurna_streams.audit.reading import Lessons, Tap, beginning, is_buried
from diurna_streams.audit.refold import Refold
from diurna_streams.decide.follower import Learn, learns_nothing
from diurna_streams.deciders.rules import Rules
from diurna_streams.log import Log, Record, TopicPartition

PATIENCE_SECONDS: Final = 10.0
"""So long may history stand still before an event that links to nothing: an owner may be about to go on."""
_LOOK_AGAIN_SECONDS: Final = 0.1


@dataclass(slots=True)
class Progress:
    """How far an audit is: records looked at, of how many, and how many a second."""

    total: int
    done: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def per_second(self) -> float:
        return self.done / max(time.monotonic() - self.began, 1e-6)


async def verify(
    log: Log,
    codec: Codec,
    rules: Sequence[Rules[Any, Any, Any]],
    *,
    learn: Learn = learns_nothing,
    told: Callable[[Progress], None] = lambda _progress: None,
    incarnation: int = 1,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Report:
    """Decides everything anew and compares it with what stands there; a partition ends at its first divergence.

    The log is read in pieces: memory does not grow with it. `told` hears how far the audit is after each piece. Raises
    `Unavailable` where the log does not answer, or where its first events are gone.
    """
    places = [(one, partition) for one in rules for partition in range(TOPICS[one.family.events].partitions)]
    events = [TopicPartition(one.family.events, partition) for one, partition in places]
    commands = [TopicPartition(one.family.commands, partition) for one, partition in places]
    # The events first: every event that is there then has its command among those that are there afterwards.
    ends = await log.ends(events)
    ends |= await log.ends(commands)
    starts = await log.starts(events + commands)
    progress = Progress(sum(ends[place] - starts[place] for place in ends))
    lessons = Lessons(codec, learn)
    reports: list[PartitionReport] = []
    for one, partition in places:
        settled = await snapshots.load(log, codec, one, partition)
        begin = beginning(starts[TopicPartition(one.family.events, partition)], settled)
        first_command = starts[TopicPartition(one.family.commands, partition)]
        refold = Refold(
            one,
            codec,
            partition,
            first_command=first_command,
            start=begin,
            snapshot=settled if begin is None else None,
            incarnation=incarnation,
        )
        course = _Course(log, refold, lessons, ends, progress, told)
        try:
            reports.append(await course.run(patience_seconds))
        finally:
            await course.close()
    return Report(reports, time.monotonic() - progress.began)


@dataclass
class _Course:
    """The audit of one partition: reads whichever of the two topics its refold waits for."""

    log: Log
    refold: Refold
    lessons: Lessons
    ends: dict[TopicPartition, int]
    progress: Progress
    told: Callable[[Progress], None]

    def __post_init__(self) -> None:
        family, partition = self.refold.rules.family, self.refold.partition
        self.events = Tap(self.log, TopicPartition(family.events, partition), self.refold.next_event)
        self.commands = Tap(self.log, TopicPartition(family.commands, partition), self.refold.next_command)

    async def close(self) -> None:
        await self.events.close()
        await self.commands.close()

    async def run(self, patience_seconds: float) -> PartitionReport:
        refold = self.refold
        await self._go_on()
        deadline = time.monotonic() + patience_seconds
        while refold.stray is not None and refold.divergence is None and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            await self._ask_end(self.events)
            await self._go_on()
        refold.stands_still()
        self.progress.done += self._left(self.events) + self._left(self.commands)  # undecided, and so not read
        self.told(self.progress)
        return refold.report(commands_end=self.ends[self.commands.place])

    async def _go_on(self) -> None:
        """Until the end of the events is reached, or something is wrong."""
        refold = self.refold
        while True:
            refold.advance()
            self.told(self.progress)
            if refold.divergence is not None:
                return
            if refold.doubt is not None:
                refold.settle(is_buried=await is_buried(self.log, refold.rules.family, refold.doubt))
            elif refold.waits_for == "commands":
                if not self._left(self.commands):
                    await self._ask_end(self.commands)
                if not self._left(self.commands):
                    refold.no_more_commands()
                    return
                refold.give_commands(await self._commands())
            elif self._left(self.events):
                refold.give_events(await self._read(self.events))
            else:
                refold.no_more_events()
                return

    async def _commands(self) -> list[Record]:
        try:
            return await self._read(self.commands)
        except Unreadable:  # retention was faster
            place = self.commands.place
            start = (await self.log.starts([place]))[place]
            await self.commands.move_to(start)
            self.refold.commands_begin_at(start)
            return []

    async def _read(self, tap: Tap) -> list[Record]:
        records = await tap.read()
        self.progress.done += len(records)
        await self.lessons.take(records)
        return records

    async def _ask_end(self, tap: Tap) -> None:
        self.ends[tap.place] = (await self.log.ends([tap.place]))[tap.place]

    def _left(self, tap: Tap) -> int:
        return max(self.ends[tap.place] - tap.next_offset, 0)
