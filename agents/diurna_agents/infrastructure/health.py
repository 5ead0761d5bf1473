"""Tells whether a release is healthy: by its own words where it has some, else by its imports and commands."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import httpx

from diurna_agents.environment_checks import Check, Inspected
from diurna_agents.infrastructure.releases import Release
from diurna_agents.infrastructure.request import HealthRequest

_SCRIPTS_MAX: Final = 30
_MODULES_MAX: Final = 100
_PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Health:
    """All that was looked at, and by which path."""

    through: str
    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Nothing that was looked at is amiss."""
        return all(check.healthy for check in self.checks)

    @property
    def problem(self) -> str:
        """The first thing that is amiss, in one line: tools say what it is at the end."""
        ill = next((check for check in self.checks if not check.healthy), None)
        return f"{ill.name}: {(ill.detail.splitlines() or ['no reason given'])[-1].strip()}" if ill else ""

    def as_json(self) -> dict[str, object]:
        """The health as an answer holds it."""
        return {
            "healthy": self.healthy,
            "through": self.through,
            "checks": [asdict(check) for check in self.checks],
        }


@dataclass(frozen=True, slots=True)
class Patient:
    """A release to look at: its record, and the path it is reached by (its own, or `current`)."""

    release: Release
    path: Path
    home: Path
    environment: Mapping[str, str]

    @property
    def virtual_environment(self) -> Path:
        """Its environment, by the path it is reached by."""
        return self.path / "environment"

    @property
    def directory(self) -> Path:
        """Where its programs are started: the tree, where the tree itself was deployed."""
        return self.path / "app" if self.release.kind == "tree" else self.path

    @property
    def inspected(self) -> Inspected:
        """Its environment, to be looked at."""
        return Inspected(self.virtual_environment, self.directory, self.home, self.environment)


async def check_health(patient: Patient, wanted: HealthRequest, *, served: bool) -> Health:
    """Looks at a release. `served` says whether it is current, so that a URL can be asked."""
    through = patient.path.name
    if wanted.url is not None and served:
        return Health(through, (await _ask(wanted.url, wanted),))
    if wanted.command is not None:
        words = shlex.split(wanted.command) if isinstance(wanted.command, str) else list(wanted.command)
        inside = patient.virtual_environment / "bin" / words[0]
        if "/" not in words[0] and inside.exists():
            words[0] = str(inside)
        return Health(through, (await _repeated("command", patient, words, wanted),))
    if wanted.module is not None:
        words = [str(patient.virtual_environment / "bin" / "python"), "-m", wanted.module]
        return Health(through, (await _repeated(f"module {wanted.module}", patient, words, wanted),))
    return Health(through, tuple(await _by_default(patient, wanted)))


async def _by_default(patient: Patient, wanted: HealthRequest) -> list[Check]:
    python = patient.virtual_environment / "bin" / "python"
    if not python.exists():
        return [_files(patient)]
    checks = [await patient.inspected.requirements()]
    modules = patient.release.modules[:_MODULES_MAX]
    if modules:
        checks.append(await patient.inspected.imports(modules, wanted.timeout_seconds))
    elif patient.release.kind == "tree":
        checks.append(await _compiles(patient, python, wanted.timeout_seconds))
    for script in patient.release.scripts[:_SCRIPTS_MAX]:
        words = [str(patient.virtual_environment / "bin" / script), "--help"]
        checks.append(await patient.inspected.once(f"{script} --help", words, wanted.timeout_seconds))
    return checks


def _files(patient: Patient) -> Check:
    there = patient.directory.is_dir() and any(patient.directory.iterdir())
    return Check("files", there, "the tree is there" if there else "the tree is missing or empty", 0)


async def _compiles(patient: Patient, python: Path, timeout_seconds: float) -> Check:
    code = (
        "import pathlib, sys\n"
        "for path in sorted(pathlib.Path().rglob('*.py')):\n"
        "    compile(path.read_bytes(), str(path), 'exec')\n"
    )
    return await patient.inspected.once("sources compile", [str(python), "-I", "-c", code], timeout_seconds)


async def _repeated(name: str, patient: Patient, words: list[str], wanted: HealthRequest) -> Check:
    check = await patient.inspected.once(name, words, wanted.timeout_seconds)
    for _ in range(wanted.attempts - 1):
        if check.healthy:
            break
        await asyncio.sleep(_PAUSE_SECONDS)
        check = await patient.inspected.once(name, words, wanted.timeout_seconds)
    return check


async def _ask(url: str, wanted: HealthRequest) -> Check:
    started = time.monotonic()
    detail = ""
    healthy = False
    async with httpx.AsyncClient(timeout=wanted.timeout_seconds, trust_env=False) as client:
        for attempt in range(wanted.attempts):
            if attempt:
                await asyncio.sleep(_PAUSE_SECONDS)
            try:
                answer = await client.get(url)
            except httpx.HTTPError as error:
                detail = f"{type(error).__name__}: {error}"
                continue
            healthy, detail = answer.is_success, f"HTTP {answer.status_code}"
            if healthy:
                break
    return Check(f"GET {url}", healthy, detail, round((time.monotonic() - started) * 1000))
