"""What can go wrong between the log and the tables, beside what the common tree of errors names."""

from __future__ import annotations

from diurna_schemas.errors import Unavailable


class OutOfStep(Unavailable):
    """The records do not join on to what the tables hold: a record between was never shown to the projection.

    Whoever feeds the projection must seek to `expected` and begin again; writing would lose events.
    """

    def __init__(self, topic: str, partition: int, *, expected: int, found: int) -> None:
        super().__init__(f"{topic}:{partition}: the projection is at {expected}, the next record shown is {found}")
        self.topic = topic
        self.partition = partition
        self.expected = expected
        self.found = found


class Overtaken(Unavailable):
    """Another writer has moved the positions: what was believed of the tables is forgotten, and asked for again."""
