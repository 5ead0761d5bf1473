"""A tree with an environment of its own, in which its tests can be run, changed, and run again."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diurna_agents import child_environment
from diurna_agents.checkout import Checkout
from diurna_agents.cicd.environment import PreparedEnvironment, prepare_environment
from diurna_agents.cicd.runner import RunResult, Stage, run_tests
from diurna_agents.distribution import version_hints
from diurna_agents.python_project import PythonProject
from diurna_agents.uv_tool import Uv
from diurna_agents.workspace import Workspace, remove_tree


@dataclass(slots=True)
class Trial:
    """One tree below `directory`. `prepare` comes first; where it found no environment, nothing can be run."""

    tree: Checkout
    project: PythonProject
    directory: Path
    workspace: Workspace

    async def prepare(self, timeout_seconds: float) -> PreparedEnvironment:
        """Makes the environment, anew where there is one; its `failure` says why there is none."""
        target = self.directory / "environment"
        await asyncio.to_thread(remove_tree, target)
        hints = version_hints(self.project, self.tree, self.workspace.environment)
        uv = Uv.below(self.tree.directory, self.workspace.environment, **hints)
        return await prepare_environment(self.project, target, uv, timeout_seconds=timeout_seconds)

    async def run(
        self, environment: PreparedEnvironment, test_command: str | Sequence[str] | None, *, timeout_seconds: float
    ) -> RunResult:
        """Runs the tests in the tree as it is now."""
        places = [self.directory / name for name in ("home", "reports", "tmp")]
        for place in places:
            await asyncio.to_thread(remove_tree, place)
            place.mkdir()
        home, reports, temporary = places
        seen = child_environment.for_foreign_code(
            self.workspace.environment, home=home, virtual_environment=environment.path
        )
        stage = Stage(
            tree=self.tree.directory,
            virtual_environment=environment.path,
            environment={**seen, "TMPDIR": str(temporary)},
            reports=reports,
            installed=environment.installed,
            timeout_seconds=timeout_seconds,
        )
        return await run_tests(stage, test_command)

    async def keep(self) -> Path:
        """Sets a copy of the tree aside; `put_back` makes it the tree again, whatever was done to that meanwhile."""
        aside = self.directory / f"aside-{uuid.uuid4().hex}"
        await asyncio.to_thread(shutil.copytree, self.tree.directory, aside, symlinks=True)
        return aside

    async def put_back(self, aside: Path) -> None:
        """The tree as it was, under the path it has always had: environments name it."""

        def exchange() -> None:
            remove_tree(self.tree.directory)
            aside.rename(self.tree.directory)

        await asyncio.to_thread(exchange)
