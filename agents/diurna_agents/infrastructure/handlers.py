"""The request types the infrastructure agent answers."""

from __future__ import annotations

from typing import Final

from diurna_agents.infrastructure.deployment import deploy_service
from diurna_agents.infrastructure.operations import health_check, rollback

HANDLERS: Final = {"deploy_service": deploy_service, "health_check": health_check, "rollback": rollback}
