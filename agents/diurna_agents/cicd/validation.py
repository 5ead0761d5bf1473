"""Checks that a commit builds into a wheel and an sdist which say the same of themselves: `validate_build`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from diurna_agents.checkout import Checkout, check_out
from diurna_agents.cicd.request import ValidationRequest
from diurna_agents.distribution import WheelFacts, build, read_sdist, read_wheel, version_hints
from diurna_agents.payload import validated
from diurna_agents.python_project import PythonProject, read_project
from diurna_agents.repository import open_repository, resolve
from diurna_agents.uv_tool import Uv
from diurna_agents.workspace import Report, Workspace

_LOG_CHARACTERS_MAX: Final = 8_000


async def validate_build(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Builds the sdist, and the wheel from it, and checks their metadata.

    Answers `valid`, `problems`, and what the wheel says: name, version, requires_python, requires,
    modules, scripts; with the names and sizes of the files.
    """
    request = validated(ValidationRequest, payload)
    repository = await open_repository(request.repo, workspace=workspace, refs=(request.head,))
    head = await resolve(repository, "head", request.head)
    async with workspace.fresh("validation") as directory:
        tree = await check_out(repository, head, directory / "tree")
        project = await asyncio.to_thread(read_project, tree.directory)
        if not project.buildable:
            return _invalid(head, ["the tree has no build metadata: no [build-system], no setup.py"], "")
        await report("build", {"backend": project.backend})
        return await _validate(
            project,
            tree,
            directory / "dist",
            workspace=workspace,
            timeout_seconds=request.timeout_seconds,
        )


async def _validate(
    project: PythonProject,
    tree: Checkout,
    output: Path,
    *,
    workspace: Workspace,
    timeout_seconds: float,
) -> dict[str, object]:
    head = tree.commit
    uv = Uv.below(tree.directory, workspace.environment, **version_hints(project, tree, workspace.environment))
    python = await uv.find_python(project.requires_python)
    if python is None:
        problem = f"no Python on this machine satisfies requires-python {project.requires_python!r}"
        return _invalid(head, [problem], "")
    built = await build(uv, output, python=python, sdist=True, timeout_seconds=timeout_seconds)
    log = built.finished.tail(_LOG_CHARACTERS_MAX)
    if built.finished.timed_out:
        return _invalid(head, [f"the build took more than {timeout_seconds:g} s"], log)
    if not built.finished.succeeded or built.wheel is None or built.sdist is None:
        return _invalid(head, ["the build failed"], log)
    facts = await read_wheel(built.wheel)
    source = await read_sdist(built.sdist)
    problems = list(facts.problems)
    if source is None:
        problems.append("the sdist has no PKG-INFO")
    elif source.get("version") != facts.version:
        problems.append(f"the sdist says version {source.get('version')}, the wheel {facts.version}")
    files = [{"name": path.name, "bytes": path.stat().st_size} for path in (built.sdist, built.wheel)]
    return {
        **_facts(facts),
        "valid": not problems,
        "problems": problems,
        "files": files,
        "duration_ms": built.finished.duration_ms,
        "log_tail": log,
        "notes": tree.notes(),
        "head": head,
    }


def _facts(facts: WheelFacts) -> dict[str, object]:
    return {
        "name": facts.name,
        "version": facts.version,
        "requires_python": facts.requires_python,
        "requires": facts.requires[:200],
        "modules": facts.modules[:200],
        "scripts": facts.scripts[:200],
    }


def _invalid(head: str, problems: list[str], log: str) -> dict[str, object]:
    empty = WheelFacts("", "", None, [], [], [], [])
    more: dict[str, object] = {"files": [], "duration_ms": 0, "log_tail": log, "notes": [], "head": head}
    return {**_facts(empty), "valid": False, "problems": problems, **more}
