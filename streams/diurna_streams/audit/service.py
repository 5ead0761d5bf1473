"""The auditor that never stops: follows the log, decides everything again as it happens, and raises the alarm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from diurna_schemas.codec import Codec
from diurna_schemas.errors import Unavailable
from diurna_schemas.topics import TOPICS
from diurna_streams import snapshots
from diurna_streams.audit import metrics
from diurna_streams.audit.findings import Divergence
from diurna_streams.audit.reading import Lessons, Tap, beginning, is_buried
from diurna_streams.audit.refold import Refold
from diurna_streams.decide.follower import Learn, learns_nothing
from diurna_streams.deciders.rules import Rules
from diurna_streams.log import Log, Reader, Record, TopicPartition

logger = structlog.get_logger(__name__)

PATIENCE_MS: Final = 500
"""The auditor is in no hurry: read late and many at a time, it costs little."""
READ_RECORDS_MAX: Final = 2_000
QUEUED_RECORDS_MAX: Final = 8_000
"""Records of one partition that wait for the other topic's, such as commands while no decider runs.

Where there are more, the partition is left alone, and read for itself when most of them are gone.
"""
LOOK_EVERY_SECONDS: Final = 5.0
STANDSTILL_SECONDS: Final = 30.0
"""So long may an event link to nothing accepted, before the chain counts as broken."""
_RETRY_SECONDS: Final = 1.0


@dataclass
class Course:
    """One partition that is followed: what was read of it, and what is not read because too much waits already."""

    refold: Refold
    next_event: int
    next_command: int
    is_touched: bool = False
    strayed_at: float | None = None
    told: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)

    def __post_init__(self) -> None:
        family, partition = self.refold.rules.family, self.refold.partition
        self.events = TopicPartition(family.events, partition)
        self.commands = TopicPartition(family.commands, partition)
        self.behind: set[TopicPartition] = set()

    def give(self, record: Record) -> None:
        """Takes one record of either topic; one that was given before is passed over."""
        if record.topic == self.events.topic:
            if record.offset >= self.next_event:
                self.next_event = record.offset + 1
                self.refold.give_events([record])
        elif record.offset >= self.next_command:
            self.next_command = record.offset + 1
            self.refold.give_commands([record])

    def next_of(self, place: TopicPartition) -> int:
        return self.next_event if place == self.events else self.next_command

    def waiting(self, place: TopicPartition) -> int:
        """How many records of a topic were given and not looked at."""
        commands, events = self.refold.queued
        return events if place == self.events else commands


class Auditor:
    """Follows every partition of these families, from its newest snapshot on (else from its beginning).

    Its memory is bounded: the deciders' states, and so many records of each partition. What a snapshot remembers is
    believed here; `verify` does not, and compares the two.
    """

    def __init__(
        self,
        log: Log,
        codec: Codec,
        rules: Sequence[Rules[Any, Any, Any]],
        *,
        learn: Learn = learns_nothing,
        incarnation: int = 1,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._codec = codec
        self._rules = rules
        self._lessons = Lessons(codec, learn)
        self._incarnation = incarnation
        self._clock_s = clock_s
        self._by_place: dict[TopicPartition, Course] = {}
        self._looked_at = 0.0
        self._read: list[Record] = []
        self.courses: list[Course] = []
        self.is_following = asyncio.Event()
        """Set once everything that comes from now on will be audited."""

    @property
    def divergences(self) -> list[Divergence]:
        """What is wrong, the first place of each partition."""
        return [course.refold.divergence for course in self.courses if course.refold.divergence is not None]

    async def run(self) -> None:
        """Audits until cancelled. A partition that diverged is followed no longer; the others are."""
        reader = await self._log.reader(patience_ms=PATIENCE_MS)
        try:
            await self._begin(reader)
            self.is_following.set()
            while True:
                try:
                    await self._step(reader)
                except Unavailable as error:
                    logger.warning("the log cannot be audited; trying again", error=str(error))
                    await asyncio.sleep(_RETRY_SECONDS)
        finally:
            await reader.close()

    async def _begin(self, reader: Reader) -> None:
        places = [(one, number) for one in self._rules for number in range(TOPICS[one.family.events].partitions)]
        settled = await asyncio.gather(
            *(snapshots.load(self._log, self._codec, one, partition) for one, partition in places)
        )
        starts = await self._log.starts(
            TopicPartition(topic, partition)
            for one, partition in places
            for topic in (one.family.events, one.family.commands)
        )
        for (one, partition), snapshot in zip(places, settled, strict=True):
            beginning(starts[TopicPartition(one.family.events, partition)], snapshot)
            refold = Refold(
                one,
                self._codec,
                partition,
                first_command=starts[TopicPartition(one.family.commands, partition)],
                start=snapshot,
                incarnation=self._incarnation,
            )
            course = Course(refold, refold.next_event, refold.next_command)
            self.courses.append(course)
            self._by_place |= {course.events: course, course.commands: course}
            metrics.DIVERGED.labels(topic=course.events.topic, partition=partition).set(0)
        await reader.start_at({place: course.next_of(place) for place, course in self._by_place.items()})

    async def _step(self, reader: Reader) -> None:
        self._read = self._read or await reader.read(records_max=READ_RECORDS_MAX, wait_ms=PATIENCE_MS)
        await self._lessons.take(self._read)  # where the registry does not answer, these are what comes next
        records, self._read = self._read, []
        for record in records:
            course = self._by_place[TopicPartition(record.topic, record.partition)]
            if course.refold.divergence is None:
                course.give(record)
                course.is_touched = True
        for course in self.courses:
            if course.is_touched or course.behind:
                course.is_touched = True  # until it got through: where something does not answer, it comes again
                await self._advance(course, reader)
                course.is_touched = False
        if self._clock_s() - self._looked_at >= LOOK_EVERY_SECONDS:
            self._looked_at = self._clock_s()
            await self._look(reader)

    async def _advance(self, course: Course, reader: Reader) -> None:
        refold, has_more = course.refold, True
        while has_more:
            refold.advance()
            if refold.divergence is not None:
                await self._alarm(course, refold.divergence, reader)
                return
            if refold.doubt is not None:
                refold.settle(is_buried=await is_buried(self._log, refold.rules.family, refold.doubt))
            else:
                has_more = await self._kept_in_bounds(course, reader)

    async def _kept_in_bounds(self, course: Course, reader: Reader) -> bool:
        """Leaves a topic alone of which too much waits, and reads what was left once most of it is gone."""
        has_more = False
        for place in (course.commands, course.events):
            if place not in course.behind and course.waiting(place) > QUEUED_RECORDS_MAX:
                course.behind.add(place)
                await reader.drop([place])
            elif place in course.behind and course.waiting(place) <= QUEUED_RECORDS_MAX // 4:
                await self._catch_up(course, place, reader)
                has_more = True
        return has_more

    async def _catch_up(self, course: Course, place: TopicPartition, reader: Reader) -> None:
        """Reads some of what was left on the log; at its end the partition is followed with all others again."""
        end = (await self._log.ends([place]))[place]
        tap = Tap(self._log, place, course.next_of(place))
        try:
            while tap.next_offset < end and course.waiting(place) <= QUEUED_RECORDS_MAX:
                records = await tap.read()
                await self._lessons.take(records)
                for record in records:
                    course.give(record)
        finally:
            await tap.close()
        if tap.next_offset >= end:
            course.behind.discard(place)
            await reader.start_at({place: course.next_of(place)})

    async def _look(self, reader: Reader) -> None:
        """Measures, and finds what shows only in that nothing comes any more."""
        ends = await self._log.ends(self._by_place)
        for course in self.courses:
            if course.refold.divergence is None:
                self._find_standstill(course, ends)
                if course.refold.divergence is not None:
                    await self._alarm(course, course.refold.divergence, reader)
            self._measure(course, ends)

    def _find_standstill(self, course: Course, ends: dict[TopicPartition, int]) -> None:
        refold, now_s = course.refold, self._clock_s()
        if refold.stray is None:
            course.strayed_at = None
        elif course.strayed_at is None:
            course.strayed_at = now_s
        elif now_s - course.strayed_at >= STANDSTILL_SECONDS:
            refold.stands_still()
        has_all_commands = course.next_command >= ends[course.commands]
        if has_all_commands and refold.waits_for == "commands":
            refold.no_more_commands()
        elif course.next_event >= ends[course.events] and not refold.queued[1]:
            refold.no_more_events()

    async def _alarm(self, course: Course, divergence: Divergence, reader: Reader) -> None:
        family, partition = course.refold.rules.family, course.refold.partition
        metrics.DIVERGED.labels(topic=family.events, partition=partition).set(1)
        metrics.DIVERGENCES.labels(family=family.name, kind=divergence.kind).inc()
        logger.critical("history is not what the rules say", **divergence.to_json())
        course.behind.clear()
        await reader.drop([course.events, course.commands])

    def _measure(self, course: Course, ends: dict[TopicPartition, int]) -> None:
        refold, name = course.refold, course.refold.rules.family.name
        labels = {"topic": course.events.topic, "partition": refold.partition}
        metrics.POSITION.labels(**labels).set(refold.next_event)
        metrics.LAG.labels(**labels).set(max(ends[course.events] - refold.next_event, 0))
        counts = refold.counts
        now = (counts.commands, counts.redecided, counts.folded, counts.duplicates, counts.aliens)
        commands, *events = (after - before for after, before in zip(now, course.told, strict=True))
        course.told = now
        metrics.COMMANDS.labels(family=name).inc(commands)
        for outcome, count in zip(_OUTCOMES, events, strict=True):
            metrics.EVENTS.labels(family=name, outcome=outcome).inc(count)


_OUTCOMES: Final[Iterable[str]] = ("decided_again", "folded", "duplicate", "alien")
