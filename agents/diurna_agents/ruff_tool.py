"""The ruff that came with us: whose configuration it goes by, and what it reports."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from ruff import find_ruff_bin  # type: ignore[import-untyped]

from diurna_agents.toml_tables import read_toml, table, text

SELECTION: Final = ("E4", "E7", "E9", "F", "B", "PLE", "ASYNC")
"""The rules where the repository states none of its own."""
NEWEST: Final = 14
_OLDEST: Final = 7
_MINOR: Final = re.compile(r">=?\s*3\.(\d+)")


class Place(BaseModel):
    """A place in a file, from 1."""

    row: int


class Fix(BaseModel):
    """What ruff would do about a violation, and how sure it is that nothing breaks."""

    applicability: str


class Violation(BaseModel):
    """One thing ruff found."""

    code: str | None
    message: str
    filename: str
    location: Place
    end_location: Place
    fix: Fix | None = None


class Violations(BaseModel):
    """Ruff's JSON report."""

    results: list[Violation]


def ruff_program() -> str:
    """Where the ruff of our own environment is."""
    return str(find_ruff_bin())


def target_version(checkout: Path) -> str:
    """The oldest Python the project says it runs on, as ruff writes it; the newest where it says none."""
    required = text(table(read_toml(checkout / "pyproject.toml"), "project").get("requires-python"))
    lowest = _MINOR.search(required) if required else None
    minor = int(lowest[1]) if lowest else NEWEST
    return f"py3{min(max(minor, _OLDEST), NEWEST)}"


def without_configuration(target: str, selection: Iterable[str] = SELECTION) -> list[str]:
    """The options where the repository states none, or none that can be read."""
    return ["--isolated", "--target-version", target, "--select", ",".join(selection)]


def has_configuration(checkout: Path, files: Iterable[Path]) -> bool:
    """Whether the repository says how ruff shall read any of these files."""
    directories = {checkout}
    for file in files:
        directories.update(parent for parent in file.parents if parent.is_relative_to(checkout))
    return any(
        (directory / "ruff.toml").is_file()
        or (directory / ".ruff.toml").is_file()
        or bool(table(read_toml(directory / "pyproject.toml"), "tool", "ruff"))
        for directory in directories
    )
