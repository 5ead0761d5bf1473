"""The request types the documentation agent answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from diurna_agents.documentation.generation import generate_docs
from diurna_agents.documentation.readme import update_readme
from diurna_agents.documentation.site import merge_docs
from diurna_agents.surroundings import Surroundings, Work


def handlers(surroundings: Surroundings) -> Mapping[str, Work]:
    """The work, by request type."""
    return {
        "generate_docs": partial(generate_docs, model=surroundings.model),
        "merge_docs": merge_docs,
        "update_readme": update_readme,
    }
