"""How values look on a page: times, amounts, JSON, and what a status means for the eye. Escaping is the template's."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final, cast
from urllib.parse import urlencode

import orjson

from diurna_deploy.pages.asking import path_of

TONES: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("active", "running", "held", "completed", "success", "approved", "available", "healthy", "done", "redriven"),
        "good",
    ),
    **dict.fromkeys(("busy", "dispatched", "current", "provisional", "partial"), "busy"),
    **dict.fromkeys(("queued", "pending", "paused", "waiting", "open"), "wait"),
    **dict.fromkeys(
        ("failed", "stale", "rejected", "timed_out", "dead_lettered", "error", "timeout", "expired", "denied",
         "force_released", "wait_timed_out", "unhealthy"),
        "bad",
    ),
}  # fmt: skip
"""What a status means for the eye; the word is always there too. All others are quiet."""
NOTHING: Final = "\N{EN DASH}"
MARKS: Final = {"good": "●", "busy": "◐", "wait": "○", "bad": "▲", "quiet": "·"}
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def tone(status: str) -> str:
    return TONES.get(status, "quiet")


def mark(status: str) -> str:
    """A shape beside the colour, for eyes that do not tell colours apart."""
    return MARKS[tone(status)]


def words(status: str) -> str:
    return status.replace("_", " ")


def moment(iso: str | None) -> str:
    """A time of the API to the second, without what every other time has too."""
    return "" if not iso else iso[:19].replace("T", " ")


def clock(iso: str | None) -> str:
    """The time of day to the millisecond."""
    return "" if not iso else iso[11:23].rstrip("Z")


def ago(iso: str | None, now_ms: int | None = None) -> str:
    """How long ago, or how long until, roughly."""
    if not iso:
        return ""
    at_ms = milliseconds(iso)
    seconds = ((int(time.time() * 1000) if now_ms is None else now_ms) - at_ms) / 1000
    told = span(abs(seconds))
    return f"{told} ago" if seconds >= 0 else f"in {told}"


def span(seconds: float | None) -> str:
    """A length of time in its largest unit, or two of them."""
    if seconds is None:
        return ""
    whole = round(seconds)
    for number, (unit, name) in enumerate(_UNITS):
        if whole >= unit:
            rest = whole % unit
            more = _UNITS[number + 1] if number + 1 < len(_UNITS) and whole // unit < 10 else None
            tail = f" {rest // more[0]} {more[1]}" if more is not None and rest // more[0] else ""
            return f"{whole // unit} {name}{tail}"
    return f"{seconds * 1000:.0f} ms" if seconds else "0 s"


def milliseconds(iso: str) -> int:
    """A time of the API in milliseconds UTC."""
    return round(datetime.fromisoformat(iso).astimezone(UTC).timestamp() * 1000)


def number(value: Any) -> str:
    """With separators; a dash where there is none."""
    return NOTHING if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)


def upto(count: int, many: int) -> str:
    """A count of what was read, where no more than so many are read."""
    return number(count) if count < many else f"{number(many)}+"


def json_text(value: Any) -> str:
    """JSON as people read it."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()


def brief(value: Any, characters_max: int = 120) -> str:
    """JSON on one line, cut where it is long."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= characters_max else f"{text[:characters_max]}…"


_OWN_IDS: Final = frozenset(
    {"command_id", "at_ms", "workflow_id", "agent_id", "resource_id", "lock_id", "request_id", "approval_id", "version"}
)


def telling(event: dict[str, Any], characters_max: int = 90) -> str:
    """What an event says beside whose it is, in few words: for lists in which all are about the same thing."""
    data: Any = event["data"]
    if not isinstance(data, dict):
        return "" if data is None else brief(data, characters_max)
    fields = cast("dict[str, Any]", data)
    said = {name: value for name, value in fields.items() if name not in _OWN_IDS and value not in (None, "", [], {})}
    return brief(", ".join(f"{words(name)}: {brief(value, 40)}" for name, value in said.items()), characters_max)


def query_of(**parameters: Any) -> str:
    """A query, without what says nothing."""
    found = urlencode({name: value for name, value in parameters.items() if value not in {None, ""}})
    return f"?{found}" if found else ""


FILTERS: Final = {
    "tone": tone, "mark": mark, "words": words, "moment": moment, "clock": clock, "ago": ago, "span": span,
    "number": number, "ms": milliseconds, "upto": upto, "telling": telling, "json_text": json_text, "brief": brief,
}  # fmt: skip
GLOBALS: Final = {"path_of": path_of, "query_of": query_of}
