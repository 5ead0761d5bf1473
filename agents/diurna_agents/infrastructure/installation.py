"""Puts a commit into a release directory: the wheel with what it requires, or the tree itself."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from diurna_agents import process
from diurna_agents.checkout import Checkout
from diurna_agents.distribution import WheelFacts, build, read_wheel, version_hints
from diurna_agents.infrastructure.releases import Release
from diurna_agents.python_project import PythonProject
from diurna_agents.uv_tool import Uv
from diurna_schemas.errors import Refused

Step = Callable[[str, dict[str, object]], Awaitable[None]]


class NotInstallable(Refused):
    """The commit cannot be built or installed; `log` is what the tools said."""

    code = "not_installable"

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(reason)
        self.log = log


@dataclass(slots=True)
class Installation:
    """The installation of one tree into one release directory, within one span of time."""

    tree: Checkout
    project: PythonProject
    release_path: Path
    scratch: Path
    environment: Mapping[str, str]
    deadline: float
    step: Step

    @property
    def _target(self) -> Path:
        # Made where it stays: a virtual environment knows its own path.
        return self.release_path / "environment"

    @property
    def _app(self) -> Path:
        return self.release_path / "app"

    async def install(self, release: Release) -> Release:
        """Installs; the record comes back with what is in the release. Raises `NotInstallable`."""
        if not self.project.is_python:
            await self._copy_tree()
            return release.at("installed", kind="tree")
        uv = Uv.below(
            self.tree.directory,
            self.environment,
            **version_hints(self.project, self.tree, self.environment),
        )
        python = await uv.find_python(self.project.requires_python)
        if python is None:
            required = self.project.requires_python
            raise NotInstallable(f"no Python on this machine satisfies requires-python {required!r}")
        must(await uv.make_environment(self._target, python), "the environment could not be made")
        if self.project.buildable:
            return await self._install_wheel(release, uv, python)
        # Copied first: what is installed from paths of the tree may lead back there, and the checkout goes.
        await self._copy_tree()
        # The settings stay those of the checkout: of the place that is deployed to, uv knows nothing.
        await self._install_requirements(Uv(self._app, {**uv.environment, "UV_PROJECT": str(self.tree.directory)}))
        return release.at("installed", kind="tree", python=python)

    async def _install_wheel(self, release: Release, uv: Uv, python: str) -> Release:
        built = await build(uv, self.scratch / "dist", python=python, sdist=False, timeout_seconds=self._left())
        must(built.finished, "the wheel could not be built")
        if built.wheel is None:
            raise NotInstallable("the build left no wheel", built.finished.tail())
        facts = await read_wheel(built.wheel)
        if facts.problems:
            raise NotInstallable(f"the wheel's metadata is wrong: {'; '.join(facts.problems)}")
        await self.step("built", {"distribution": facts.name, "version": facts.version})
        how = await self._install_with_requirements(uv, built.wheel)
        await self.step("installed", {"how": how})
        return installed_wheel(release, facts, python)

    async def _install_with_requirements(self, uv: Uv, wheel: Path) -> str:
        """The wheel with the versions of the lock file where there is one that can be had."""
        if await self._installs_locked(uv):
            done = await uv.install(self._target, ["--no-deps", wheel], timeout_seconds=self._left())
            must(done, "the wheel could not be installed")
            return "the locked versions"
        done = await uv.install(self._target, [wheel], timeout_seconds=self._left())
        must(done, "the wheel could not be installed")
        return "the newest versions its metadata allows"

    async def _installs_locked(self, uv: Uv) -> bool:
        """Installs what the lock file names beside the project itself; False where that is not to be had."""
        if not self.project.has_lock:
            return False
        locked = self.scratch / "locked.txt"
        # Not editable: other members of a workspace would stay in the checkout, which is gone soon.
        options = ["--frozen", "--quiet", "--no-default-groups", "--no-emit-project", "--no-editable"]
        exported = await uv.run("export", *options, "--output-file", locked, timeout_seconds=self._left())
        if not exported.succeeded:
            return False
        return (await uv.install(self._target, ["-r", locked], timeout_seconds=self._left())).succeeded

    async def _install_requirements(self, uv: Uv) -> None:
        if await self._installs_locked(uv):
            await self.step("installed", {"how": "the locked versions"})
            return
        what: list[str | Path] = []
        if self.project.has_project_table:
            what = ["-r", "pyproject.toml"]
        elif (self._app / "requirements.txt").is_file():
            what = ["-r", "requirements.txt"]
        if what:
            finished = await uv.install(self._target, what, timeout_seconds=self._left())
            must(finished, "the requirements could not be installed")
        await self.step("installed", {"how": "the requirements beside the tree" if what else "no requirements"})

    async def _copy_tree(self) -> None:
        """The tree as it is in git, without git's own directory."""

        def copy() -> None:
            shutil.copytree(
                self.tree.directory,
                self._app,
                symlinks=True,
                ignore=lambda folder, _: [".git"] if Path(folder) == self.tree.directory else [],
            )

        await asyncio.to_thread(copy)
        await self.step("copied", {"files": self.tree.file_count})

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise NotInstallable("the time for the installation is over")
        return left


def installed_wheel(release: Release, facts: WheelFacts, python: str) -> Release:
    """The record of a release a wheel was installed into."""
    return release.at(
        "installed",
        kind="wheel",
        distribution=facts.name,
        version=facts.version,
        python=python,
        modules=tuple(facts.modules),
        scripts=tuple(facts.scripts),
    )


def must(finished: process.Finished, failure: str) -> None:
    """Raises `NotInstallable` where a tool did not end well."""
    if finished.timed_out:
        raise NotInstallable(f"{failure}: out of time", finished.tail())
    if not finished.succeeded:
        raise NotInstallable(failure, finished.tail())
