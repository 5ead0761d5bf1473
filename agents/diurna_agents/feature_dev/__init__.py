"""The feature-dev agent: tidies code, has it written, and explains it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from diurna_agents.feature_dev.explanation import explain_code
from diurna_agents.feature_dev.generation import generate_code
from diurna_agents.feature_dev.refactoring import refactor_code
from diurna_agents.surroundings import Surroundings, Work

__all__ = ["explain_code", "generate_code", "handlers", "refactor_code"]


def handlers(surroundings: Surroundings) -> Mapping[str, Work]:
    """The request types the feature-dev agent answers."""
    return {
        "refactor_code": refactor_code,
        "generate_code": partial(generate_code, model=surroundings.model),
        "explain_code": partial(explain_code, model=surroundings.model),
    }
