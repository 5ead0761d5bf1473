"""Pages on their way: made from one checkout, and delivered into a directory, a branch or the answer."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from diurna_agents.branch import Change, checked_path, write_branch
from diurna_agents.checkout import Checkout
from diurna_agents.documentation.request import DocsRequest
from diurna_agents.language_model import LanguageModel
from diurna_agents.python_project import PythonProject
from diurna_agents.repository import Repository
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import DiurnaError, InvalidInput, TooLarge

ANSWER_CHARACTERS_MAX: Final = 160 * 1024
PAGES_MAX: Final = 3_000
_FILES_NAMED_MAX: Final = 300
_INSTRUCTIONS: Final = (
    "You write the overview of a piece of documentation. You are given its pages. Say in at most 200 words of plain "
    "Markdown, without headings, what this is about and where to begin. Say only what the pages show."
)


@dataclass(slots=True)
class Source:
    """What pages are made from, and where there is room to work."""

    tree: Checkout
    project: PythonProject
    directory: Path
    workspace: Workspace
    report: Report
    timeout_seconds: float


@dataclass(slots=True)
class Pages:
    """Markdown by file name, in reading order, and what there is to say of how it went."""

    texts: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    overview_by: str | None = None

    async def add_overview(self, model: LanguageModel) -> None:
        """Puts a model's words under the first heading; where it has none, that is noted."""
        first, text = next(iter(self.texts.items()))
        try:
            words = await model.say(_INSTRUCTIONS, "\n\n".join(self.texts.values()))
        except DiurnaError as error:
            self.notes.append(f"no overview: {error}")
            return
        heading, _, rest = text.partition("\n")
        self.texts[first] = f"{heading}\n\n{words.strip()}\n\n*This overview was written by a language model.*\n{rest}"
        self.overview_by = model.name


async def delivered(
    request: DocsRequest, pages: Pages, repository: Repository, head: str, workspace: Workspace
) -> dict[str, object]:
    """Puts the pages where they were asked for; what the answer says of it."""
    files: list[dict[str, object]] = [
        {"path": name, "characters": len(text)} for name, text in list(pages.texts.items())[:_FILES_NAMED_MAX]
    ]
    answer: dict[str, object] = {"files": files, "files_total": len(pages.texts), "output": None, "pages": None}
    answer |= {"branch": None, "commit": None, "base": None, "diff": None}
    if request.branch is not None:
        folder = checked_path(request.directory.rstrip("/"), "directory")
        edits = {f"{folder}/{name}": text.encode() for name, text in pages.texts.items()}
        change = Change("docs", head, edits, f"Write the {request.kind.replace('_', ' ')}", "documentation")
        branch = await write_branch(repository, request.repo, request.branch, change, workspace=workspace)
        return {**answer, **branch.as_json()}
    if request.output is not None:
        await asyncio.to_thread(_write, Path(request.output), request.kind, pages.texts)
        return {**answer, "output": request.output}
    size = sum(map(len, pages.texts.values()))
    if size > ANSWER_CHARACTERS_MAX:
        raise TooLarge("output", size, ANSWER_CHARACTERS_MAX)
    return {**answer, "pages": dict(pages.texts)}


def _write(output: Path, kind: str, texts: dict[str, str]) -> None:
    """Each page whole or not at all; pages of the time before that are no longer made go."""
    manifest = output / f".diurna-{kind}.json"
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            partial = output / f".{name}.{os.getpid()}"
            partial.write_text(text, "utf-8")
            partial.replace(output / name)
        before = _listed(manifest)
        for name in before - texts.keys():
            (output / name).unlink(missing_ok=True)
        manifest.write_text(json.dumps(sorted(texts)), "utf-8")
    except OSError as error:
        raise InvalidInput("output", str(output), f"cannot be written to: {error.strerror}") from error


def _listed(manifest: Path) -> set[str]:
    try:
        found = json.loads(manifest.read_text("utf-8"))
    except (OSError, ValueError):
        return set()
    # Names alone: a manifest that somebody wrote otherwise must not lead out of the directory.
    return {name for name in found if isinstance(name, str) and name == Path(name).name and name.endswith(".md")}
