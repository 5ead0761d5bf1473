"""The projection on dictionaries: for tests, for a team in memory, and to verify the tables by a fold of the log."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from diurna_projections import folds
from diurna_projections.advance import advance, understood
from diurna_projections.records import LogRecord
from diurna_projections.rows import TABLES, Table
from diurna_projections.stored import stored
from diurna_projections.tables import Tables
from diurna_schemas.chain import Head
from diurna_schemas.codec import Codec

Place = tuple[str, int]


class MemoryTables:
    """All tables in memory, with the head of each partition. Ask `tables` for rows."""

    def __init__(self, codec: Codec) -> None:
        self.tables = Tables()
        self.heads: dict[Place, Head] = {}
        self.aliens = 0
        self.duplicates = 0
        self._codec = codec

    def apply(self, records: Iterable[LogRecord]) -> None:
        """Folds records in, partition by partition. Raises `OutOfStep` where one is missing."""
        by_place = sorted(records, key=lambda record: (record.topic, record.partition))
        for place, group in groupby(by_place, key=lambda record: (record.topic, record.partition)):
            step = advance(*place, self.heads.get(place, Head()), understood(self._codec, group))
            for reading in step.accepted:
                folds.fold(self.tables, reading)
            self.heads[place] = step.head
            self.aliens += step.aliens
            self.duplicates += step.duplicates
        for keyed in self.tables.keyed():
            keyed.changed.clear()

    def checksums(self) -> dict[str, str]:
        """The checksum of each table that can be checked: equal to the store's at equal positions."""
        return {table.name: checksum(table, self.tables.of(table)) for table in TABLES if table.is_checked}


def checksum(table: Table[Any], rows: Iterable[tuple[Any, ...]]) -> str:
    """The md5 of the md5 of each row's canonical text, in order of the keys.

    A row's text joins its columns by unit separators; bytes are hexadecimal, and what is missing is `\\N`.
    """
    whole = hashlib.md5(usedforsecurity=False)
    for row in rows:
        whole.update(row_checksum(table, row).encode())
    return whole.hexdigest()


def row_checksum(table: Table[Any], row: tuple[Any, ...]) -> str:
    """The md5 of one row's canonical text."""
    text = "\x1f".join([_canonical(value) for value in stored(table, row)])
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _canonical(value: object) -> str:
    if value is None:
        return "\\N"
    return value.hex() if isinstance(value, bytes) else str(value)
