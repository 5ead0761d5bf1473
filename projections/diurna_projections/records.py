"""A record of the log as a projection sees it, and what was understood of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from diurna_schemas import topics
from diurna_schemas.errors import Unreadable
from diurna_schemas.message import Part


class LogRecord(Protocol):
    """A record as it stands on the log. `timestamp_ms` is milliseconds UTC."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Reading(NamedTuple):
    """A record and what its bytes say: a record of Diurna, or why it is none."""

    record: LogRecord
    content: Part | Unreadable


CHAINED: Final = frozenset(topics.EVENT_TOPICS)
"""Topics whose records count only where they link to the one before."""
WITH_GAPS: Final = frozenset({topics.HEARTBEATS, *topics.DEAD_LETTER_TOPICS})
"""Topics that are compacted or shortened: an offset that is missing there says nothing."""
PROJECTED: Final = (
    *topics.EVENT_TOPICS,
    topics.BROADCASTS,
    topics.CHECKPOINTS,
    topics.HEARTBEATS,
    *topics.DEAD_LETTER_TOPICS,
)
"""Every topic the tables are made of."""
