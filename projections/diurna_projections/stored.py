"""Rows as their table stores them: dictionaries are JSON there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from diurna_projections.rows import Row, Table


def stored(table: Table[Any], row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row as its table stores it."""
    if "json" not in table.types:
        return row
    return tuple(
        orjson.dumps(value).decode() if kind == "json" else value for kind, value in zip(table.types, row, strict=True)
    )


def restored(table: Table[Row], row: Iterable[Any]) -> Row:
    """The row as a fold works on it."""
    if "json" not in table.types:
        return table.row(*row)
    return table.row(
        *(orjson.loads(value) if kind == "json" else value for kind, value in zip(table.types, row, strict=True))
    )
