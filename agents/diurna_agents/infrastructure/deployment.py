"""Deploys a commit: a fresh release, its health, one switch, its health again, or back: `deploy_service`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from diurna_agents.fence import TargetFence, shown
from diurna_agents.infrastructure.health import Health, Patient, check_health
from diurna_agents.infrastructure.installation import NotInstallable
from diurna_agents.infrastructure.releases import Release, Releases
from diurna_agents.infrastructure.request import ArtifactRequest, Deploying, DeployRequest
from diurna_agents.infrastructure.sources import ArtifactSource, CommitSource, Site, Source
from diurna_agents.payload import validated
from diurna_agents.repository import open_repository, resolve
from diurna_agents.workspace import Report, Workspace, remove_tree

_LOG_CHARACTERS_MAX: Final = 8_000


async def deploy_service(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Deploys `head` of a repository into `deploy_to`.

    Answers `deployment_status`: deployed; rolled_back, where the release had been made current and was
    found ill through `current`; failed, where `current` was never touched or there was nothing to go
    back to. With `release`, `previous`, `current`, `health`, `steps`, `detail` and `log_tail`.

    Under a `lock` its token is checked on arrival and when switching. Raises `StaleToken` where a later holder of the
    lock has been here: then nothing was switched.
    """
    request = validated(DeployRequest, payload)
    repository = await open_repository(request.repo, workspace=workspace, refs=(request.head,))
    head = await resolve(repository, "head", request.head)
    return await deployed(CommitSource(repository, head), request, workspace=workspace, report=report)


