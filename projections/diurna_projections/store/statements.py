"""The SQL of the files under `sql/`, by name, and the statements every table has alike."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

from diurna_projections.rows import TABLES, Table

_TABLES: Final = {table.name: table for table in TABLES}
_MOVE_COLUMNS: Final = 12
_HEADER: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def statements(file: str) -> dict[str, str]:
    """The statements of `sql/<file>.sql`: each stands under a line `-- name: …`."""
    text = (resources.files("diurna_projections") / "sql" / f"{file}.sql").read_text(encoding="utf-8")
    _, *parts = _HEADER.split(text)
    return {name: sql.strip() for name, sql in zip(parts[::2], parts[1::2], strict=True)}


@cache
def migrations() -> list[tuple[str, str]]:
    """Name and text of every migration, in order."""
    folder = resources.files("diurna_projections") / "sql" / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [(file.name.removesuffix(".sql"), file.read_text(encoding="utf-8")) for file in files]


Change = tuple[str, Literal["upsert", "delete", "insert"]]
"""What is done to a table."""


@cache
def write_all(changes: tuple[Change, ...]) -> str:
    """Moves positions and changes tables, all or nothing, in one statement.

    `$1` is how many positions must move; their columns follow, then the columns of each change, as one array each.
    """
    parts, parameter = [f"moved as ({statements('store')['move_positions']} returning 1)"], 1 + _MOVE_COLUMNS
    for name, action in changes:
        table = _TABLES[name]
        types = table.types[: table.key_columns] if action == "delete" else table.types
        arrays = ", ".join(f"${parameter + number}::{_array(kind)}" for number, kind in enumerate(types, start=1))
        parameter += len(types)
        parts.append(f"{action}_{name} as ({_change(table, action, arrays)})")
    return f"with {', '.join(parts)} select expect((select count(*) from moved), $1)"  # noqa: S608


def _change(table: Table[Any], action: str, arrays: str) -> str:
    key = ", ".join(table.key)
    if action == "delete":
        return f"delete from {table.name} where ({key}) in (select * from unnest({arrays}))"  # noqa: S608
    added = f"insert into {table.name} ({', '.join(table.columns)}) select * from unnest({arrays})"  # noqa: S608
    if action == "insert":
        return added
    changes = ", ".join(f"{column} = excluded.{column}" for column in table.columns[table.key_columns :])
    return f"{added} on conflict ({key}) do update set {changes}"


@cache
def select(table: Table[Any], width: int) -> str:
    """The rows with these keys, or the beginnings of keys, given as one array a column."""
    key = table.key[:width]
    arrays = ", ".join(f"${number}::{_array(kind)}" for number, kind in enumerate(table.types[:width], start=1))
    if width == 1:
        return f"select * from {table.name} where {key[0]} = any({arrays})"  # noqa: S608
    names = ", ".join(key)
    return f"select t.* from {table.name} t join unnest({arrays}) as wanted ({names}) using ({names})"  # noqa: S608


@cache
def checksum(table: Table[Any]) -> str:
    """The md5 of the md5 of each row's canonical text, in order of the keys: as `memory.checksum` computes it."""
    order = ", ".join(table.key)
    return f"select md5(coalesce(string_agg({row_checksum(table)}, '' order by {order}), '')) from {table.name}"  # noqa: S608


@cache
def row_checksum(table: Table[Any]) -> str:
    """The md5 of a row's canonical text: as `memory.row_checksum` computes it."""
    columns = ", ".join(
        f"coalesce({_text(name, kind)}, '\\N')" for name, kind in zip(table.columns, table.types, strict=True)
    )
    return f"md5(concat_ws(E'\\x1f', {columns}))"


def _array(kind: str) -> str:
    return "text[]" if kind == "json" else f"{kind}[]"


def _text(column: str, kind: str) -> str:
    return f"encode({column}, 'hex')" if kind == "bytea" else f"{column}::text"
