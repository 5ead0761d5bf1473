"""Accepted records to rows of the log as it can be read and searched: place, type, ids, time, bytes."""

from __future__ import annotations

from diurna_projections.folds.text import indexed
from diurna_projections.records import LogRecord
from diurna_projections.rows import LoggedEvent


def row_of(record: LogRecord) -> LoggedEvent:
    """The row of a record. What its headers say is cut to what an index can hold."""
    headers = dict(record.headers)
    key = record.key
    return LoggedEvent(
        topic=record.topic,
        partition=record.partition,
        record_offset=record.offset,
        event_id=_text(headers.get("ce_id")) or f"{record.topic}:{record.partition}:{record.offset}",
        type=_text(headers.get("ce_type")) or "unknown",
        subject=_text(headers.get("ce_subject")) or _text(key) or "",
        source=_text(headers.get("ce_source")) or "",
        correlation_id=_text(headers.get("correlationid")),
        causation_id=_text(headers.get("causationid")),
        at_ms=record.timestamp_ms,
        record_key=key,
        value=record.value or b"",
    )


def _text(raw: bytes | None) -> str | None:
    return indexed(raw.decode("utf-8", "replace")) if raw else None
