"""The request types the infrastructure agent answers."""

from __future__ import annotations

from collections.abc import Mapping

from diurna_agents.infrastructure.configuration import update_config
from diurna_agents.infrastructure.deployment import deploy_service
from diurna_agents.infrastructure.diagnosis import diagnose_service
from diurna_agents.infrastructure.operations import health_check, rollback
from diurna_agents.infrastructure.tasks import execute_task
from diurna_agents.surroundings import Surroundings, Work


def handlers(_: Surroundings) -> Mapping[str, Work]:
    """The work, by request type."""
    return {
        "deploy_service": deploy_service,
        "health_check": health_check,
        "rollback": rollback,
        "update_config": update_config,
        "execute_task": execute_task,
        "diagnose_service": diagnose_service,
    }
