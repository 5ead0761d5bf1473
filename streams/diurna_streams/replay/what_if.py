"""What if the rules, or a fold, had been others: the log decided or folded anew behind a barrier, and what differs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from diurna_projections import folds
from diurna_projections.advance import advance, understood
from diurna_projections.records import PROJECTED, Reading
from diurna_projections.tables import Tables
from diurna_schemas.chain import Head, Verdict
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import Headers, event_id, link_of
from diurna_schemas.errors import BrokenChain, Unreadable
from diurna_schemas.message import Event, Heading
from diurna_schemas.topics import TOPICS
from diurna_streams.audit.reading import Lessons
from diurna_streams.decide.follower import Learn, learns_nothing
from diurna_streams.decide.reading import read_command
from diurna_streams.deciders.rules import Rules
from diurna_streams.log.port import Log, Record, TopicPartition
from diurna_streams.replay.barrier import Barrier
from diurna_streams.replay.differences import EXAMPLES_MAX, TableDifference, differences
from diurna_streams.replay.progress import Progress
from diurna_streams.replay.span import records_of

Fold = Callable[[Tables, Reading], Unreadable | None]
"""A changed `diurna_projections.folds.fold`."""

_REACHED_MAX: Final = 2**62


@dataclass(frozen=True, slots=True)
class OtherAnswer:
    """A command that would have led to other events."""

    position: str
    command: str
    was: tuple[str, ...]
    would_be: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """What would be different. Commands that nobody could read are left out."""

    commands: int = 0
    other_answers: int = 0
    examples: list[OtherAnswer] = field(default_factory=list[OtherAnswer])
    tables: list[TableDifference] = field(default_factory=list[TableDifference])

    @property
    def is_same(self) -> bool:
        return self.other_answers == 0 and not self.tables


async def other_rules(
    log: Log,
    codec: Codec,
    rules: Rules[Any, Any, Any],
    *,
    learn: Learn = learns_nothing,
    since: Sequence[int] | None = None,
    until: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Decides commands anew with these rules, from the state that had really come about before the first of them.

    `since` and `until` are command offsets, one a partition. Everything stands in memory. Raises `Unavailable` where
    the log does not answer, and whatever the rules raise.
    """
    barrier, told = Barrier(log), progress or Progress()
    actual, instead, outcome = Tables(), Tables(), Outcome()
    for partition in range(TOPICS[rules.family.commands].partitions):
        course = _Course(barrier, codec, rules, partition=partition, lessons=Lessons(codec, learn), told=told)
        first = 0 if since is None else since[partition]
        end = _REACHED_MAX if until is None else until[partition]
        await course.run(first, end, actual, instead, outcome)
    outcome.tables = differences(actual, instead)
    return outcome


async def other_fold(
    log: Log, codec: Codec, changed: Fold, *, learn: Learn = learns_nothing, progress: Progress | None = None
) -> Outcome:
    """Folds all records of the log with today's fold and with a changed one."""
    barrier, told = Barrier(log), progress or Progress()
    actual, instead = Tables(), Tables()
    lessons = Lessons(codec, learn)
    places = [TopicPartition(topic, number) for topic in PROJECTED for number in range(await barrier.partitions(topic))]
    starts, ends = await barrier.starts(places), await barrier.ends(places)
    told.expect(sum(ends[place] - starts[place] for place in places))
    for place in places:
        head = Head(next_offset=starts[place])
        async for records in records_of(barrier, place, starts[place], ends[place], lessons):
            step = advance(*place, head, understood(codec, records))
            head = step.head
            for reading in step.accepted:
                folds.fold(actual, reading)
                changed(instead, reading)
            for tables in (actual, instead):
                tables.events.records.clear()
            told.advance(len(records))
    return Outcome(tables=differences(actual, instead))


class _Course:
    """One partition of a family."""

    def __init__(
        self, log: Log, codec: Codec, rules: Rules[Any, Any, Any], *, partition: int, lessons: Lessons, told: Progress
    ) -> None:
        self._log = log
        self._codec = codec
        self._rules = rules
        self._partition = partition
        self._lessons = lessons
        self._progress = told

    async def run(self, first: int, end: int, actual: Tables, instead: Tables, outcome: Outcome) -> None:
        """Folds what was before `first` into both tables, then what was into one and what would be into the other."""
        state, offset = self._rules.initial, 0
        was: dict[int, list[Event]] = {}
        decided = 0
        async for link, record, event in self._events():
            if link >= end:
                break
            decided = link + 1
            folds.fold(actual, Reading(record, event))
            if link < first:
                state = self._rules.evolve(state, event, link)
                folds.fold(instead, Reading(record, event))
                offset = record.offset + 1
            else:
                was.setdefault(link, []).append(event)
        # What comes after the last event was not decided yet, or led to nothing: there is nothing to compare it with.
        async for record in self._commands(first, min(end, decided)):
            try:
                command = read_command(record, self._codec)
            except Unreadable:
                continue  # it is a dead letter, whatever the rules are
            decision = self._rules.decide(state, command, Heading(record.offset, record.timestamp_ms))
            state = decision.state
            outcome.commands += 1
            for index, event in enumerate(decision.events):
                folds.fold(instead, Reading(self._placed(event, record, index, offset), event))
                offset += 1
            recorded = was.get(record.offset, [])
            if list(decision.events) != recorded:
                outcome.other_answers += 1
                if len(outcome.examples) < EXAMPLES_MAX:
                    outcome.examples.append(
                        OtherAnswer(str(record.position), command.type_name, _types(recorded), _types(decision.events))
                    )
        for tables in (actual, instead):
            tables.events.records.clear()

    async def _events(self) -> AsyncGenerator[tuple[int, Record, Event]]:
        """The accepted events: the offset of each one's command, the record, and what it says."""
        place = TopicPartition(self._rules.family.events, self._partition)
        end = (await self._log.ends([place]))[place]
        start = (await self._log.starts([place]))[place]
        self._progress.expect(end - start)
        head = Head(next_offset=start)
        async for records in records_of(self._log, place, start, end, self._lessons):
            for record in records:
                try:
                    link = link_of(record.headers)
                except BrokenChain:
                    continue
                if head.judge(link) is not Verdict.ACCEPTED:
                    continue
                head = head.after(link, record.offset)
                event = self._codec.decode(record.value)
                if isinstance(event, Event):
                    yield link.command_offset, record, event
            self._progress.advance(len(records))

    async def _commands(self, first: int, end: int) -> AsyncGenerator[Record]:
        place = TopicPartition(self._rules.family.commands, self._partition)
        start = max(first, (await self._log.starts([place]))[place])
        last = min(end, (await self._log.ends([place]))[place])
        self._progress.expect(max(last - start, 0))
        async for records in records_of(self._log, place, start, last, self._lessons):
            for record in records:
                yield record
            self._progress.advance(len(records))

    def _placed(self, event: Event, command: Record, index: int, offset: int) -> Record:
        """An event that was never written, as a fold looks at it."""
        topic = self._rules.family.events
        headers: Headers = (("ce_id", event_id(topic, 1, self._partition, command.offset, index).encode()),)
        return Record(topic, self._partition, offset, event.at_ms, event.key.encode(), None, headers)


def _types(events: Sequence[Event]) -> tuple[str, ...]:
    return tuple(event.type_name for event in events)
