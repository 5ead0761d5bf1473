"""What is asked of a deployed service afterwards: `health_check` and `rollback`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from diurna_agents.errors import ReleaseNotFound
from diurna_agents.fence import TargetFence, shown
from diurna_agents.infrastructure.health import Health, Patient, check_health
from diurna_agents.infrastructure.releases import Release, Releases
from diurna_agents.infrastructure.request import CheckRequest, HealthRequest, RollbackRequest
from diurna_agents.infrastructure.services import Declared, declared, service_of
from diurna_agents.infrastructure.watching import looked_at
from diurna_agents.payload import ServiceName, validated
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import InvalidInput


class ServicesRequest(Declared):
    """What `health_check` takes for services; without `names`, all that are declared are looked at."""

    names: tuple[ServiceName, ...] = Field(default=(), max_length=500, strict=False)


async def health_check(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Looks at the current release of `deploy_to`, or at declared services, changing nothing.

    Answers `healthy`, and of a release `release`, `version`, `head` and the `health` with its checks; of services
    each one with its checks, and the `issues`.
    """
    if "deploy_to" not in payload:
        return await _look_at_services(validated(ServicesRequest, payload), workspace, report)
    request = validated(CheckRequest, payload)
    releases = Releases(Path(request.deploy_to))
    if not releases.folder.is_dir():
        raise InvalidInput("deploy_to", request.deploy_to, "nothing was deployed there")
    release = _known(releases, releases.current() or "", "no release is current")
    health = await _look(releases, release, request.health, workspace)
    await report("health", {"healthy": health.healthy})
    return {
        "healthy": health.healthy,
        "release": release.name,
        "version": release.version,
        "service": release.service or release.distribution,
        "head": release.head,
        "health": health.as_json(),
    }


async def _look_at_services(request: ServicesRequest, workspace: Workspace, report: Report) -> dict[str, object]:
    services = await declared(request, workspace)
    wanted = request.names or tuple(services)
    answer = await looked_at({name: service_of(services, name) for name in wanted}, workspace)
    await report("health", {"healthy": answer["healthy"], "issues": answer["issues"]})
    return answer


async def rollback(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Makes an older release current again: the one named, or the newest healthy one before this.

    Answers as `deploy_service` does; where the older one is ill too, `current` is left as it was and the
    status is failed. Under a `lock` a stale token is refused, and nothing is switched.
    """
    request = validated(RollbackRequest, payload)
    releases = Releases(Path(request.deploy_to))
    if not releases.folder.is_dir():
        raise InvalidInput("deploy_to", request.deploy_to, "nothing was deployed there")
    fence = await shown(releases.deploy_to, request.lock)
    async with releases.locked("a rollback", wait_seconds=request.wait_seconds):
        was = releases.current()
        release = _known(releases, request.release or _before(releases, was), "there is none to go back to")
        if release.state not in {"deployed", "switched"}:
            detail = f"it never became healthy, its state is {release.state}"
            raise ReleaseNotFound(release.name, request.deploy_to, detail)
        await asyncio.to_thread(_switch, releases, release.name, fence)
        await report("switched", {"current": release.name, "previous": was})
        try:
            health = await _look(releases, release, None, workspace)
        except BaseException:
            releases.switch(was)
            raise
        if not health.healthy:
            releases.switch(was)
        await report("health", {"healthy": health.healthy, "current": releases.current()})
    detail = f"{release.name} is current again" if health.healthy else f"it is not healthy: {health.problem}"
    return {
        "deployment_status": "rolled_back" if health.healthy else "failed",
        "detail": detail,
        "release": release.name,
        "version": release.version,
        "previous": was,
        "current": releases.current(),
        "deploy_to": request.deploy_to,
        "health": health.as_json(),
    }


def _switch(releases: Releases, name: str, fence: TargetFence) -> None:
    with fence.passing():
        releases.switch(name)


def _before(releases: Releases, current: str | None) -> str:
    record = releases.read(current) if current else None
    previous = record.previous if record else None
    if previous is not None and releases.path(previous).is_dir():
        return previous
    return releases.newest_deployed(but=current) or ""


def _known(releases: Releases, name: str, missing: str) -> Release:
    record = releases.read(name) if name else None
    if record is None:
        detail = missing if not name else "it has no readable release.json"
        raise ReleaseNotFound(name, str(releases.deploy_to), detail)
    return record


async def _look(releases: Releases, release: Release, wanted: HealthRequest | None, workspace: Workspace) -> Health:
    if wanted is None:
        wanted = HealthRequest.model_validate(release.health) if release.health else HealthRequest()
    async with workspace.fresh("health") as home:
        patient = Patient(release, releases.link, home, workspace.environment)
        return await check_health(patient, wanted, served=True)
