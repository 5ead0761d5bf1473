"""Checks that a commit builds, that what was built says the same of itself, installs and imports: `validate_build`."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from diurna_agents.checkout import Checkout, check_out
from diurna_agents.cicd.request import ValidationRequest
from diurna_agents.distribution import WheelFacts, build, checksum, read_sdist, read_wheel, version_hints
from diurna_agents.environment_checks import Check, Inspected
from diurna_agents.payload import validated
from diurna_agents.python_project import PythonProject, read_project
from diurna_agents.repository import open_repository, resolve
from diurna_agents.uv_tool import Uv
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import InvalidInput

_MODULES_MAX: Final = 100
_IMPORT_SECONDS_MAX: Final = 120.0
_LOG_CHARACTERS_MAX: Final = 8_000


async def validate_build(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Builds the sdist, and the wheel from it, checks their metadata, and installs the wheel into a fresh environment.

    Answers `valid`, `problems`, what the wheel says (name, version, requires_python, requires, modules, scripts), how
    the installation went, and the `files` with sizes and checksums, with their paths where `output` keeps them.
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
        return await _validate(request, project, tree, directory, workspace)


async def _validate(
    request: ValidationRequest, project: PythonProject, tree: Checkout, directory: Path, workspace: Workspace
) -> dict[str, object]:
    head, timeout_seconds = tree.commit, request.timeout_seconds
    uv = Uv.below(tree.directory, workspace.environment, **version_hints(project, tree, workspace.environment))
    python = await uv.find_python(project.requires_python)
    if python is None:
        problem = f"no Python on this machine satisfies requires-python {project.requires_python!r}"
        return _invalid(head, [problem], "")
    built = await build(uv, directory / "dist", python=python, sdist=True, timeout_seconds=timeout_seconds)
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
    checks: list[Check] = []
    if request.install and not facts.problems:
        checks = await _installed(uv, built.wheel, facts, directory, timeout_seconds)
        problems += [
            f"{check.name}: {(check.detail.splitlines() or ['?'])[-1]}" for check in checks if not check.healthy
        ]
    return {
        **_facts(facts),
        "valid": not problems,
        "problems": problems,
        "checks": [asdict(check) for check in checks],
        "files": await asyncio.to_thread(_kept, [built.sdist, built.wheel], request.output if not problems else None),
        "duration_ms": built.finished.duration_ms,
        "log_tail": log,
        "notes": tree.notes(),
        "head": head,
    }


async def _installed(uv: Uv, wheel: Path, facts: WheelFacts, directory: Path, timeout_seconds: float) -> list[Check]:
    """Installs the wheel where nothing else is, and looks at what came of it."""
    target, home = directory / "installed", directory / "home"
    home.mkdir()
    python = await uv.find_python(facts.requires_python)
    if python is None:
        return [Check("environment", False, f"no Python here satisfies {facts.requires_python!r}", 0)]
    made = await uv.make_environment(target, python)
    if not made.succeeded:
        return [Check.of("environment", made)]
    checks = [Check.of("install", await uv.install(target, [wheel], timeout_seconds=timeout_seconds))]
    if checks[0].healthy:
        inspected = Inspected(target, home, home, uv.environment)
        checks.append(await inspected.requirements())
        checks.append(await inspected.imports(facts.modules[:_MODULES_MAX], min(timeout_seconds, _IMPORT_SECONDS_MAX)))
    return checks


def _kept(files: Sequence[Path], output: str | None) -> list[dict[str, object]]:
    """What was built; where it is to be kept, each file arrives whole, or not at all."""
    shown: list[dict[str, object]] = []
    for file in files:
        kept: Path | None = None
        if output is not None:
            kept = Path(output) / file.name
            try:
                kept.parent.mkdir(parents=True, exist_ok=True)
                partial = kept.with_name(f".{kept.name}.{uuid.uuid4().hex}")
                shutil.copyfile(file, partial)
                partial.replace(kept)
            except OSError as error:
                raise InvalidInput("output", output, f"cannot be written to: {error.strerror}") from error
        path = None if kept is None else str(kept)
        shown.append({"name": file.name, "bytes": file.stat().st_size, "sha256": checksum(file), "path": path})
    return shown


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
    more: dict[str, object] = {"checks": [], "files": [], "duration_ms": 0, "log_tail": log, "notes": [], "head": head}
    return {**_facts(empty), "valid": False, "problems": problems, **more}
