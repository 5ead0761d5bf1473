"""Dead letters to rows: those that were written down, the records a projection cannot read, what became of each."""

from __future__ import annotations

from typing import Final

from diurna_projections.records import LogRecord
from diurna_projections.rows import DeadLetter, DeadLetterSettlement
from diurna_projections.tables import Folds, Need, Needs, Tables
from diurna_projections.text import json_of, plain
from diurna_schemas.records import DeadLetter as DeadLetterRecord
from diurna_schemas.records import DeadLetterSettled

STAGE: Final = "project"
RECORD_BYTES_MAX: Final = 900_000
"""Of a record's key, headers and value together: what is kept must fit into one batch."""
_ERROR_CHARACTERS_MAX: Final = 2_000


def row_of(letter: DeadLetterRecord) -> DeadLetter:
    """The row of a dead letter. Headers are JSON; what is no UTF-8 in them is shown as replacement characters."""
    headers = {name: plain(value.decode("utf-8", "replace")) for name, value in letter.record_headers.items()}
    return DeadLetter(
        id=plain(letter.source),
        stage=letter.stage,
        topic=plain(letter.topic),
        source_partition=letter.partition,
        source_offset=letter.offset,
        record_key=letter.record_key,
        record_value=letter.record_value,
        record_headers=json_of(headers),
        error_type=letter.error_type,
        error=plain(letter.error),
        timestamp_ms=letter.timestamp_ms,
    )


def letter_of(
    record: LogRecord, error: BaseException, *, stage: str = STAGE, at_ms: int | None = None
) -> DeadLetterRecord:
    """The dead letter of a record that cannot be understood: for a projection the same whoever writes it, and when.

    Of a record that fills a whole batch only the beginning is kept, and the error says so: a letter is a little larger.
    """
    key, value, headers, note = _kept(record)
    timestamp_ms = max(record.timestamp_ms, 0)
    return DeadLetterRecord(
        stage=stage,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=timestamp_ms,
        record_key=key,
        record_value=value,
        record_headers=headers,
        error_type=type(error).__name__,
        error=str(error)[: _ERROR_CHARACTERS_MAX - len(note)] + note,
        at_ms=timestamp_ms if at_ms is None else at_ms,
    )


def _kept(record: LogRecord) -> tuple[bytes | None, bytes | None, dict[str, bytes], str]:
    """What of a record fits into one letter, and a note where that is not everything."""
    headers = dict(record.headers)
    sizes = sum(len(name.encode()) + len(part) for name, part in headers.items()), len(record.key or b"")
    whole = sum(sizes) + len(record.value or b"")
    if whole <= RECORD_BYTES_MAX:
        return record.key, record.value, headers, ""
    if sizes[0] > RECORD_BYTES_MAX // 4:
        headers, sizes = {}, (0, sizes[1])
    key = record.key and record.key[: RECORD_BYTES_MAX // 4]
    room = RECORD_BYTES_MAX - sizes[0] - len(key or b"")
    value = record.value and record.value[:room]
    return key, value, headers, f" (of its {whole} bytes only the first ones are kept here)"


def _written_down(tables: Tables, letter: DeadLetterRecord, _record: LogRecord) -> None:
    tables.dead_letters.put(row_of(letter))


def _settled(tables: Tables, settled: DeadLetterSettled, _record: LogRecord) -> None:
    letter_id = plain(settled.source)
    if tables.dead_letter_settlements.get(letter_id) is None:
        answered_at = None if settled.answered_at is None else plain(settled.answered_at)
        tables.dead_letter_settlements.put(
            DeadLetterSettlement(
                letter_id, settled.verdict, settled.settled_by, plain(settled.reason), answered_at, settled.at_ms
            )
        )


def _needs(settled: DeadLetterSettled) -> tuple[Need, ...]:
    return (("dead_letter_settlements", plain(settled.source)),)


FOLDS: Final[Folds] = {DeadLetterRecord: _written_down, DeadLetterSettled: _settled}
NEEDS: Final[Needs] = {DeadLetterSettled: _needs}
