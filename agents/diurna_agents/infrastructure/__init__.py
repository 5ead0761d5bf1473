"""The infrastructure agent: installs a commit as a release, watches its health, and goes back where it must."""

from diurna_agents.infrastructure.deployment import deploy_service
from diurna_agents.infrastructure.handlers import HANDLERS
from diurna_agents.infrastructure.operations import health_check, rollback

__all__ = ["HANDLERS", "deploy_service", "health_check", "rollback"]
