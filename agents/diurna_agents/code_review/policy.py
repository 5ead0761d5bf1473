"""The policy of a review: which findings block, stated so that an author can argue with it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from diurna_agents.code_review.finding import Finding, Severity
from diurna_agents.payload import Location, Payload, RefName

Level = Literal["low", "medium", "high"]
Rule = Annotated[str, Field(min_length=1, max_length=60)]

_LEVELS: Final[dict[str, int]] = {"undefined": 0, "low": 1, "medium": 2, "high": 3}

BLOCKING_RULES: Final = (
    "invalid-syntax",
    "conflict-marker",
    "secret",
    # what fails when it is run: undefined names, wrong format strings, misplaced statements
    *("F50", "F52", "F621", "F622", "F633", "F634", "F70", "F82", "PLE", "E9"),
)


class Policy(Payload):
    """What makes a review request changes. Rules are prefixes; every other finding is a comment."""

    blocking_rules: tuple[Rule, ...] = Field(default=BLOCKING_RULES, max_length=200, strict=False)
    ignored_rules: tuple[Rule, ...] = Field(default=(), max_length=200, strict=False)
    bandit_severity: Level = "high"
    bandit_confidence: Level = "high"
    lines_changed_max: int | None = Field(default=None, ge=1)
    require_tests: bool = False
    findings_max: int = Field(default=200, ge=1, le=300)

    def severity_of(self, rule: str) -> Severity:
        """Whether a finding of this rule blocks."""
        return "blocking" if rule.startswith(self.blocking_rules) else "comment"

    def severity_of_bandit(self, severity: str, confidence: str) -> Severity:
        """A bandit finding blocks where it is severe and sure enough."""
        severe = _LEVELS.get(severity.lower(), 0) >= _LEVELS[self.bandit_severity]
        sure = _LEVELS.get(confidence.lower(), 0) >= _LEVELS[self.bandit_confidence]
        return "blocking" if severe and sure else "comment"

    def keeps(self, finding: Finding) -> bool:
        """Whether the finding is wanted at all."""
        return not (self.ignored_rules and finding.rule.startswith(self.ignored_rules))


class ReviewRequest(Payload):
    """What `review_code` takes: the repository, and the two ends of the change."""

    repo: Location
    base: RefName
    head: RefName
    policy: Policy = Policy()
