"""Dead letters to rows: those that were written down, the records a projection cannot read, what became of each."""

from __future__ import annotations

from typing import Final

from diurna_projections.records import LogRecord
from diurna_projections.rows import DeadLetter, DeadLetterSettlement
from diurna_projections.tables import Folds, Need, Needs, Tables
from diurna_projections.text import json_of, plain
from diurna_schemas.errors import DiurnaError
from diurna_schemas.records import DeadLetter as DeadLetterRecord
from diurna_schemas.records import DeadLetterSettled

STAGE: Final = "project"
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


def letter_of(record: LogRecord, error: DiurnaError) -> DeadLetterRecord:
    """The dead letter of a record that cannot be projected: the same for the same record, whoever writes it."""
    return DeadLetterRecord(
        stage=STAGE,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=max(record.timestamp_ms, 0),
        record_key=record.key,
        record_value=record.value,
        record_headers=dict(record.headers),
        error_type=type(error).__name__,
        error=str(error)[:_ERROR_CHARACTERS_MAX],
        at_ms=max(record.timestamp_ms, 0),
    )


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
