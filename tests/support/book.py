"""A second opinion on decisions: books kept from the events alone, which notice what must never happen."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import orjson

from diurna_schemas.codec import Codec
from diurna_schemas.envelope import Link, event_headers
from diurna_schemas.message import Command, Event, Heading
from diurna_streams.conduct import ALL_RULES
from diurna_streams.decide.runner import BATCH_BYTES_MAX
from diurna_streams.deciders.agents.state import AgentsState
from diurna_streams.deciders.locks.state import LocksState
from diurna_streams.deciders.rules import Rules
from diurna_streams.deciders.window import SPAN_MS
from diurna_streams.log import Outgoing

CODEC = Codec.numbered()


@dataclass
class Ledger:
    """Checks one decision after another, for any family; an `AssertionError` says which promise was broken.

    What a family adds: `take` (one event, in the books' own words), `answers` (which events answer the command),
    `check_state` (what the decider remembers is what the books say).
    """

    REPEATED: ClassVar[type[Event]]
    rules: Rules[Any, Any, Any]
    state: Any = None
    offset: int = 0
    now_ms: int = 0
    seen: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])

    def __post_init__(self) -> None:
        self.state = self.rules.initial

    def put(self, command: Command, log_ms: int) -> tuple[Any, ...]:
        """Decides the next command, which the log stamped `log_ms`, and returns what came of it."""
        heading = Heading(self.offset, log_ms)
        decision = self.rules.decide(self.state, command, heading)
        again = self.rules.decide(self.state, command, heading)
        assert encoded(again.events) == encoded(decision.events), "decided twice, differently"
        self.check_fold(decision.state, decision.events)
        check_size(decision.events)
        before_ms, now_ms = self.now_ms, max(self.now_ms, log_ms)
        for event in decision.events:
            assert event.at_ms == now_ms, "time went back, or an event is not of its time"
            assert event.command_id == command.command_id
            self.take(event)
        self.now_ms = now_ms if decision.events else before_ms
        self.check_repetition(command, decision.events)
        self.state = decision.state
        self.offset += 1
        self.check_state(command, now_ms)
        return tuple(decision.events)

    def check_fold(self, decided: Any, events: Sequence[Event]) -> None:
        folded = self.state
        for event in events:
            folded = self.rules.evolve(folded, event, self.offset)
        assert fingerprint(folded) == fingerprint(decided), "the state is not the fold of the events"

    def check_repetition(self, command: Command, events: Sequence[Event]) -> None:
        answers = self.answers(command, events)
        repeated = [event for event in events if isinstance(event, self.REPEATED)]
        decided_at, seen_ms = self.seen.get(command.command_id, (None, 0))
        if repeated:
            assert repeated[0].model_dump()["first_offset"] == decided_at, "it was decided elsewhere, or never"
        elif answers and decided_at is not None:
            assert self.now_ms - seen_ms >= SPAN_MS, "a command was decided twice"
        if events:
            self.seen[command.command_id] = (decided_at if repeated else self.offset, self.now_ms)

    def take(self, event: Any) -> None:
        raise NotImplementedError

    def answers(self, command: Command, events: Sequence[Event]) -> list[Event]:
        """The events that answer the command; raises where there are too few or too many."""
        raise NotImplementedError

    def check_state(self, command: Command, now_ms: int) -> None:
        raise NotImplementedError


class Source(Protocol):
    """Where random commands come from, and when."""

    def next(self, book: Any) -> tuple[Command, int]: ...


def keep(book: Ledger, source: Source, chance: random.Random, commands: int) -> None:
    """A random partition, checked after every command. Beside it runs a twin that restarts again and again."""
    rules, twin = book.rules, book.rules.initial
    for _ in range(commands):
        command, log_ms = source.next(book)
        if chance.random() < 0.1:
            twin = restarted(rules, twin)
            assert fingerprint(twin) == fingerprint(book.state), "a restart changes what is remembered"
        decided = rules.decide(twin, command, Heading(book.offset, log_ms))
        twin = decided.state
        assert book.put(command, log_ms) == decided.events, "a restarted decider decides something else"


def restarted(rules: Rules[Any, Any, Any], state: Any) -> Any:
    """What a snapshot would remember."""
    return rules.load(orjson.loads(orjson.dumps(rules.dump(state))))


def encoded(events: Iterable[Event]) -> list[bytes]:
    return [CODEC.encode(event) for event in events]


def check_size(events: Iterable[Event]) -> None:
    """Whether one batch holds the events of a command, with the headers the runner gives them."""
    records: list[Outgoing] = []
    for event in events:
        key, value = event.key.encode(), CODEC.encode(event)
        link = Link(1, 2**42, 999, "a" * 32, "b" * 32)
        headers = event_headers(event, link, partition=0, correlation_id=None, traceparent="t" * 55)
        records.append(Outgoing(key, value, headers, event.at_ms))
    size = sum(
        len(record.key or b"")
        + len(record.value or b"")
        + sum(len(name) + len(text) + 8 for name, text in record.headers)
        for record in records
    )
    assert size <= BATCH_BYTES_MAX, f"{len(records)} events of one command are {size} bytes: no batch holds them"


def fingerprint(state: Any) -> bytes:
    """All a state remembers, heaps included where they mean something, in one order."""
    heaps: dict[str, Any] = {}
    if isinstance(state, AgentsState):
        heaps = {
            "due": sorted(list(due) for due in set(state.due) if state.is_due_live(due)),
            "queues": {
                agent_id: sorted(list(place) for place in set(agent.queue) if state.is_waiting(place))
                for agent_id, agent in state.agents.items()
            },
            "ready": sorted(state.ready),
        }
    elif isinstance(state, LocksState):
        heaps = {
            "due": sorted(list(due) for due in set(state.due) if state.is_due_live(due)),
            "count": state.due_count,
        }
    return orjson.dumps([_dumped(state), heaps], option=orjson.OPT_SORT_KEYS)


def _dumped(state: Any) -> Any:
    for rules in ALL_RULES:
        if type(rules.initial) is type(state):
            return rules.dump(state)
    raise AssertionError(f"no rules for a {type(state).__name__}")
