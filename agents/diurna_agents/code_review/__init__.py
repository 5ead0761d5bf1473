"""The code-review agent: reads what a branch changes, and approves or requests changes by a stated policy."""

from diurna_agents.code_review.review import HANDLERS, review_code

__all__ = ["HANDLERS", "review_code"]
