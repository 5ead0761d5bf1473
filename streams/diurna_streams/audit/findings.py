"""What an audit finds: the first divergence of a partition with its position, and how much was looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from diurna_schemas.ids import Position

Kind = Literal[
    "edited",
    "unlinked",
    "differs",
    "envelope",
    "missing",
    "surplus",
    "unreadable",
    "gap",
    "snapshot",
]
"""What may be wrong.

- edited: an event's bytes are not those its hash was made of.
- unlinked: an event links to none that was accepted, and history stops there.
- differs: the rules lead to another event at this place.
- envelope: the event is right, and a header readers rely on (its id, cause, time …) is not.
- missing: the rules lead to an event that is not there.
- surplus: an event stands there to which no command leads.
- unreadable: an accepted event that cannot be read.
- gap: records are gone from the middle of the log.
- snapshot: a snapshot remembers something else than the events lead to.
"""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first place at which a partition's history is not what it should be.

    `position` is the event's (or the snapshot's head's); `command` is the command the rules were asked about.
    """

    kind: Kind
    position: Position
    expected: str
    found: str
    command: Position | None = None

    def __str__(self) -> str:
        because = "" if self.command is None else f" (of the command at {self.command})"
        return f"{self.kind} at {self.position}{because}: expected {self.expected}, found {self.found}"

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "position": str(self.position),
            "command": None if self.command is None else str(self.command),
            "expected": self.expected,
            "found": self.found,
        }


@dataclass(slots=True)
class Counts:
    """How many of what a partition's audit met."""

    redecided: int = 0
    """Accepted events that the rules lead to again, byte for byte."""
    older_schema: int = 0
    """… of these, written with another version of their schema: compared by their meaning."""
    folded: int = 0
    """Accepted events whose commands are gone, or were decided by other rules: their hashes hold, no more is known."""
    duplicates: int = 0
    aliens: int = 0
    commands: int = 0
    """Commands that were decided again."""
    unreadable: int = 0
    """Commands that are none, or that these rules fail on: whoever decided them buried them."""
    buried: int = 0
    """Commands the rules understand today, and whose dead letters say that nobody could then."""


@dataclass(slots=True)
class PartitionReport:
    """The audit of one partition."""

    family: str
    partition: int
    counts: Counts
    logic_versions: dict[int, int] = field(default_factory=dict[int, int])
    """How many accepted events were decided by which version of the rules."""
    next_event: int = 0
    next_command: int = 0
    undecided: int = 0
    """Commands nobody had decided yet when the audit began."""
    head_hash: str = ""
    state_hash: str = ""
    """Of all a decider remembers at this head: equal for whoever recovers and whoever never stopped."""
    snapshot: Literal["none", "equal", "not reached"] = "none"
    """Whether the newest snapshot is what the events lead to."""
    divergence: Divergence | None = None

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        found["divergence"] = None if self.divergence is None else self.divergence.to_json()
        found["logic_versions"] = {str(version): count for version, count in self.logic_versions.items()}
        return found


@dataclass(slots=True)
class Report:
    """The audit of a whole log, up to the positions it had when the audit began."""

    partitions: list[PartitionReport]
    seconds: float

    @property
    def divergences(self) -> list[Divergence]:
        return [found.divergence for found in self.partitions if found.divergence is not None]

    @property
    def is_clean(self) -> bool:
        return not self.divergences

    def total(self, count: str) -> int:
        """A count of all partitions together."""
        return sum(int(getattr(found.counts, count)) for found in self.partitions)

    @property
    def commands_per_second(self) -> float:
        return self.total("commands") / self.seconds if self.seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "clean": self.is_clean,
            "seconds": round(self.seconds, 3),
            "commands_per_second": round(self.commands_per_second, 1),
            "totals": {name: self.total(name) for name in Counts.__dataclass_fields__},
            "divergences": [divergence.to_json() for divergence in self.divergences],
            "partitions": [found.to_json() for found in self.partitions],
        }
