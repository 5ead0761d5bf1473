"""Two sets of tables compared row by row: which rows only one of them has, and which columns differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from diurna_projections import rows
from diurna_projections.rows import Table
from diurna_projections.tables import Tables

EXAMPLES_MAX: Final = 10
PLACES: Final = frozenset({"partition", "record_offset", "asked_offset", "response_id"})
"""Columns that say where on the log something stands: another history stands elsewhere."""


@dataclass(frozen=True, slots=True)
class TableDifference:
    """How one table differs. `examples` names the key, and the columns with what is and what would be."""

    table: str
    added: int
    removed: int
    changed: int
    examples: tuple[Mapping[str, Any], ...] = ()


def differences(actual: Tables, instead: Tables) -> list[TableDifference]:
    """The tables that are not the same, in the order of `rows.TABLES`."""
    found: list[TableDifference] = []
    for table in rows.TABLES:
        if table is rows.EVENTS or not table.is_checked:
            continue
        difference = _compared(table, actual.of(table), instead.of(table))
        if difference.added or difference.removed or difference.changed:
            found.append(difference)
    return found


def _compared(table: Table[Any], actual: Iterable[Any], instead: Iterable[Any]) -> TableDifference:
    columns = [number for number, name in enumerate(table.columns) if name not in PLACES]
    if PLACES & set(table.key):
        return _compared_as_a_bag(table, columns, actual, instead)
    is_now = {row[: table.key_columns]: row for row in actual}
    would_be = {row[: table.key_columns]: row for row in instead}
    examples: list[Mapping[str, Any]] = []
    changed = 0
    for key in sorted(is_now.keys() & would_be.keys()):
        before, after = is_now[key], would_be[key]
        names = [table.columns[number] for number in columns if before[number] != after[number]]
        if names:
            changed += 1
            examples.append(_example(table, key, before, after, names))
    added, removed = sorted(would_be.keys() - is_now.keys()), sorted(is_now.keys() - would_be.keys())
    examples += [{"key": list(key), "is": None, "would_be": "there"} for key in added[:EXAMPLES_MAX]]
    examples += [{"key": list(key), "is": "there", "would_be": None} for key in removed[:EXAMPLES_MAX]]
    return TableDifference(table.name, len(added), len(removed), changed, tuple(examples[:EXAMPLES_MAX]))


def _compared_as_a_bag(
    table: Table[Any], columns: list[int], actual: Iterable[Any], instead: Iterable[Any]
) -> TableDifference:
    """Where the key is a place on the log: rows are paired with equal ones, wherever they stand."""
    is_now = Counter(str([row[number] for number in columns]) for row in actual)
    would_be = Counter(str([row[number] for number in columns]) for row in instead)
    return TableDifference(table.name, (would_be - is_now).total(), (is_now - would_be).total(), 0)


def _example(table: Table[Any], key: tuple[Any, ...], before: Any, after: Any, names: list[str]) -> Mapping[str, Any]:
    places = {name: table.columns.index(name) for name in names}
    return {
        "key": list(key),
        "is": {name: before[number] for name, number in places.items()},
        "would_be": {name: after[number] for name, number in places.items()},
    }
