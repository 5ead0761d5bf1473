"""The request types the cicd agent answers."""

from __future__ import annotations

from collections.abc import Mapping

from diurna_agents.cicd.diagnosis import diagnose_service
from diurna_agents.cicd.pipeline import run_pipeline
from diurna_agents.cicd.validation import validate_build
from diurna_agents.infrastructure.deployment import deploy_artifact
from diurna_agents.surroundings import Surroundings, Work


def handlers(_: Surroundings) -> Mapping[str, Work]:
    """The work, by request type. An artifact is deployed by the code that deploys a commit."""
    return {
        "run_pipeline": run_pipeline,
        "validate_build": validate_build,
        "deploy_artifact": deploy_artifact,
        "diagnose_service": diagnose_service,
    }
