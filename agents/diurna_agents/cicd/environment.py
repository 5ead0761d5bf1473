"""An environment of its own for a repository's tests: a Python, the project, and what its tests need."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from diurna_agents import process
from diurna_agents.python_project import PythonProject
from diurna_agents.uv_tool import Uv

_TAIL_CHARACTERS: Final = 6_000
_AS_A_WHEEL: Final = "as a wheel, with what the tests need"


@dataclass(slots=True)
class PreparedEnvironment:
    """The environment at `path`, or in `failure` why there is none. `notes` tell what was given up."""

    path: Path
    python: str | None = None
    python_version: str | None = None
    installed: bool = False
    how: str = ""
    failure: str | None = None
    timed_out: bool = False
    log: str = ""
    notes: list[str] = field(default_factory=list[str])
    duration_ms: int = 0

    @property
    def is_editable(self) -> bool:
        """Whether a change of the tree is a change of what was installed."""
        return not self.installed or self.how != _AS_A_WHEEL


async def prepare_environment(
    project: PythonProject, target: Path, uv: Uv, *, timeout_seconds: float
) -> PreparedEnvironment:
    """Makes the environment, trying the project's lock file first and less exact ways after it.

    A way that fails is noted, so that the answer says under which conditions the tests ran.
    """
    environment = PreparedEnvironment(target)
    started = time.monotonic()
    deadline = started + timeout_seconds
    try:
        await _make(project, environment, uv, deadline)
    finally:
        environment.duration_ms = round((time.monotonic() - started) * 1000)
    return environment


async def _make(project: PythonProject, environment: PreparedEnvironment, uv: Uv, deadline: float) -> None:
    environment.python = await uv.find_python(project.requires_python)
    if environment.python is None:
        environment.failure = f"no Python on this machine satisfies requires-python {project.requires_python!r}"
        return
    made = await uv.make_environment(environment.path, environment.python)
    if not made.succeeded:
        environment.failure, environment.log = "the virtual environment could not be made", made.tail()
        return
    version = await uv.run("python", "find", environment.path / "bin" / "python", "--show-version", timeout_seconds=30)
    environment.python_version = version.output.strip() if version.succeeded else None
    await _install(project, environment, uv, deadline)
    if environment.failure is None:
        await _ensure_pytest(environment, uv, deadline)


async def _install(project: PythonProject, environment: PreparedEnvironment, uv: Uv, deadline: float) -> None:
    """The ways to install, from the most exact to the least; the first that works is taken."""
    last: process.Finished | None = None
    for how, steps in _ways(project, environment.path.with_suffix(".locked.txt")):
        for step in steps:
            last = await _step(step, environment, uv, deadline)
            if not last.succeeded:
                break
        else:
            environment.installed = project.buildable
            environment.how = how
            return
        if last.timed_out:
            environment.timed_out = True
            break
        environment.notes.append(f"installing {how} did not work: {_reason(last)}")
    environment.failure = "the project could not be installed"
    environment.log = last.tail(_TAIL_CHARACTERS) if last is not None else ""


async def _step(
    step: Sequence[str | Path], environment: PreparedEnvironment, uv: Uv, deadline: float
) -> process.Finished:
    left = max(deadline - time.monotonic(), 1.0)
    if step[0] == "export":
        return await uv.run(*step, timeout_seconds=left)
    return await uv.install(environment.path, step, timeout_seconds=left)


def _ways(project: PythonProject, locked: Path) -> list[tuple[str, list[list[str | Path]]]]:
    groups: list[str | Path] = [word for name in project.groups for word in ("--group", name)]
    extras: list[str | Path] = [word for name in project.extras for word in ("--extra", name)]
    wanted = f".[{','.join(project.extras)}]" if project.extras else "."
    others: list[str | Path] = [*project.requirements]
    for file in project.files:
        others += ["-r", file]
    itself: list[str | Path] = ["-e", wanted] if project.buildable else []
    plain: list[str | Path] = [wanted] if project.buildable else []
    alone: list[str | Path] = ["-e", "."] if project.buildable else []
    if not project.buildable and project.has_project_table:
        itself = plain = ["-r", "pyproject.toml", *extras]
        alone = ["-r", "pyproject.toml"]
    ways: list[tuple[str, list[list[str | Path]]]] = []
    if project.has_lock:
        export: list[str | Path] = ["export", "--frozen", "--quiet", "--no-default-groups", *groups, *extras]
        export += ["--no-emit-project", "--output-file", locked]
        steps: list[list[str | Path]] = [export, ["-r", locked]]
        if project.buildable:
            steps.append(["--no-deps", "-e", "."])
        ways.append(("the locked versions", steps))
    if itself or others or groups:
        ways.append(("editable, with what the tests need", [["pytest", *itself, *groups, *others]]))
    if plain:
        ways.append((_AS_A_WHEEL, [["pytest", *plain, *groups, *others]]))
    if project.buildable and (groups or extras or others):
        ways.append(("the project alone", [["pytest", *alone]]))
    return ways or [("pytest alone", [["pytest"]])]


async def _ensure_pytest(environment: PreparedEnvironment, uv: Uv, deadline: float) -> None:
    """The lock file may not hold pytest, for instance where the tests are written with unittest."""
    present = await process.run(
        [environment.path / "bin" / "python", "-I", "-c", "import pytest"],
        cwd=uv.directory,
        environment=uv.environment,
        timeout_seconds=60,
    )
    if present.succeeded:
        return
    installed = await _step(["pytest"], environment, uv, deadline)
    if not installed.succeeded:
        environment.failure, environment.log = "pytest could not be installed", installed.tail(_TAIL_CHARACTERS)


def _reason(finished: process.Finished) -> str:
    lines = [line.strip() for line in finished.output.splitlines() if line.strip()]
    telling = [line for line in lines if line.lower().startswith(("error", "\u00d7", "\u2570", "caused by"))] or lines[
        -1:
    ]
    return " ".join(telling)[:400] or f"exit code {finished.exit_code}"
