"""What deciding a partition needs to remember, and the events on their way to the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diurna_streams.decide.history import Expected, History
from diurna_streams.decide.pace import Pace
from diurna_streams.log import Outgoing


@dataclass(slots=True)
class Owned:
    """The state ahead of what was read back, and the chain's hash there."""

    history: History
    state: Any
    hash: str
    incarnation: int
    next_command: int
    pace: Pace = field(default_factory=Pace)
    behind_ms: int = 0
    """How far our clock was behind the log's when a command was read last: what is due is due by the log's."""
    snapshot_count: int = 0
    snapshot_ms: int = 0


@dataclass(slots=True)
class Batch:
    """Events of one or more whole commands, to be written as one record batch."""

    records: list[Outgoing] = field(default_factory=list[Outgoing])
    expected: list[Expected] = field(default_factory=list[Expected])
    size_bytes: int = 0
