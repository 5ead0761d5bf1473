"""The cicd agent: runs a repository's own tests in an environment of their own, and checks that it builds."""

from diurna_agents.cicd.handlers import HANDLERS
from diurna_agents.cicd.pipeline import run_pipeline
from diurna_agents.cicd.validation import validate_build

__all__ = ["HANDLERS", "run_pipeline", "validate_build"]
