"""Records to rows, purely: no clock, no chance, no sequence; everything comes from the record and its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from diurna_projections import rows
from diurna_projections.folds import agents, dead_letters, events, requests, workflows
from diurna_projections.folds.text import plain
from diurna_projections.records import LogRecord, Reading
from diurna_projections.tables import Tables
from diurna_schemas import topics
from diurna_schemas.agents import (
    AgentDeregistered,
    AgentRegistered,
    AgentStatusChanged,
    AgentWentStale,
    Heartbeat,
    RequestDispatched,
    RequestRejected,
    RequestSubmitted,
)
from diurna_schemas.errors import Unreadable
from diurna_schemas.message import Event, Part
from diurna_schemas.records import Broadcast, DeadLetter

P = TypeVar("P", bound=Part)


@dataclass(slots=True)
class Needs:
    """The keys of the rows that a batch will look at."""

    agents: set[str] = field(default_factory=set[str])
    requests: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    workflows: set[str] = field(default_factory=set[str])
    approvals: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def add(self, content: Part) -> None:
        """Adds what folding this record will look at."""
        match content:
            case RequestSubmitted() | RequestDispatched() | RequestRejected():
                self.requests.add((content.request.request_id, content.agent_id))
            case AgentRegistered() | AgentStatusChanged() | AgentWentStale() | AgentDeregistered():
                self.agents.add(content.agent_id)
            case Event():
                self._add_by_field(content)
            case _:
                return

    def _add_by_field(self, event: Event) -> None:
        fields = event.__dict__
        if (workflow_id := fields.get("workflow_id")) is not None:
            self.workflows.add(workflow_id)
            if (approval_id := fields.get("approval_id")) is not None:
                self.approvals.add((approval_id, workflow_id))
        elif (request_id := fields.get("request_id")) is not None:
            self.requests.add((request_id, fields["agent_id"]))


def fold(tables: Tables, reading: Reading) -> Unreadable | None:
    """Folds one accepted record into the tables; what cannot be folded becomes a dead letter and is returned."""
    record, content = reading.record, reading.content
    if not isinstance(content, Unreadable):
        try:
            _fold_content(tables, content, record)
        except Unreadable as error:
            content = error
    if isinstance(content, Unreadable):
        tables.dead_letters.put(dead_letters.row_of(dead_letters.letter_of(record, content)))
        return content
    return None


def _fold_content(tables: Tables, content: Part, record: LogRecord) -> None:
    match record.topic:
        case topics.WORKFLOWS.events:
            workflows.fold(tables, _expected(content, Event), record)
            tables.events.put(events.row_of(record))
        case topics.AGENTS.events:
            event = _expected(content, Event)
            if not requests.fold(tables, event, record):
                agents.fold(tables, event, record)
            tables.events.put(events.row_of(record))
        case topics.LOCKS.events:
            _expected(content, Event)
            tables.events.put(events.row_of(record))
        case topics.BROADCASTS:
            _expected(content, Broadcast)
            tables.events.put(events.row_of(record))
        case topics.HEARTBEATS:
            tables.heartbeats.put(_heartbeat(_expected(content, Heartbeat), record))
        case _:
            tables.dead_letters.put(dead_letters.row_of(_expected(content, DeadLetter)))


def _expected(content: Part, kind: type[P]) -> P:
    if not isinstance(content, kind):
        raise Unreadable(f"a {type(content).__name__} does not belong on this topic: {kind.__name__} is expected")
    return content


def _heartbeat(heartbeat: Heartbeat, record: LogRecord) -> rows.Heartbeat:
    return rows.Heartbeat(
        agent_id=heartbeat.agent_id,
        instance_id=plain(heartbeat.instance_id),
        last_ms=record.timestamp_ms,
        in_flight=heartbeat.in_flight,
        status=heartbeat.status,
        sent_at_ms=heartbeat.sent_at_ms,
        partition=record.partition,
        record_offset=record.offset,
    )
