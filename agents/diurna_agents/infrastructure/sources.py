"""What a release is made from: a commit of a repository, or an artifact that was built from one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from diurna_agents.checkout import check_out
from diurna_agents.distribution import build_from_sdist, checksum, read_wheel
from diurna_agents.infrastructure.installation import Installation, NotInstallable, Step, installed_wheel, must
from diurna_agents.infrastructure.releases import Release
from diurna_agents.python_project import read_project
from diurna_agents.repository import Repository
from diurna_agents.uv_tool import Uv
from diurna_schemas.errors import InvalidInput


@dataclass(slots=True)
class Site:
    """Where a release is put: its own path, room to work, and until when."""

    release_path: Path
    scratch: Path
    environment: Mapping[str, str]
    deadline: float
    step: Step
    notes: list[str] = field(default_factory=list[str])


class Source(Protocol):
    """What a deployment deploys. `head` names it for good: a commit's id, or an artifact's checksum."""

    @property
    def head(self) -> str: ...

    @property
    def location(self) -> str:
        """Where it comes from, fit to be shown."""
        ...

    async def install(self, release: Release, site: Site) -> Release:
        """Installs it; the record comes back with what is in the release. Raises `NotInstallable`."""
        ...


@dataclass(frozen=True, slots=True)
class CommitSource:
    """A commit, built where it is deployed."""

    repository: Repository
    head: str

    @property
    def location(self) -> str:
        return self.repository.location

    async def install(self, release: Release, site: Site) -> Release:
        tree = await check_out(self.repository, self.head, site.scratch.parent / "tree")
        site.notes += tree.notes()
        await site.step("checkout", {"head": self.head, "files": tree.file_count})
        installation = Installation(
            tree=tree,
            project=await asyncio.to_thread(read_project, tree.directory),
            release_path=site.release_path,
            scratch=site.scratch,
            environment=site.environment,
            deadline=site.deadline,
            step=site.step,
        )
        return await installation.install(release)


@dataclass(frozen=True, slots=True)
class ArtifactSource:
    """A wheel or an sdist as it was built; `head` is its SHA-256."""

    file: Path
    head: str

    @property
    def location(self) -> str:
        return str(self.file)

    @classmethod
    async def of(cls, file: Path, sha256: str | None) -> ArtifactSource:
        """The artifact at this path. Raises `InvalidInput` where it is none, or not the one that was meant."""
        if not file.name.endswith((".whl", ".tar.gz")):
            raise InvalidInput("artifact", str(file), "a wheel (.whl) or an sdist (.tar.gz) can be deployed")
        try:
            found = await asyncio.to_thread(checksum, file)
        except OSError as error:
            raise InvalidInput("artifact", str(file), f"it cannot be read: {error.strerror}") from error
        if sha256 is not None and sha256.lower() != found:
            raise InvalidInput("sha256", sha256, f"the artifact {file.name} has the checksum {found}")
        return cls(file, found)

    async def install(self, release: Release, site: Site) -> Release:
        wheel = self.file
        uv = Uv.below(site.scratch, site.environment)
        if wheel.name.endswith(".tar.gz"):
            built = await build_from_sdist(uv, wheel, site.scratch / "dist", timeout_seconds=_left(site))
            must(built.finished, "the wheel could not be built from the sdist")
            if built.wheel is None:
                raise NotInstallable("the build left no wheel", built.finished.tail())
            wheel = built.wheel
        facts = await read_wheel(wheel)
        if facts.problems:
            raise NotInstallable(f"the artifact's metadata is wrong: {'; '.join(facts.problems)}")
        python = await uv.find_python(facts.requires_python)
        if python is None:
            raise NotInstallable(f"no Python on this machine satisfies requires-python {facts.requires_python!r}")
        target = site.release_path / "environment"
        must(await uv.make_environment(target, python), "the environment could not be made")
        must(await uv.install(target, [wheel], timeout_seconds=_left(site)), "the artifact could not be installed")
        if await asyncio.to_thread(checksum, self.file) != self.head:
            raise NotInstallable("the artifact was changed while it was installed")
        await site.step("installed", {"how": "the newest versions its metadata allows", "artifact": self.file.name})
        return installed_wheel(release, facts, python)


def _left(site: Site) -> float:
    left = site.deadline - time.monotonic()
    if left <= 0:
        raise NotInstallable("the time for the installation is over")
    return left
