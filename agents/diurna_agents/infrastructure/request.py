"""What the infrastructure agent takes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from diurna_agents.fence import LockClaim
from diurna_agents.payload import AbsolutePath, CommandLine, Location, Payload, RefName, Word


def web_address(value: str) -> str:
    """`value` where it is the address of a page."""
    if not value.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return value


ReleaseName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class HealthRequest(Payload):
    """How the health of a release is told: one of a command, a URL, a module; by default its imports.

    `command` runs in the release's environment without a shell; `module` is run as `python -m`; `url`
    must answer 2xx and is asked once the release is current, for only then can it be served.
    """

    command: CommandLine | None = None
    url: Annotated[Word, AfterValidator(web_address)] | None = None
    module: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]{0,200}$")] | None = None
    attempts: int = Field(default=3, ge=1, le=100)
    timeout_seconds: float = Field(default=30, gt=0, le=600, allow_inf_nan=False)

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        given = [name for name in ("command", "url", "module") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of command, url and module, not {' and '.join(given)}")
        return self


class Deploying(Payload):
    """Where to deploy, and how. `requested_at` (ISO 8601, with zone) names the release, else the clock."""

    deploy_to: AbsolutePath
    service: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = None
    health: HealthRequest = HealthRequest()
    keep: int = Field(default=5, ge=1, le=100)
    requested_at: Annotated[datetime, Field(strict=False)] | None = None
    lock: LockClaim | None = None
    wait_seconds: float = Field(default=300, ge=0, le=3_600, allow_inf_nan=False)
    timeout_seconds: float = Field(default=900, gt=0, le=7_200, allow_inf_nan=False)


class DeployRequest(Deploying):
    """What `deploy_service` takes."""

    repo: Location
    head: RefName


class ArtifactRequest(Deploying):
    """What `deploy_artifact` takes: a wheel or sdist on this machine, and the checksum it must have."""

    artifact: AbsolutePath
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{64}$")] | None = None


class CheckRequest(Payload):
    """What `health_check` takes; without `health`, the check the release was deployed with."""

    deploy_to: AbsolutePath
    health: HealthRequest | None = None


class RollbackRequest(Payload):
    """What `rollback` takes; without `release`, the one that was current before."""

    deploy_to: AbsolutePath
    release: ReleaseName | None = None
    lock: LockClaim | None = None
    wait_seconds: float = Field(default=300, ge=0, le=3_600, allow_inf_nan=False)
