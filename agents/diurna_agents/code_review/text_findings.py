"""Findings that need no language: conflict markers, and additions that look like secrets."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from diurna.redaction import TOKENS
from diurna_agents.code_review.finding import Finding

_LINE_CHARACTERS_MAX: Final = 4_000
_ENTROPY_MIN: Final = 3.5
_START: Final = "<<<<<<< "
_END: Final = ">>>>>>> "

_ASSIGNMENT: Final = re.compile(
    r"(?i)\b[\w.-]*(?:password|passwd|secret|api_?key|access_?token|auth_?token)[\w.-]*"
    r"[\"']?\s*[:=]\s*[\"'](?P<value>[^\"'\s]{12,200})[\"']"
)
_NOT_MEANT: Final = re.compile(r"(?i)example|placeholder|changeme|dummy|your[_-]|xxxx|<[^>]+>|\$\{|\{\{|%\(")
_ALLOWED: Final = re.compile(r"(?i)pragma:\s*allowlist[ -]secret")


def conflict_markers(path: str, lines: list[str], added: frozenset[int]) -> list[Finding]:
    """Leftovers of a merge among the added lines, in a file that holds both ends of a conflict."""
    starts = [number for number, line in enumerate(lines, 1) if line.startswith(_START)]
    ends = [number for number, line in enumerate(lines, 1) if line.startswith(_END)]
    if not starts or not ends:
        return []
    return [
        Finding(path, number, "conflict-marker", "blocking", "a merge conflict was left unresolved", "diurna")
        for number in starts
        if number in added and any(end > number for end in ends)
    ]


def secrets(path: str, lines: list[str], added: frozenset[int]) -> Iterator[Finding]:
    """Added lines that look like a secret; the message says what kind, never what it is."""
    for number, line in enumerate(lines, 1):
        if number not in added or len(line) > _LINE_CHARACTERS_MAX or _ALLOWED.search(line):
            continue
        for what, pattern in TOKENS:
            found = pattern.search(line)
            if found is not None and not _NOT_MEANT.search(found.group()):
                yield Finding(path, number, "secret", "blocking", f"this looks like {what}", "diurna")
                break
        else:
            assigned = _ASSIGNMENT.search(line)
            if assigned is not None and _looks_random(assigned["value"]):
                message = "a value that looks random is assigned to something named like a secret"
                yield Finding(path, number, "possible-secret", "comment", message, "diurna")


def _looks_random(value: str) -> bool:
    if _NOT_MEANT.search(value):
        return False
    counts = Counter(value)
    entropy = -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())
    kinds = (str.islower, str.isupper, str.isdigit)
    mixed = sum(any(kind(character) for character in value) for kind in kinds) >= 2
    return mixed and entropy >= _ENTROPY_MIN
