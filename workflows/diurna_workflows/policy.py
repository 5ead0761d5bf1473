"""Who approves a deployment: the three approval policies, stated so that they can be argued with.

- `auto`: approved when the review approved, the repository's own tests ran and passed, and the change is small (at
  most `auto_lines_max` added and deleted lines, lock files not counted). Anything else is rejected with the reason;
  nobody is asked.
- `human`: a person decides, with `diurna workflow approve` or `reject`, until `approval_timeout_seconds` have passed.
- `never`: reviewed and tested, and then rejected: a rehearsal that deploys nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

ApprovalPolicy = Literal["auto", "human", "never"]
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
