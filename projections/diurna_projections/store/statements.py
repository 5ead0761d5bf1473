"""The SQL of the files under `sql/`, by name, and the statements every table has alike."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any, Final

from diurna_projections.rows import EVENTS, Table

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


@cache
def upsert(table: Table[Any]) -> str:
    """Writes many rows, given as one array a column. The log's own rows are only ever added."""
    arrays = ", ".join(f"${number}::{_array(kind)}" for number, kind in enumerate(table.types, start=1))
    added = f"insert into {table.name} ({', '.join(table.columns)}) select * from unnest({arrays})"  # noqa: S608
    if table is EVENTS:
        return added
    changes = ", ".join(f"{column} = excluded.{column}" for column in table.columns[table.key_columns :])
    return f"{added} on conflict ({', '.join(table.key)}) do update set {changes}"


@cache
def delete(table: Table[Any]) -> str:
    """Takes rows away, given as one array a column of the key."""
    arrays = ", ".join(f"${number}::{_array(kind)}" for number, kind in enumerate(table.types[: len(table.key)], 1))
    return f"delete from {table.name} where ({', '.join(table.key)}) in (select * from unnest({arrays}))"  # noqa: S608


@cache
def checksum(table: Table[Any]) -> str:
    """The md5 of the md5 of each row's canonical text, in order of the keys: as `memory.checksum` computes it."""
    columns = ", ".join(
        f"coalesce({_text(name, kind)}, '\\N')" for name, kind in zip(table.columns, table.types, strict=True)
    )
    row = f"md5(concat_ws(E'\\x1f', {columns}))"
    order = ", ".join(table.key)
    return f"select md5(coalesce(string_agg({row}, '' order by {order}), '')) from {table.name}"  # noqa: S608


def _array(kind: str) -> str:
    return "text[]" if kind == "json" else f"{kind}[]"


def _text(column: str, kind: str) -> str:
    return f"encode({column}, 'hex')" if kind == "bytea" else f"{column}::text"
