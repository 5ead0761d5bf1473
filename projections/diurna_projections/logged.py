"""Accepted records as the table of events: place, type, ids, time, bytes; as a row, and as Postgres' COPY takes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct
from typing import Final

from diurna_projections.records import LogRecord
from diurna_projections.rows import EVENTS, LoggedEvent
from diurna_projections.text import INDEXED_CHARACTERS_MAX, indexed

COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TAIL: Final = b"\xff\xff"
"""What stands before and after the rows in COPY's binary format, see Postgres' manual, "File Formats"."""


def row_of(record: LogRecord) -> LoggedEvent:
    """The row of a record. What its headers say is cut to what an index can hold."""
    event_id, kind, source, subject, correlation, causation = _words(record.headers)
    topic, partition, offset, key = record.topic, record.partition, record.offset, record.key
    # in the order of the fields: names cost a microsecond, and this runs for every event there is
    return LoggedEvent(
        topic,
        partition,
        offset,
        _text(event_id) or f"{topic}:{partition}:{offset}",
        _text(kind) or "unknown",
        _text(subject) or _text(key) or "",
        _text(source) or "",
        _text(correlation),
        _text(causation),
        record.timestamp_ms,
        key,
        record.value or b"",
    )


def packed(records: Iterable[LogRecord]) -> bytes:
    """The rows of records in the binary format of COPY, which costs Postgres half of what the text format does."""
    return b"".join([_packed(record) for record in records])


def _words(headers: Sequence[tuple[str, bytes]]) -> tuple[bytes, ...]:
    """Id, type, source, subject, correlation and causation as the headers give them; empty where they do not."""
    try:  # where `cloud_event` puts them: to look each up by its name costs as much as the rest of a row
        _, (first, a), (second, b), (third, c), (fourth, d), _, _, (fifth, e), (sixth, f), *_ = headers
        if (first, second, third, fourth, fifth, sixth) == _NAMES:
            return a, b, c, d, e, f
    except ValueError:
        pass
    found = dict(headers)
    return tuple([found.get(name, b"") for name in _NAMES])


def _text(raw: bytes | None) -> str | None:
    return indexed(raw.decode("utf-8", "replace")) if raw else None


def _packed(record: LogRecord) -> bytes:
    """One row: what headers say stays the bytes it is, as long as nothing in it needs care."""
    event_id, kind, source, subject, correlation, causation = words = _words(record.headers)
    if not (event_id and kind and source and subject and _is_plain(words)):
        columns = row_of(record)[3:9]
        event_id, kind, subject, source, correlation, causation = [(text or "").encode() for text in columns]
    key, value = record.key, record.value or b""
    return b"".join((
        _beginning(record.topic, record.partition),
        _LONG(8, record.offset),
        _SIZES[len(event_id)], event_id,
        _SIZES[len(kind)], kind,
        _SIZES[len(subject)], subject,
        _SIZES[len(source)], source,
        _SIZES[len(correlation)] if correlation else _NULL, correlation,
        _SIZES[len(causation)] if causation else _NULL, causation,
        _LONG(8, record.timestamp_ms),
        _NULL if key is None else _SIZE(len(key)), key or b"",
        _SIZE(len(value)), value,
    ))  # fmt: skip


def _is_plain(words: tuple[bytes, ...]) -> bool:
    """Whether these are ASCII without NUL, each as short as an index wants it."""
    text = b"".join(words)
    if not text.isascii() or b"\x00" in text:
        return False
    return len(text) <= INDEXED_CHARACTERS_MAX or max(map(len, words)) <= INDEXED_CHARACTERS_MAX


@lru_cache(maxsize=1024)
def _beginning(topic: str, partition: int) -> bytes:
    """How many columns there are, and the first two."""
    name = topic.encode()
    return b"".join((_COLUMNS, _SIZE(len(name)), name, _SIZE(4), _SIZE(partition)))


_NAMES: Final = ("ce_id", "ce_type", "ce_source", "ce_subject", "correlationid", "causationid")
_COLUMNS: Final = Struct(">h").pack(len(EVENTS.columns))
_SIZE: Final = Struct(">i").pack
_LONG: Final = Struct(">iq").pack
"""A number of eight bytes, after its size."""
_NULL: Final = _SIZE(-1)
_SIZES: Final = tuple(map(_SIZE, range(4 * INDEXED_CHARACTERS_MAX + 1)))
"""Ready made, for there are six in every row: a character takes up to four bytes."""
