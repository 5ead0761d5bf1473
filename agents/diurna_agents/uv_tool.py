"""The uv that came with us: environments, installs, builds, always without downloading a Python."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from uv import find_uv_bin

from diurna_agents import child_environment, process


@dataclass(frozen=True, slots=True)
class Uv:
    """Runs uv in `directory` with what it may see, each run within its time."""

    directory: Path
    environment: Mapping[str, str]

    @classmethod
    def below(cls, directory: Path, environment: Mapping[str, str], **more: str) -> Uv:
        """uv in this directory, with the part of our environment that tools may see."""
        return cls(directory, {**child_environment.for_tools(environment), **more})

    async def run(self, *arguments: str | Path, timeout_seconds: float) -> process.Finished:
        """One run of uv; the caller judges how it ended."""
        return await process.run(
            [uv_program(), *arguments],
            cwd=self.directory,
            environment=self.environment,
            timeout_seconds=timeout_seconds,
        )

    async def find_python(self, required: str | None) -> str | None:
        """A Python on this machine that satisfies `required`: the running one where it does."""
        if required is None or await asyncio.to_thread(_running_satisfies, required):
            return sys.executable
        found = await self.run("python", "find", "--no-project", required, timeout_seconds=60)
        path = found.output.strip().splitlines()[-1:] if found.succeeded else []
        return path[0] if path else None

    async def make_environment(self, target: Path, python: str) -> process.Finished:
        """An empty virtual environment at `target`, which is where it has to stay."""
        return await self.run("venv", "--no-project", "--python", python, target, timeout_seconds=120)

    async def install(self, target: Path, what: Sequence[str | Path], *, timeout_seconds: float) -> process.Finished:
        """Installs into the environment at `target`."""
        python = target / "bin" / "python"
        return await self.run("pip", "install", "--python", python, *what, timeout_seconds=timeout_seconds)


@cache
def uv_program() -> str:
    """Where the uv of our own environment is."""
    return find_uv_bin()


def _running_satisfies(required: str) -> bool:
    version = ".".join(str(part) for part in sys.version_info[:3])
    try:
        return SpecifierSet(required).contains(version, prereleases=True)
    except InvalidSpecifier:
        # Not for us to judge: uv and the build backend will say what they make of it.
        return True
