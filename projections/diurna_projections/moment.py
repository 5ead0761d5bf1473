"""A moment of the past: a time, or the position of an event that was the last one then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from diurna_schemas.errors import InvalidInput
from diurna_schemas.ids import Position

_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Moment:
    """What had happened by `at_ms` (milliseconds UTC), in one partition up to `position` at the most."""

    at_ms: int
    position: Position | None = None


def parse(text: str, *, field: str = "as_of") -> Moment | Position:
    """Reads an ISO 8601 time (UTC where it names no zone), milliseconds UTC, or a position.

    Raises `InvalidInput` where it is none of these.
    """
    if text.isascii() and text.isdigit() and len(text) <= 14:
        return Moment(int(text))
    try:
        # A `+` of a zone that was not escaped in a query has become a space.
        at = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        try:
            return Position.parse(text, field=field)
        except InvalidInput:
            reason = "a time (ISO 8601), milliseconds UTC or a position (topic:partition:offset) is expected"
            raise InvalidInput(field, text, reason) from None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    if not 0 <= at.timestamp() <= _LATEST.timestamp():
        raise InvalidInput(field, text, "the log has no such time")
    return Moment(int(at.timestamp() * 1000 + 0.5))
