"""Whole partitions as they stand on a log, made here without the runner, and ways to damage them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diurna_schemas.codec import Codec
from diurna_schemas.envelope import GENESIS, Headers, Link, chain_hash, event_headers, header, link_of
from diurna_schemas.message import Command, Event, Heading
from diurna_schemas.topics import partition_of
from diurna_streams.deciders import agents, locks, workflows
from diurna_streams.deciders.rules import Rules
from diurna_streams.log import Record
from support import agents_book, locks_book
from support.book import CODEC
from support.deciding import outgoing
from support.workflows_source import WorkflowsRandom


@dataclass(frozen=True)
class History:
    """The commands of one partition, the events they led to, and the state in the end."""

    rules: Rules[Any, Any, Any]
    partition: int
    commands: list[Record]
    events: list[Record]
    state: Any

    def invented(self, event: Event, place: tuple[int, int], *, offset: int, **options: Any) -> Record:
        """An event that nobody decided, linked to the one before `offset`."""
        previous = link_of(self.events[offset - 1].headers).hash
        return event_record(self.rules, event, place, previous, offset=offset, partition=self.partition, **options)


def history(rules: Rules[Any, Any, Any], commands: Sequence[tuple[Command, int]], *, codec: Codec = CODEC) -> History:
    """What these commands, each with the log's time, lead to, in the partition the first one belongs to."""
    partition = next(partition_of(command.key) for command, _ in commands if not command.is_tick)
    state, previous = rules.initial, GENESIS
    sent: list[Record] = []
    written: list[Record] = []
    for offset, (command, log_ms) in enumerate(commands):
        record = outgoing(command, codec, correlation_id=f"work-{offset % 7}")
        sent.append(
            Record(rules.family.commands, partition, offset, log_ms, record.key, record.value, record.headers)
        )  # fmt: skip
        decision = rules.decide(state, command, Heading(offset, log_ms))
        state = decision.state
        for index, event in enumerate(decision.events):
            written.append(
                event_record(
                    rules, event, (offset, index), previous, offset=len(written), partition=partition, codec=codec,
                    correlation_id=f"work-{offset % 7}" if event.correlation is None else event.correlation,
                )
            )  # fmt: skip
            previous = link_of(written[-1].headers).hash
    return History(rules, partition, sent, written, state)


def event_record(
    rules: Rules[Any, Any, Any],
    event: Event,
    place: tuple[int, int],
    previous: str,
    *,
    offset: int,
    partition: int = 0,
    codec: Codec = CODEC,
    correlation_id: str | None = None,
    logic_version: int = 1,
) -> Record:
    """An event as its decider writes it, at the place (command's offset, index) it was decided."""
    key, value, at = event.key.encode(), codec.encode(event), f"1.{place[0]}.{place[1]}"
    link = Link(1, *place, previous, chain_hash(previous, at, event.type_name, key, value))
    headers = event_headers(
        event, link, partition=partition, correlation_id=correlation_id, traceparent=None, logic_version=logic_version
    )
    return Record(rules.family.events, partition, offset, event.at_ms, key, value, headers)


def of_family(name: str, seed: int, count: int = 80) -> History:
    """A random history of this family in which a lot happens; its keys belong to the history's partition."""
    chance = random.Random(seed)
    if name == "agents":
        return _of_book(agents_book.Book(agents.RULES), agents_book.Random(chance), count)
    if name == "locks":
        source = locks_book.LocksRandom(chance, steps_ms=(-5_000, 0, 0, 0, 1, 500, 1_000, 3_001))
        return _of_book(locks_book.LocksBook(locks.RULES), source, count)
    source = WorkflowsRandom(chance)
    return _at_home(workflows.RULES, [source.next() for _ in range(count)])


def _of_book(book: Any, source: Any, count: int) -> History:
    drawn: list[tuple[Command, int]] = []
    for _ in range(count):
        drawn.append(source.next(book))
        book.put(*drawn[-1])
    return _at_home(book.rules, drawn)


def _at_home(rules: Rules[Any, Any, Any], drawn: list[tuple[Command, int]]) -> History:
    """Only what belongs to the partition that the most keys belong to; where a key belongs is not what is tested."""
    places = [partition_of(command.key) for command, _ in drawn if not command.is_tick]
    home = max(set(places), key=places.count)
    kept = [(command, at) for command, at in drawn if command.is_tick or partition_of(command.key) == home]
    return history(rules, kept)


# --- damage ---------------------------------------------------------------------------------------------------------


def relinked(records: Sequence[Record]) -> list[Record]:
    """The records with offsets and hashes that fit: a forger who knows the chain leaves no other trace."""
    previous, found = GENESIS, list[Record]()
    for offset, record in enumerate(records):
        link = link_of(record.headers)
        type_name = header(record.headers, "ce_type") or ""
        digest = chain_hash(previous, link.at, type_name, record.key or b"", record.value or b"")
        headers = with_header(with_header(record.headers, "chain_previous", previous), "chain_hash", digest)
        found.append(record._replace(offset=offset, headers=headers))
        previous = digest
    return found


def renumbered(records: Sequence[Record]) -> list[Record]:
    """The records with offsets that follow one another."""
    return [record._replace(offset=offset) for offset, record in enumerate(records)]


def with_header(headers: Headers, name: str, value: str) -> Headers:
    return tuple((key, value.encode() if key == name else text) for key, text in headers)


def with_event(record: Record, change: Callable[[Any], Event]) -> Record:
    """The record with another event in it, and its old hash."""
    event = change(CODEC.decode(record.value))
    return record._replace(value=CODEC.encode(event), timestamp_ms=event.at_ms)


def flipped(value: bytes, at: int) -> bytes:
    """One bit of one byte is another."""
    return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
