"""The documentation agent: writes reference, guides and README sections from what a repository holds."""

from diurna_agents.documentation.generation import generate_docs
from diurna_agents.documentation.handlers import handlers
from diurna_agents.documentation.readme import update_readme
from diurna_agents.documentation.site import merge_docs

__all__ = ["generate_docs", "handlers", "merge_docs", "update_readme"]
