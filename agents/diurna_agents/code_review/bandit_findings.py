"""Findings of bandit on the changed lines: what could be a hole."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from diurna_agents.code_review.finding import Finding
from diurna_agents.code_review.policy import Policy
from diurna_agents.code_review.tools import AnalysedFile, Bench, batches, read_report
from diurna_agents.errors import ToolFailed

_FINE_IN_TESTS: Final = frozenset({"B101", "B105", "B106", "B107", "B404", "B603", "B607"})
"""Assertions, made-up passwords and child processes are what tests are made of."""


class _Result(BaseModel):
    filename: str
    line_number: int
    line_range: list[int] = []
    test_id: str
    issue_severity: str
    issue_confidence: str
    issue_text: str


class _Unread(BaseModel):
    filename: str
    reason: str


class _Report(BaseModel):
    results: list[_Result]
    errors: list[_Unread] = []


@dataclass(frozen=True, slots=True)
class BanditResult:
    """What bandit found, and which files it could not read."""

    findings: list[Finding]
    not_read: list[str]


async def bandit_findings(files: Sequence[AnalysedFile], bench: Bench, policy: Policy) -> BanditResult:
    """Runs bandit on the files and keeps what lies on their new lines."""
    findings: list[Finding] = []
    not_read: list[str] = []
    by_path = {file.absolute.resolve(): file for file in files}
    for batch in batches(files):
        report = await _scan(bench, batch)
        for result in report.results:
            file = by_path.get((bench.checkout / result.filename).resolve())
            if file is None or (file.is_test and result.test_id in _FINE_IN_TESTS):
                continue
            first, last = min([result.line_number, *result.line_range]), result.line_number
            if file.touches(first, last):
                severity = policy.severity_of_bandit(result.issue_severity, result.issue_confidence)
                text = (
                    f"{result.issue_text} (severity {result.issue_severity.lower()}, "
                    f"confidence {result.issue_confidence.lower()})"
                )
                findings.append(Finding(file.path, result.line_number, result.test_id, severity, text, "bandit"))
        for unread in report.errors:
            file = by_path.get((bench.checkout / unread.filename).resolve())
            not_read.append(file.path if file else unread.filename)
    return BanditResult(findings, not_read)


async def _scan(bench: Bench, files: Sequence[AnalysedFile]) -> _Report:
    report = bench.scratch / "bandit.json"
    report.unlink(missing_ok=True)
    # Started in the scratch directory's sight: nothing of the checkout may be imported by -m.
    command: list[str | Path] = [sys.executable, "-I", "-m", "bandit"]
    options: list[str | Path] = ["--format", "json", "--quiet", "--exit-zero", "--output", report]
    finished = await bench.run([*command, *options, *(file.absolute for file in files)])
    if finished.exit_code != 0:
        raise ToolFailed("bandit", " ".join(finished.tail(300).split()))
    return read_report("bandit", report, _Report)
