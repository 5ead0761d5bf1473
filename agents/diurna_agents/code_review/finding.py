"""A finding: one thing a review has to say about one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Literal

Severity = Literal["blocking", "comment"]
MESSAGE_CHARACTERS_MAX: Final = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """`line` is of the new file, from 1; 0 stands for the file, or the change, as a whole."""

    file: str
    line: int
    rule: str
    severity: Severity
    message: str
    tool: str

    def as_json(self) -> dict[str, object]:
        """The finding as an answer holds it."""
        return {**asdict(self), "message": self.message[:MESSAGE_CHARACTERS_MAX]}


def in_reading_order(findings: list[Finding]) -> list[Finding]:
    """What blocks first, then by place; the same thing said twice is said once."""
    unique = dict.fromkeys(findings)
    return sorted(
        unique, key=lambda finding: (finding.severity != "blocking", finding.file, finding.line, finding.rule)
    )
