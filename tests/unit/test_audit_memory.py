"""An audit takes the memory it takes, however long the log is: it is given one that is made up while it is read."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import pytest

from diurna_schemas.envelope import GENESIS, link_of
from diurna_schemas.message import Command, Heading
from diurna_schemas.topics import partition_of
from diurna_streams.audit import verify
from diurna_streams.deciders.locks import RULES
from diurna_streams.log import Log, Record, TopicPartition
from support.book import CODEC
from support.deciding import outgoing
from support.given import START_MS
from support.histories import event_record
from support.locks_given import RESOURCE, acquire, release

HOME = partition_of(RESOURCE)


def commands() -> Iterator[tuple[Command, int]]:
    """Taken and given back, for ever, once a second."""
    for number in itertools.count():
        command = acquire("one", lock_id=f"lock-{number}") if number % 2 == 0 else release("one")
        yield command.model_copy(update={"command_id": f"command-{number}"}), START_MS + 1_000 * number


def command_records() -> Iterator[Record]:
    for offset, (command, at_ms) in enumerate(commands()):
        made = outgoing(command)
        yield Record(RULES.family.commands, HOME, offset, at_ms, made.key, made.value, made.headers)


def event_records() -> Iterator[Record]:
    state, previous = RULES.initial, GENESIS
    for offset, (command, at_ms) in enumerate(commands()):
        decision = RULES.decide(state, cast("Any", command), Heading(offset, at_ms))
        state = decision.state
        for event in decision.events:
            record = event_record(RULES, event, (offset, 0), previous, offset=offset, partition=HOME)
            previous = link_of(record.headers).hash
            yield record


class MadeUpReader:
    """Reads what is made up at this moment, from the beginning."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._sources: dict[TopicPartition, Iterator[Record]] = {}

    async def start_at(self, offsets: Mapping[TopicPartition, int]) -> None:
        for place in offsets:
            if place.partition == HOME:
                made = command_records() if place.topic == RULES.family.commands else event_records()
                self._sources[place] = itertools.islice(made, offsets[place], self._count)

    async def drop(self, partitions: Iterable[TopicPartition]) -> None:
        for place in partitions:
            self._sources.pop(place, None)

    async def read(self, *, records_max: int = 500, wait_ms: int = 200) -> list[Record]:
        return [record for source in self._sources.values() for record in itertools.islice(source, records_max)]

    async def close(self) -> None:
        self._sources.clear()


class MadeUpLog:
    """A log of any length that is nowhere."""

    def __init__(self, count: int) -> None:
        self._count = count

    async def reader(self, *, patience_ms: int = 0) -> MadeUpReader:
        return MadeUpReader(self._count)

    async def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        topics = {RULES.family.commands, RULES.family.events}
        return {place: self._count if place.partition == HOME and place.topic in topics else 0 for place in partitions}


async def test_a_longer_log_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    async def peak_bytes(count: int) -> int:
        tracemalloc.start()
        try:
            report = await verify(cast("Log", MadeUpLog(count)), CODEC, [RULES])
            assert report.is_clean
            assert report.total("redecided") == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    await peak_bytes(100)  # what is made once is made
    short, long = await peak_bytes(1_300), await peak_bytes(3_900)
    print(f"{short / 1e6:.2f} MB for 1,300 commands, {long / 1e6:.2f} MB for 3,900")
    assert long < 1.2 * short
