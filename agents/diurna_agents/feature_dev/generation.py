"""Has a language model write code for a task, on a branch of its own, if the tests say no worse: `generate_code`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, Field

from diurna_agents.branch import Change, checked_path, write_branch
from diurna_agents.checkout import check_out
from diurna_agents.cicd.trial import Trial
from diurna_agents.errors import NeedsModel
from diurna_agents.feature_dev.comparison import Proving, worse
from diurna_agents.feature_dev.request import GenerateRequest
from diurna_agents.language_model import LanguageModel, Tool, Worked
from diurna_agents.payload import validated
from diurna_agents.python_project import read_project
from diurna_agents.repository import open_repository, resolve
from diurna_agents.workspace import Report, Workspace
from diurna_agents.worktree import Worktree
from diurna_schemas.errors import Refused

_TEST_RUNS_MAX: Final = 5
_SHOWN_CHARACTERS_MAX: Final = 12_000
_WORDS_CHARACTERS_MAX: Final = 4_000
_INSTRUCTIONS: Final = (
    "You write code in a git repository, through tools: you can list, read, search and write files of one worktree, "
    "and run its tests. Paths are relative to its root. Follow the style of the code that is there. Write tests with "
    "what you add. Write whole files. When you are done, say in a few sentences what you did and why."
)


async def generate_code(
    payload: Mapping[str, object], *, workspace: Workspace, report: Report, model: LanguageModel | None = None
) -> dict[str, object]:
    """Has the model work on `task` in a worktree of `head`, and writes what it wrote as a branch.

    Answers `outcome`: generated; nothing_written; tests_worse, untested or stopped, where nothing was written to the
    repository. With `branch`, `commit`, `diff`, the `tests` before and after, and the model's own `words`.
    """
    request = validated(GenerateRequest, payload)
    if model is None:
        raise NeedsModel.to("generate_code")
    for path in request.paths:
        checked_path(path, "paths")
    repository = await open_repository(request.repo, workspace=workspace, refs=(request.head,))
    head = await resolve(repository, "head", request.head)
    async with workspace.fresh("generation") as directory:
        await report("checkout", {"head": head})
        tree = await check_out(repository, head, directory / "tree")
        trial = Trial(tree, await asyncio.to_thread(read_project, tree.directory), directory, workspace)
        proving = Proving(trial, request, report)
        before = await proving.before()
        answer: dict[str, object] = {**_NOTHING, "model": model.name, "head": head, "repository": repository.location}
        answer["tests"] = {"before": before.as_json(), "after": None}
        if request.require_tests and not before.could_run:
            reason = f"tests are required and cannot be run: {before.reason}"
            return {**answer, "outcome": "untested", "reason": reason, "notes": [*tree.notes(), *proving.notes]}
        aside = await trial.keep()
        await report("model", {"model": model.name, "steps_max": request.steps_max})
        files = Worktree(tree.directory)
        worked = await _worked(request, model, files, proving)
        await trial.put_back(aside)
        answer |= {
            "words": worked.words[:_WORDS_CHARACTERS_MAX],
            "steps": worked.steps,
            "tool_calls": worked.tool_calls,
        }
        after = await proving.after(files.written) if files.written and worked.stopped is None else None
        notes = [*tree.notes(), *proving.notes]
    if after is not None:
        answer["tests"] = {"before": before.as_json(), "after": after.as_json()}
    if worked.stopped is not None:
        reason = f"the model was stopped, so nothing was written: {worked.stopped}"
        return {**answer, "outcome": "stopped", "reason": reason, "notes": notes}
    if after is None:
        return {**answer, "outcome": "nothing_written", "reason": "the model wrote no file", "notes": notes}
    if (why := worse(before, after)) is not None:
        reason = f"the tests got worse, so nothing was written: {why}"
        return {**answer, "outcome": "tests_worse", "reason": reason, "notes": notes}
    change = Change("generate", head, files.written, _message(request, worked), "feature-dev")
    branch = await write_branch(repository, request.repo, request.branch, change, workspace=workspace)
    await report("written", {"branch": branch.name, "commit": branch.commit})
    reason = f"{len(files.written)} files were written"
    return {**answer, **branch.as_json(), "outcome": "generated", "reason": reason, "notes": notes}


_NOTHING: Final[dict[str, object]] = {
    "branch": None,
    "commit": None,
    "base": None,
    "diff": None,
    "tests": None,
    "words": "",
    "steps": 0,
    "tool_calls": 0,
}


async def _worked(request: GenerateRequest, model: LanguageModel, files: Worktree, proving: Proving) -> Worked:
    listed = "\n".join((await asyncio.to_thread(files.paths))[:500])
    contents = [await asyncio.to_thread(files.read, path) for path in request.paths]
    shown = "".join(f"\n\n=== {path}\n{_shown(data)}" for path, data in zip(request.paths, contents, strict=True))
    task = f"The task:\n\n{request.task}\n\nThe files:\n\n{listed}{shown}"
    tools = _tools(files, proving)
    return await model.work(_INSTRUCTIONS, task, tools, steps_max=request.steps_max, seconds=request.model_seconds)


class _Nothing(BaseModel):
    pass


class _Path(BaseModel):
    path: str = Field(description="relative to the root of the worktree")


class _Read(_Path):
    start_line: int = Field(default=1, ge=1)


class _Write(_Path):
    content: str = Field(description="the whole file")


class _Search(BaseModel):
    text: str = Field(min_length=1, max_length=500, description="found as it is, it is no pattern")


def _tools(files: Worktree, proving: Proving) -> list[Tool]:
    """What the model may do, all of it inside the worktree."""
    runs = 0

    async def list_files(_: _Nothing) -> str:
        return "\n".join(await asyncio.to_thread(files.paths))

    async def read_file(given: _Read) -> str:
        lines = _shown(await asyncio.to_thread(files.read, given.path), None).splitlines()
        text = "\n".join(lines[given.start_line - 1 :])
        more = f"\n[… {len(text) - _SHOWN_CHARACTERS_MAX} characters more]" if len(text) > _SHOWN_CHARACTERS_MAX else ""
        return text[:_SHOWN_CHARACTERS_MAX] + more

    async def search(given: _Search) -> str:
        return "\n".join(await asyncio.to_thread(files.search, given.text)) or "nothing was found"

    async def write_file(given: _Write) -> str:
        data = given.content.encode("utf-8", "replace")
        await asyncio.to_thread(files.write, given.path, data)
        return f"{len(data)} bytes written"

    async def run_tests(_: _Nothing) -> str:
        nonlocal runs
        runs += 1
        if runs > _TEST_RUNS_MAX:
            raise Refused(f"the tests may be run {_TEST_RUNS_MAX} times")
        tests = await proving.run()
        return f"{tests.outcome}: {tests.reason}\n{tests.log_tail}"

    return [
        Tool("list_files", "Lists all files.", _Nothing, list_files),
        Tool("read_file", "Reads a text file, from a line on.", _Read, read_file),
        Tool("search", "Finds the lines that hold a text.", _Search, search),
        Tool("write_file", "Writes a whole file, new or in place of the old one.", _Write, write_file),
        Tool("run_tests", f"Runs the tests, at most {_TEST_RUNS_MAX} times.", _Nothing, run_tests),
    ]


def _shown(data: bytes, characters_max: int | None = _SHOWN_CHARACTERS_MAX) -> str:
    if b"\0" in data[:8_000]:
        return "[a binary file]"
    return data.decode("utf-8", "replace")[:characters_max]


def _message(request: GenerateRequest, worked: Worked) -> str:
    subject = " ".join(request.task.split())[:72]
    return f"{subject}\n\n{worked.words[:_WORDS_CHARACTERS_MAX]}".strip()
