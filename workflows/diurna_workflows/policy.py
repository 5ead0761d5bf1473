"""Who approves a deployment: the four approval policies, stated so that they can be argued with.

- `auto`: approved when the review approved, the repository's own tests ran and passed, and the change is small (at
  most `auto_lines_max` added and deleted lines, lock files not counted). Anything else is rejected with the reason;
  nobody is asked.
- `risk`: a change of at most the risk `risk_max` is approved as `auto` does; above it, a person decides.
- `human`: a person decides, with `diurna workflow approve` or `reject`, until `approval_timeout_seconds` have passed.
- `never`: reviewed and tested, and then rejected: a rehearsal that deploys nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

ApprovalPolicy = Literal["auto", "risk", "human", "never"]
RiskLevel = Literal["low", "medium", "high"]
_LEVELS: Final[tuple[RiskLevel, ...]] = ("low", "medium", "high")
LOW_LINES_MAX: Final = 200
MEDIUM_LINES_MAX: Final = 1_000
AUTO_LINES_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a deployment may go on, and why."""

    is_approved: bool
    decided_by: str
    reason: str

    def as_json(self) -> dict[str, object]:
        """The decision as a result holds it."""
        return {"approved": self.is_approved, "decided_by": self.decided_by, "reason": self.reason}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Decision:
        """Back again."""
        return cls(found["approved"] is True, str(found["decided_by"]), str(found["reason"]))


@dataclass(frozen=True, slots=True)
class Risk:
    """How much may go wrong with a change, and what says so."""

    level: RiskLevel
    reasons: tuple[str, ...]


def risk_of(review: Mapping[str, Any], tests: Mapping[str, Any]) -> Risk:
    """High where nothing was proven or much was changed, medium where something was or was remarked, else low."""
    found: list[tuple[RiskLevel, str]] = []
    if review.get("approved") is not True:
        found.append(("high", "the review did not approve"))
    if tests.get("passed") is not True:
        found.append(("high", f"no test proved it: {tests.get('outcome', 'no outcome')}"))
    lines = lines_changed(review)
    if lines is None:
        found.append(("high", "how large the change is, is not known"))
    elif lines > LOW_LINES_MAX:
        found.append(("high" if lines > MEDIUM_LINES_MAX else "medium", f"{lines} changed lines"))
    if review.get("findings"):
        found.append(("medium", f"{review.get('findings_total', len(review['findings']))} remarks of the review"))
    if review.get("observations", {}).get("tests", {}).get("source_without_tests") is True:
        found.append(("medium", "source was changed, and no test"))
    highest = max((_LEVELS.index(level) for level, _ in found), default=0)
    return Risk(_LEVELS[highest], tuple(reason for _, reason in found))


def decide_by_risk(review: Mapping[str, Any], tests: Mapping[str, Any], risk_max: RiskLevel) -> Decision | None:
    """What the policy `risk` says; none where a person is to say it."""
    risk = risk_of(review, tests)
    if _LEVELS.index(risk.level) > _LEVELS.index(risk_max):
        return None
    reasons = "; ".join(risk.reasons) or "review approved without remarks, tests passed, a small change with tests"
    return Decision(True, "policy-risk", f"risk {risk.level}, up to {risk_max} passes without a person: {reasons}")


def decide_automatically(
    review: Mapping[str, Any], tests: Mapping[str, Any], *, lines_max: int = AUTO_LINES_MAX
) -> Decision:
    """What the policy `auto` says to the answers of review and test."""
    faults: list[str] = []
    if review.get("approved") is not True:
        faults.append("the review did not approve")
    if tests.get("passed") is not True:
        faults.append(f"no test proved it: the pipeline ended with {tests.get('outcome', 'no outcome')}")
    lines = lines_changed(review)
    if lines is None:
        faults.append("the review did not say how large the change is")
    elif lines > lines_max:
        faults.append(f"{lines} changed lines are more than the {lines_max} that pass without a person")
    if faults:
        return Decision(False, "policy-auto", "; ".join(faults))
    return Decision(True, "policy-auto", f"review approved, tests passed, {lines} changed lines of at most {lines_max}")


def never() -> Decision:
    """What the policy `never` says."""
    return Decision(False, "policy-never", "the policy `never` rehearses a deployment and approves none")


def lines_changed(review: Mapping[str, Any]) -> int | None:
    """How many lines there are to read, as the review observed it; generated files are not among them."""
    size = review.get("observations", {}).get("size", {})
    found = size.get("lines_to_read")
    return found if isinstance(found, int) else None
