"""The cicd agent: runs a repository's own tests, checks that it builds, and deploys what was built."""

from diurna_agents.cicd.handlers import handlers
from diurna_agents.cicd.pipeline import run_pipeline
from diurna_agents.cicd.validation import validate_build
from diurna_agents.infrastructure.deployment import deploy_artifact

__all__ = ["deploy_artifact", "handlers", "run_pipeline", "validate_build"]
