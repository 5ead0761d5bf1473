"""The infrastructure agent: installs releases, watches health, changes configuration, keeps services running."""

from diurna_agents.infrastructure.configuration import update_config
from diurna_agents.infrastructure.deployment import deploy_artifact, deploy_service
from diurna_agents.infrastructure.handlers import handlers
from diurna_agents.infrastructure.operations import health_check, rollback
from diurna_agents.infrastructure.tasks import execute_task

__all__ = [
    "deploy_artifact",
    "deploy_service",
    "execute_task",
    "handlers",
    "health_check",
    "rollback",
    "update_config",
]
