"""What the analysing tools are given: files with their new lines, and a place to work in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from diurna_agents import process
from diurna_agents.errors import ToolFailed

FILES_A_RUN: Final = 200
TOOL_SECONDS_MAX: Final = 180.0
_REPORT_BYTES_MAX: Final = 64 * 1024 * 1024

Report = TypeVar("Report", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class AnalysedFile:
    """A changed file as it lies in the checkout, and which of its lines are new."""

    path: str
    raw_path_before: bytes
    absolute: Path
    added: frozenset[int]
    is_new: bool
    is_test: bool

    def touches(self, first: int, last: int) -> bool:
        """Whether one of these lines is new."""
        return any(line in self.added for line in range(first, max(first, last) + 1))


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a tool runs: the checkout it reads, a directory to write to, what it may see."""

    checkout: Path
    scratch: Path
    environment: Mapping[str, str]

    async def run(self, command: Sequence[str | Path]) -> process.Finished:
        """Runs one tool. Raises `ToolFailed` where it takes too long."""
        finished = await process.run(
            command, cwd=self.checkout, environment=self.environment, timeout_seconds=TOOL_SECONDS_MAX
        )
        if finished.timed_out:
            raise ToolFailed(Path(command[0]).name, f"it took more than {TOOL_SECONDS_MAX:g} s")
        return finished


def read_report(tool: str, path: Path, model: type[Report], *, wrap: bool = False) -> Report:
    """The tool's JSON report; with `wrap`, a list is read as the field `results`."""
    try:
        if path.stat().st_size > _REPORT_BYTES_MAX:
            raise ToolFailed(tool, f"its report is larger than {_REPORT_BYTES_MAX} bytes")
        text = path.read_text("utf-8", "replace")
        return model.model_validate_json(f'{{"results": {text or "[]"}}}' if wrap else text)
    except (OSError, ValidationError) as error:
        raise ToolFailed(tool, f"its report cannot be read: {error}") from error


def batches(files: Sequence[AnalysedFile]) -> Iterator[Sequence[AnalysedFile]]:
    """As many files as fit on one command line."""
    for start in range(0, len(files), FILES_A_RUN):
        yield files[start : start + FILES_A_RUN]
