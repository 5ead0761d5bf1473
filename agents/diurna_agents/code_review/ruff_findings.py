"""Findings of ruff on the changed lines, by the repository's own configuration where it has one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from ruff import find_ruff_bin  # type: ignore[import-untyped]

from diurna_agents.code_review.finding import Finding
from diurna_agents.code_review.policy import Policy
from diurna_agents.code_review.tools import AnalysedFile, Bench, batches, read_report
from diurna_agents.errors import ToolFailed
from diurna_agents.toml_tables import read_toml, table, text

SELECTION: Final = ("E4", "E7", "E9", "F", "B", "PLE", "ASYNC")
"""The rules where the repository states none of its own."""
_ALWAYS: Final = ("E9", "F50", "F52", "F621", "F622", "F633", "F634", "F70", "F82")
"""What fails when it is run is looked for whatever else the repository selects."""
_SYNTAX: Final = "invalid-syntax"
_TOO_NEW: Final = "(syntax was added in Python"
_NEWEST: Final = 14
_OLDEST: Final = 7
_MINOR: Final = re.compile(r">=?\s*3\.(\d+)")
_PARSED_AGAIN_MAX: Final = 50

BaseContents = Callable[[bytes], Awaitable[bytes | None]]
"""Gives a file as it was before the change."""


class _Place(BaseModel):
    row: int


class _Violation(BaseModel):
    code: str | None
    message: str
    filename: str
    location: _Place
    end_location: _Place


class _Report(BaseModel):
    results: list[_Violation]


@dataclass(frozen=True, slots=True)
class RuffResult:
    """What ruff found, and by whose configuration."""

    findings: list[Finding]
    configuration: str
    notes: list[str]


async def ruff_findings(
    files: Sequence[AnalysedFile], bench: Bench, policy: Policy, base_contents: BaseContents
) -> RuffResult:
    """Runs ruff on the files and keeps what lies on their new lines; a file that does not parse is
    always said, and blocks unless it did not parse before either.
    """
    if not files:
        return RuffResult([], "not run", [])
    own = await asyncio.to_thread(_has_configuration, bench.checkout, files)
    target = await asyncio.to_thread(target_version, bench.checkout)
    notes: list[str] = []
    configuration = "the repository's own" if own else "diurna's default selection"
    violations: list[_Violation] = []
    for batch in batches(files):
        paths = [file.absolute for file in batch]
        if own:
            try:
                violations += await _check(bench, paths, ["--force-exclude", *_extend_select()])
                continue
            except ToolFailed as error:
                own = False
                configuration = "diurna's default selection"
                notes.append(f"the repository's ruff configuration could not be used: {error.detail}")
        violations += await _check(bench, paths, _default_options(target))
    kept = await _kept(violations, files, bench, policy, base_contents)
    return RuffResult(kept, configuration, notes)


def target_version(checkout: Path) -> str:
    """The oldest Python the project says it runs on, as ruff writes it; the newest where it says none."""
    required = text(table(read_toml(checkout / "pyproject.toml"), "project").get("requires-python"))
    lowest = _MINOR.search(required) if required else None
    minor = int(lowest[1]) if lowest else _NEWEST
    return f"py3{min(max(minor, _OLDEST), _NEWEST)}"


def _extend_select() -> list[str]:
    return ["--extend-select", ",".join(_ALWAYS)]


def _default_options(target: str) -> list[str]:
    return ["--isolated", "--target-version", target, "--select", ",".join(SELECTION)]


async def _check(bench: Bench, paths: Sequence[Path], options: Sequence[str]) -> list[_Violation]:
    report = bench.scratch / "ruff.json"
    report.unlink(missing_ok=True)
    fixed = ["check", "--no-cache", "--no-fix", "--exit-zero", "--quiet", "--output-format", "json"]
    finished = await bench.run([find_ruff_bin(), *fixed, "--output-file", report, *options, "--", *paths])
    if finished.exit_code != 0:
        raise ToolFailed("ruff", " ".join(finished.tail(300).split()))
    return read_report("ruff", report, _Report, wrap=True).results


async def _kept(
    violations: list[_Violation],
    files: Sequence[AnalysedFile],
    bench: Bench,
    policy: Policy,
    base_contents: BaseContents,
) -> list[Finding]:
    by_name = {str(file.absolute): file for file in files}
    findings: list[Finding] = []
    unparsed: dict[str, _Violation] = {}
    for violation in violations:
        file = by_name.get(violation.filename)
        if file is None:
            continue
        rule = violation.code or _SYNTAX
        if rule == _SYNTAX and _TOO_NEW not in violation.message:
            # One error makes others after it: the first tells where to look.
            unparsed.setdefault(violation.filename, violation)
        elif file.touches(violation.location.row, violation.end_location.row):
            line = violation.location.row
            findings.append(Finding(file.path, line, rule, policy.severity_of(rule), violation.message, "ruff"))
    for index, (name, violation) in enumerate(unparsed.items()):
        file = by_name[name]
        known = index < _PARSED_AGAIN_MAX and await _was_broken(file, bench, base_contents)
        severity = "comment" if known else policy.severity_of(_SYNTAX)
        message = f"does not parse{', and did not before' if known else ''}: {violation.message}"
        findings.append(Finding(file.path, violation.location.row, _SYNTAX, severity, message, "ruff"))
    return findings


async def _was_broken(file: AnalysedFile, bench: Bench, base_contents: BaseContents) -> bool:
    if file.is_new:
        return False
    before = await base_contents(file.raw_path_before)
    if before is None:
        return False
    copy = bench.scratch / f"before{file.absolute.suffix}"
    await asyncio.to_thread(copy.write_bytes, before)
    found = await _check(bench, [copy], ["--isolated", "--target-version", f"py3{_NEWEST}", "--select", "E9"])
    return any((violation.code or _SYNTAX) == _SYNTAX for violation in found)


def _has_configuration(checkout: Path, files: Sequence[AnalysedFile]) -> bool:
    directories = {checkout}
    for file in files:
        directories.update(parent for parent in file.absolute.parents if parent.is_relative_to(checkout))
    return any(
        (directory / "ruff.toml").is_file()
        or (directory / ".ruff.toml").is_file()
        or bool(table(read_toml(directory / "pyproject.toml"), "tool", "ruff"))
        for directory in directories
    )
