"""Records to rows, purely: no clock, no chance, no sequence; everything comes from the record and its place.

Each module folds the events of one kind: `FOLDS` says which event is folded by which function, `NEEDS` which rows that
function looks at, so that a store can have them at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from diurna_projections.folds import agents, checkpoints, dead_letters, heartbeats, locks, requests, workflows
from diurna_projections.records import LogRecord, Reading
from diurna_projections.tables import Need, Needs, Tables
from diurna_schemas import topics
from diurna_schemas.catalogue import RECORDS
from diurna_schemas.errors import Unreadable
from diurna_schemas.message import Event, Part
from diurna_schemas.records import Broadcast


def fold(tables: Tables, reading: Reading) -> Unreadable | None:
    """Folds one accepted record into the tables; what cannot be folded becomes a dead letter and is returned."""
    record, content = reading
    found = _FOLDS.get((record.topic, type(content)))
    if found is not None:
        try:
            found(tables, content, record)
        except Unreadable as error:
            content = error
        else:
            if record.topic in LOGGED:
                tables.events.add(record)
            return None
    if not isinstance(content, Unreadable):
        content = Unreadable(f"a {type(content).__name__} does not belong on this topic")
    if record.topic == topics.CHECKPOINTS:
        checkpoints.note_damage(tables, record, content)
    tables.dead_letters.put(dead_letters.row_of(dead_letters.letter_of(record, content)))
    return content


def needs_of(content: Part | Unreadable) -> tuple[Need, ...]:
    """The rows that folding this record will look at."""
    found = None if isinstance(content, Unreadable) else _NEEDS.get(type(content))
    return () if found is None else found(content)


def is_logged(reading: Reading) -> bool:
    """Whether an accepted record belongs into the table of events, unless folding it fails."""
    record, content = reading
    return record.topic in LOGGED and (record.topic, type(content)) in _FOLDS


def _leave(_tables: Tables, _content: Part, _record: LogRecord) -> None:
    """Changes no row: that it happened is in the table of events."""


LOGGED: Final = frozenset({*topics.EVENT_TOPICS, topics.BROADCASTS})
"""Topics whose records are kept in the table of events."""
_EVENTS: Final = [record for record in RECORDS.values() if issubclass(record, Event)]
_FOLDS: Final[dict[tuple[str, type[Part | Unreadable]], Callable[[Tables, Any, LogRecord], None]]] = {
    **{(event.topic, event): _leave for event in _EVENTS},
    **{(topics.AGENTS.events, event): found for event, found in (*agents.FOLDS.items(), *requests.FOLDS.items())},
    **{(topics.LOCKS.events, event): found for event, found in locks.FOLDS.items()},
    **{(topics.WORKFLOWS.events, event): found for event, found in workflows.FOLDS.items()},
    **{(topics.CHECKPOINTS, content): found for content, found in checkpoints.FOLDS.items()},
    **{(topics.HEARTBEATS, content): found for content, found in heartbeats.FOLDS.items()},
    **{(topic, content): found for topic in topics.DEAD_LETTER_TOPICS for content, found in dead_letters.FOLDS.items()},
    (topics.BROADCASTS, Broadcast): _leave,
}
_NEEDS: Final[Needs] = {
    **agents.NEEDS,
    **requests.NEEDS,
    **locks.NEEDS,
    **workflows.NEEDS,
    **checkpoints.NEEDS,
    **dead_letters.NEEDS,
}
