"""What is looked at in a virtual environment after something was installed: do requirements fit, do modules import."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from diurna_agents import child_environment, process
from diurna_agents.errors import ToolFailed
from diurna_agents.uv_tool import Uv

_DETAIL_CHARACTERS_MAX: Final = 1_500
_REQUIREMENTS_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    healthy: bool
    detail: str
    duration_ms: int

    @classmethod
    def of(cls, name: str, finished: process.Finished) -> Check:
        """What a child's end means."""
        said = finished.tail(_DETAIL_CHARACTERS_MAX)
        detail = "" if finished.succeeded else f"exit code {finished.exit_code}: {said}"
        return cls(name, finished.succeeded, detail, finished.duration_ms)


@dataclass(frozen=True, slots=True)
class Inspected:
    """An environment, where its programs are started, and the home they are given."""

    virtual_environment: Path
    directory: Path
    home: Path
    environment: Mapping[str, str]

    async def requirements(self) -> Check:
        """Whether everything installed has what it requires."""
        uv = Uv.below(self.home, self.environment)
        python = self.virtual_environment / "bin" / "python"
        finished = await uv.run("pip", "check", "--python", python, timeout_seconds=_REQUIREMENTS_SECONDS)
        return Check.of("requirements", finished)

    async def imports(self, modules: Sequence[str], timeout_seconds: float) -> Check:
        """Whether every one of these modules imports."""
        # -I: from the environment alone; what lies in the directory must not stand in for what is missing.
        code = "import importlib, json, sys\nfor name in json.loads(sys.argv[1]):\n    importlib.import_module(name)\n"
        words = [str(self.virtual_environment / "bin" / "python"), "-I", "-c", code, json.dumps(list(modules))]
        check = await self.once("imports", words, timeout_seconds)
        return Check(check.name, check.healthy, check.detail or ", ".join(modules), check.duration_ms)

    async def once(self, name: str, words: Sequence[str], timeout_seconds: float) -> Check:
        """Whether one program ends well, in time."""
        try:
            finished = await self.run(words, timeout_seconds)
        except ToolFailed as error:
            return Check(name, healthy=False, detail=error.detail, duration_ms=0)
        if finished.timed_out:
            detail = f"no answer within {timeout_seconds:g} s; {finished.tail(_DETAIL_CHARACTERS_MAX)}"
            return Check(name, healthy=False, detail=detail, duration_ms=finished.duration_ms)
        return Check.of(name, finished)

    async def run(self, words: Sequence[str], timeout_seconds: float) -> process.Finished:
        """Runs a program of the environment as its users would."""
        seen = child_environment.for_foreign_code(
            self.environment, home=self.home, virtual_environment=self.virtual_environment
        )
        return await process.run(words, cwd=self.directory, environment=seen, timeout_seconds=timeout_seconds)
