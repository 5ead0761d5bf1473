"""Reads the JUnit report that pytest writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from diurna_agents.process import end_of

_REPORT_BYTES_MAX: Final = 256 * 1024 * 1024
_NAMED_MAX: Final = 50
_MESSAGE_BYTES_MAX: Final = 1_500
_NAME_BYTES_MAX: Final = 300
"""An answer has to fit on the log, and the name of a test may hold whatever it was given."""


@dataclass(frozen=True, slots=True)
class FailedTest:
    """One test that did not pass, and what it said."""

    name: str
    message: str


@dataclass(frozen=True, slots=True)
class JunitReport:
    """What a run of tests came to. `failed` names the first of them, the counts count all."""

    tests: int
    failures: int
    errors: int
    skipped: int
    duration_ms: int
    failed: tuple[FailedTest, ...]

    @property
    def ran(self) -> int:
        """How many tests were not skipped."""
        return self.tests - self.skipped


def read_report(path: Path) -> JunitReport | None:
    """The report at `path`; None where there is none, or it is not whole: the run then died midway."""
    try:
        if path.stat().st_size > _REPORT_BYTES_MAX:
            return None
        return _read(path)
    except (OSError, ParseError, DefusedXmlException, ValueError):
        return None


def _read(path: Path) -> JunitReport:
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    seconds = 0.0
    failed: list[FailedTest] = []
    for _, element in iterparse(str(path), events=("end",)):
        if element.tag == "testsuite":
            for name in counts:
                counts[name] += int(element.get(name) or 0)
            seconds += float(element.get("time") or 0)
        elif element.tag == "testcase":
            found = _failed(element)
            if found is not None and len(failed) < _NAMED_MAX:
                failed.append(found)
            # A report may be large; what was read is let go.
            element.clear()
    return JunitReport(
        tests=counts["tests"],
        failures=counts["failures"],
        errors=counts["errors"],
        skipped=counts["skipped"],
        duration_ms=round(seconds * 1000),
        failed=tuple(failed),
    )


def _failed(case: Element) -> FailedTest | None:
    for child in case:
        if child.tag in {"failure", "error"}:
            place = case.get("classname") or ""
            name = case.get("name") or "?"
            said = (child.get("message") or "").strip()
            details = (child.text or "").strip()
            message = f"{said}\n{end_of(details, _MESSAGE_BYTES_MAX // 2)}".strip() if details else said
            named = f"{place}::{name}" if place else name
            return FailedTest(_beginning_of(named, _NAME_BYTES_MAX), _beginning_of(message, _MESSAGE_BYTES_MAX))
    return None


def _beginning_of(text: str, bytes_max: int) -> str:
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= bytes_max else f"{raw[: bytes_max - 3].decode('utf-8', 'ignore')}…"
