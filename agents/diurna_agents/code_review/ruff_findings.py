"""Findings of ruff on the changed lines, by the repository's own configuration where it has one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from diurna_agents.code_review.finding import Finding
from diurna_agents.code_review.policy import Policy
from diurna_agents.code_review.tools import AnalysedFile, Bench, batches, read_report
from diurna_agents.errors import ToolFailed
from diurna_agents.ruff_tool import (
    NEWEST,
    Violation,
    Violations,
    has_configuration,
    ruff_program,
    target_version,
    without_configuration,
)

_ALWAYS: Final = ("E9", "F50", "F52", "F621", "F622", "F633", "F634", "F70", "F82")
"""What fails when it is run is looked for whatever else the repository selects."""
_SYNTAX: Final = "invalid-syntax"
_TOO_NEW: Final = "(syntax was added in Python"
_PARSED_AGAIN_MAX: Final = 50

BaseContents = Callable[[bytes], Awaitable[bytes | None]]
"""Gives a file as it was before the change."""


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
    own = await asyncio.to_thread(has_configuration, bench.checkout, [file.absolute for file in files])
    target = await asyncio.to_thread(target_version, bench.checkout)
    notes: list[str] = []
    configuration = "the repository's own" if own else "diurna's default selection"
    violations: list[Violation] = []
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
        violations += await _check(bench, paths, without_configuration(target))
    kept = await _kept(violations, files, bench, policy, base_contents)
    return RuffResult(kept, configuration, notes)


def _extend_select() -> list[str]:
    return ["--extend-select", ",".join(_ALWAYS)]


async def _check(bench: Bench, paths: Sequence[Path], options: Sequence[str]) -> list[Violation]:
    report = bench.scratch / "ruff.json"
    report.unlink(missing_ok=True)
    fixed = ["check", "--no-cache", "--no-fix", "--exit-zero", "--quiet", "--output-format", "json"]
    finished = await bench.run([ruff_program(), *fixed, "--output-file", report, *options, "--", *paths])
    if finished.exit_code != 0:
        raise ToolFailed("ruff", " ".join(finished.tail(300).split()))
    return read_report("ruff", report, Violations, wrap=True).results


async def _kept(
    violations: list[Violation],
    files: Sequence[AnalysedFile],
    bench: Bench,
    policy: Policy,
    base_contents: BaseContents,
) -> list[Finding]:
    by_name = {str(file.absolute): file for file in files}
    findings: list[Finding] = []
    unparsed: dict[str, Violation] = {}
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
    found = await _check(bench, [copy], ["--isolated", "--target-version", f"py3{NEWEST}", "--select", "E9"])
    return any((violation.code or _SYNTAX) == _SYNTAX for violation in found)
