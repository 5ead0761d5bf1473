"""Reads tables of TOML files that somebody else wrote, where anything may be anything."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import cast

Table = dict[str, object]


def read_toml(path: Path) -> Table:
    """The file as a table; empty where it is not there or cannot be read."""
    try:
        return cast("Table", tomllib.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def table(value: object, *names: str) -> Table:
    """The table below `names`; empty where there is none."""
    for name in names:
        value = cast("Table", value).get(name) if isinstance(value, dict) else None
    return cast("Table", value) if isinstance(value, dict) else {}


def text(value: object) -> str | None:
    """The value where it is text."""
    return value if isinstance(value, str) else None


def texts(value: object) -> list[str]:
    """The texts of a list; others are left out."""
    return [item for item in cast("list[object]", value) if isinstance(item, str)] if isinstance(value, list) else []
