"""Accepted records as the table of events: place, type, ids, time, bytes; as a row, and as a line to be copied in."""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Iterable
from typing import Final

from diurna_projections.records import LogRecord
from diurna_projections.rows import LoggedEvent
from diurna_projections.text import INDEXED_CHARACTERS_MAX, indexed


def row_of(record: LogRecord) -> LoggedEvent:
    """The row of a record. What its headers say is cut to what an index can hold."""
    find = dict(record.headers).get
    topic, partition, offset, key = record.topic, record.partition, record.offset, record.key
    # in the order of the fields: names cost a microsecond, and this runs for every event there is
    return LoggedEvent(
        topic,
        partition,
        offset,
        _text(find("ce_id")) or f"{topic}:{partition}:{offset}",
        _text(find("ce_type")) or "unknown",
        _text(find("ce_subject")) or _text(key) or "",
        _text(find("ce_source")) or "",
        _text(find("correlationid")),
        _text(find("causationid")),
        record.timestamp_ms,
        key,
        record.value or b"",
    )


def _text(raw: bytes | None) -> str | None:
    return indexed(raw.decode("utf-8", "replace")) if raw else None


def lines_of(records: Iterable[LogRecord]) -> bytes:
    """The rows of records in the text format of Postgres' COPY, at a third of a row's price."""
    return b"".join([line_of(record) for record in records])


def line_of(record: LogRecord) -> bytes:
    """One line: headers stay the bytes they are, as long as nothing in them needs care."""
    find = dict(record.headers).get
    event_id, kind, subject, source = find("ce_id"), find("ce_type"), find("ce_subject"), find("ce_source")
    correlation, causation = find("correlationid"), find("causationid")
    if not (event_id and kind and subject and source):
        return _careful_line_of(record)
    words = b" ".join((event_id, kind, subject, source, correlation or b"", causation or b""))
    if words.translate(None, _PLAIN) or len(words) > INDEXED_CHARACTERS_MAX:
        return _careful_line_of(record)
    key = record.key
    return b"%b\t%d\t%d\t%b\t%b\t%b\t%b\t%b\t%b\t%d\t%b\t\\\\x%b\n" % (
        record.topic.encode(),
        record.partition,
        record.offset,
        event_id,
        kind,
        subject,
        source,
        correlation or _NULL,
        causation or _NULL,
        record.timestamp_ms,
        _NULL if key is None else b"\\\\x" + hexlify(key),
        hexlify(record.value or b""),
    )


def _careful_line_of(record: LogRecord) -> bytes:
    """The line of any record at all, escaped."""
    return b"\t".join([_escaped(value) for value in row_of(record)]) + b"\n"


def _escaped(value: str | int | bytes | None) -> bytes:
    match value:
        case None:
            return _NULL
        case bytes():
            return b"\\\\x" + hexlify(value)
        case int():
            return b"%d" % value
        case str():
            return value.translate(_ESCAPES).encode()


_NULL: Final = rb"\N"
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_PLAIN: Final = bytes(code for code in range(0x20, 0x7F) if code != ord("\\"))
"""What needs no escaping: printable ASCII without the backslash."""