async def deploy_artifact(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Deploys a wheel or sdist that was built before; answers as `deploy_service` does, `head` is its checksum."""
    request = validated(ArtifactRequest, payload)
    source = await ArtifactSource.of(Path(request.artifact), request.sha256)
    return await deployed(source, request, workspace=workspace, report=report)


async def deployed(source: Source, request: Deploying, *, workspace: Workspace, report: Report) -> dict[str, object]:
    """One deployment of anything, alone in its directory."""
    releases = Releases(Path(request.deploy_to))
    await asyncio.to_thread(releases.prepare)
    fence = await shown(releases.deploy_to, request.lock)
    async with (
        releases.locked(f"{source.location} {source.head[:12]}", wait_seconds=request.wait_seconds),
        workspace.fresh("deployment") as directory,
    ):
        deployment = Deployment(request, releases, fence, directory=directory, workspace=workspace, report=report)
        return await deployment.run(source)


class Deployment:
    """One deployment, with the lock of its directory held."""

    def __init__(
        self,
        request: Deploying,
        releases: Releases,
        fence: TargetFence,
        *,
        directory: Path,
        workspace: Workspace,
        report: Report,
    ) -> None:
        self._request = request
        self._releases = releases
        self._fence = fence
        self._directory = directory
        self._workspace = workspace
        self._report = report
        self._started = time.monotonic()
        self._steps: list[dict[str, object]] = []
        self._previous: str | None = None
        self._switched = False
        self._notes: list[str] = []

    async def run(self, source: Source) -> dict[str, object]:
        """All of it, from the tree to the answer."""
        cleaned = await asyncio.to_thread(self._releases.clean)
        if cleaned:
            await self._step("cleaned", {"releases": cleaned})
        self._previous = await asyncio.to_thread(self._releases.to_go_back_to)
        moment = self._request.requested_at or datetime.now(UTC)
        release = Release(
            name=self._releases.new_name(source.head, moment),
            head=source.head,
            repository=source.location,
            service=self._request.service,
            kind="wheel",
            health=self._request.health.model_dump(mode="json"),
            state="building",
            previous=self._previous,
            created_at=datetime.now(UTC).isoformat(),
        )
        path = self._releases.path(release.name)
        path.mkdir()
        self._releases.write(release)
        try:
            return await self._deploy(release, path, source)
        except BaseException:
            # Cancelled, or broken in a way nobody foresaw: leave nothing behind that looks like a release.
            if self._switched:
                self._releases.switch(self._previous)
            if self._releases.current() != release.name:
                await asyncio.shield(asyncio.to_thread(remove_tree, path))
            raise

    async def _deploy(self, release: Release, path: Path, source: Source) -> dict[str, object]:
        scratch = self._directory / "scratch"
        scratch.mkdir()
        deadline = self._started + self._request.timeout_seconds
        site = Site(path, scratch, self._workspace.environment, deadline, self._step, self._notes)
        try:
            release = await source.install(release, site)
        except NotInstallable as error:
            return await self._failed(release, path, error.reason, log=error.log)
        self._releases.write(release)
        before = await self._look(release, path, served=False)
        if not before.healthy:
            return await self._failed(release, path, f"the release is not healthy: {before.problem}", health=before)
        with self._fence.passing():
            release = self._releases.write(release.at("switched"))
            self._switched = True
            self._releases.switch(release.name)
        await self._step("switched", {"current": release.name, "previous": self._previous})
        after = await self._look(release, self._releases.link, served=True)
        if not after.healthy:
            return await self._went_back(release, after)
        self._releases.write(release.at("deployed"))
        self._switched = False
        pruned = await asyncio.to_thread(
            self._releases.prune, self._request.keep, needed={release.name, self._previous}
        )
        if pruned:
            await self._step("pruned", {"releases": pruned})
        return self._answer("deployed", release, "the release is current and healthy", health=after)

    async def _look(self, release: Release, path: Path, *, served: bool) -> Health:
        home = self._directory / ("home-served" if served else "home")
        home.mkdir(exist_ok=True)
        patient = Patient(release, path, home, self._workspace.environment)
        health = await check_health(patient, self._request.health, served=served)
        await self._step("health", {"through": health.through, "healthy": health.healthy, "problem": health.problem})
        return health

    async def _went_back(self, release: Release, health: Health) -> dict[str, object]:
        self._releases.switch(self._previous)
        self._switched = False
        detail = f"not healthy through current: {health.problem}"
        self._releases.write(release.at("failed", detail=detail))
        await self._step("rolled_back", {"current": self._previous})
        if self._previous is None:
            detail += "; there was no release before to go back to, so none is current"
        await asyncio.to_thread(self._releases.prune, self._request.keep, needed={self._previous})
        status = "failed" if self._previous is None else "rolled_back"
        return self._answer(status, release, detail, health=health)

    async def _failed(
        self, release: Release, path: Path, reason: str, *, log: str = "", health: Health | None = None
    ) -> dict[str, object]:
        self._releases.write(release.at("failed", detail=reason))
        if health is None:
            # Half an installation is of use to nobody; the record stays and says why.
            await asyncio.to_thread(remove_tree, path / "environment")
        await self._step("failed", {"reason": reason})
        await asyncio.to_thread(self._releases.prune, self._request.keep, needed={self._previous})
        return self._answer("failed", release, reason, health=health, log=log)

    def _answer(
        self, status: str, release: Release, detail: str, *, health: Health | None = None, log: str = ""
    ) -> dict[str, object]:
        return {
            "deployment_status": status,
            "detail": detail,
            "service": release.service or release.distribution,
            "release": release.name,
            "version": release.version,
            "previous": self._previous,
            "current": self._releases.current(),
            "deploy_to": str(self._releases.deploy_to),
            "health": health.as_json() if health else None,
            "steps": self._steps,
            "notes": self._notes,
            "log_tail": log[-_LOG_CHARACTERS_MAX:],
            "head": release.head,
            "duration_ms": round((time.monotonic() - self._started) * 1000),
        }

    async def _step(self, name: str, details: dict[str, object]) -> None:
        at_ms = round((time.monotonic() - self._started) * 1000)
        self._steps.append({"step": name, "at_ms": at_ms, **details})
        await self._report(name, details)
