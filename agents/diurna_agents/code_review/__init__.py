"""The code-review agent: reads what a branch changes, and approves or requests changes by a stated policy."""

from __future__ import annotations

from collections.abc import Mapping

from diurna_agents.code_review.diagnosis import diagnose_service
from diurna_agents.code_review.review import review_code
from diurna_agents.surroundings import Surroundings, Work

__all__ = ["diagnose_service", "handlers", "review_code"]


def handlers(_: Surroundings) -> Mapping[str, Work]:
    """The request types the code-review agent answers."""
    return {"review_code": review_code, "diagnose_service": diagnose_service}
