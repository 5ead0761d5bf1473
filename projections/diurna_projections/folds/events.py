"""Accepted records to rows of the log as it can be read and searched: place, type, ids, time, bytes."""

from __future__ import annotations

from typing import Final

from diurna_projections.folds.text import INDEXED_CHARACTERS_MAX, indexed
from diurna_projections.records import LogRecord
from diurna_projections.rows import LoggedEvent

_WORDS_MAX: Final = 1_000
_words: dict[bytes | None, str | None] = {}


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
        _word(find("ce_type")) or "unknown",
        _text(find("ce_subject")) or _text(key) or "",
        _word(find("ce_source")) or "",
        _text(find("correlationid")),
        _text(find("causationid")),
        record.timestamp_ms,
        key,
        record.value or b"",
    )


def _word(raw: bytes | None) -> str | None:
    """The text of a header that has few values."""
    found = _words.get(raw)
    if found is None:
        found = _text(raw)
        if len(_words) < _WORDS_MAX and len(raw or b"") <= INDEXED_CHARACTERS_MAX:
            _words[raw] = found
    return found


def _text(raw: bytes | None) -> str | None:
    if not raw:
        return None
    if len(raw) <= INDEXED_CHARACTERS_MAX and raw.isascii() and b"\x00" not in raw:
        return raw.decode("ascii")
    return indexed(raw.decode("utf-8", "replace"))
