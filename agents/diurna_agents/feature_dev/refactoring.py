"""Tidies a commit with ruff on a branch of its own, unless its tests get worse by it: `refactor_code`."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from diurna_agents import child_environment
from diurna_agents.branch import Change, write_branch
from diurna_agents.checkout import check_out
from diurna_agents.cicd.trial import Trial
from diurna_agents.code_review.tools import FILES_A_RUN, Bench, read_report
from diurna_agents.errors import ToolFailed
from diurna_agents.feature_dev.comparison import Proving, SuiteRun, worse
from diurna_agents.feature_dev.request import RefactorRequest
from diurna_agents.payload import validated
from diurna_agents.python_project import read_project
from diurna_agents.repository import open_repository, resolve
from diurna_agents.ruff_tool import (
    SELECTION,
    Violation,
    Violations,
    has_configuration,
    ruff_program,
    target_version,
    without_configuration,
)
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import InvalidInput

_FILES_MAX: Final = 5_000
_FILE_BYTES_MAX: Final = 2 * 1024 * 1024


@dataclass(slots=True)
class Tidied:
    """What ruff did: the new contents by path, which rules it fixed how often, what it left."""

    edits: dict[str, bytes] = field(default_factory=dict[str, bytes])
    fixes: Counter[str] = field(default_factory=Counter[str])
    remaining: int = 0
    formatted: int = 0
    configuration: str = "not run"
    notes: list[str] = field(default_factory=list[str])

    def as_json(self) -> dict[str, object]:
        """As an answer holds it."""
        return {
            "fixes": dict(self.fixes.most_common(100)),
            "remaining_violations": self.remaining,
            "formatted_files": self.formatted,
            "ruff_configuration": self.configuration,
        }

    def message(self) -> str:
        """Why the commit is what it is."""
        done = [f"{rule}: {count} fixed" for rule, count in self.fixes.most_common(20)]
        if self.formatted:
            done.append(f"{self.formatted} files formatted")
        return "Tidy the code with ruff\n\n" + "\n".join(f"- {line}" for line in done)


async def refactor_code(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Fixes and formats `head` with ruff and writes the result as a branch, unless the tests get worse by it.

    Answers `outcome`: refactored; nothing_to_do; tests_worse or untested, where nothing was written. With `branch`,
    `commit`, `diff`, the `tests` before and after, and what was fixed.
    """
    request = validated(RefactorRequest, payload)
    repository = await open_repository(request.repo, workspace=workspace, refs=(request.head,))
    head = await resolve(repository, "head", request.head)
    async with workspace.fresh("refactoring") as directory:
        await report("checkout", {"head": head})
        tree = await check_out(repository, head, directory / "tree")
        trial = Trial(tree, await asyncio.to_thread(read_project, tree.directory), directory, workspace)
        tidied = await _tidied(request, tree.directory, directory, workspace)
        await report("tidied", {"files": len(tidied.edits), "fixes": tidied.fixes.total()})
        notes = [*tree.notes(), *tidied.notes]
        answer: dict[str, object] = {**_NOTHING, **tidied.as_json(), "head": head, "repository": repository.location}
        if not tidied.edits:
            reason = "ruff has nothing to fix or format here"
            return {**answer, "outcome": "nothing_to_do", "reason": reason, "notes": notes}
        proving = Proving(trial, request, report)
        before = await proving.before()
        verdict = _untested(request, before)
        after = None if verdict else await proving.after(tidied.edits)
        notes += proving.notes
    if after is not None:
        answer["tests"] = {"before": before.as_json(), "after": after.as_json()}
        if (why := worse(before, after)) is not None:
            verdict = ("tests_worse", f"the tests got worse, so nothing was written: {why}")
    else:
        answer["tests"] = {"before": before.as_json(), "after": None}
    if verdict is not None:
        return {**answer, "outcome": verdict[0], "reason": verdict[1], "notes": notes}
    change = Change("refactor", head, tidied.edits, tidied.message(), "feature-dev")
    branch = await write_branch(repository, request.repo, request.branch, change, workspace=workspace)
    await report("written", {"branch": branch.name, "commit": branch.commit})
    return {**answer, **branch.as_json(), "outcome": "refactored", "reason": _in_words(tidied), "notes": notes}


_NOTHING: Final[dict[str, object]] = {"branch": None, "commit": None, "base": None, "diff": None, "tests": None}


def _untested(request: RefactorRequest, before: SuiteRun) -> tuple[str, str] | None:
    if request.require_tests and not before.could_run:
        return "untested", f"tests are required and cannot be run: {before.reason}"
    return None


def _in_words(tidied: Tidied) -> str:
    return f"{tidied.fixes.total()} fixes, {tidied.formatted} files formatted, {len(tidied.edits)} files changed"


async def _tidied(request: RefactorRequest, tree: Path, directory: Path, workspace: Workspace) -> Tidied:
    files, notes = await asyncio.to_thread(_python_files, tree, request.paths)
    tidied = Tidied(notes=notes)
    if not files:
        tidied.notes.append("no Python file is in this tree: other languages are not refactored")
        return tidied
    scratch, home = directory / "scratch", directory / "ruff-home"
    scratch.mkdir()
    home.mkdir()
    bench = Bench(tree, scratch, child_environment.for_analysis(workspace.environment, home=home))
    before = await asyncio.to_thread(_contents, files)
    options = await _options(request, tree, files, tidied)
    try:
        await _run(request, bench, files, options, tidied)
    except ToolFailed as error:
        if not tidied.configuration.startswith("the repository"):
            raise
        tidied.notes.append(f"the repository's ruff configuration could not be used: {error.detail}")
        tidied.configuration = "diurna's default selection"
        await _run(request, bench, files, without_configuration(target_version(tree), _selection(request)), tidied)
    after = await asyncio.to_thread(_contents, files)
    for file in files:
        if before[file] != after[file]:
            tidied.edits[file.relative_to(tree).as_posix()] = after[file]
    # Put back: the tests before the change want the tree as it was.
    await asyncio.to_thread(lambda: [file.write_bytes(data) for file, data in before.items()])
    return tidied


async def _options(request: RefactorRequest, tree: Path, files: Sequence[Path], tidied: Tidied) -> list[str]:
    if await asyncio.to_thread(has_configuration, tree, files):
        tidied.configuration = "the repository's own"
        return ["--force-exclude", *(["--select", ",".join(request.select)] if request.select else [])]
    tidied.configuration = "diurna's default selection"
    return without_configuration(await asyncio.to_thread(target_version, tree), _selection(request))


def _selection(request: RefactorRequest) -> Sequence[str]:
    # Sorted imports are what a reader expects of a tidy file.
    return request.select or (*SELECTION, "I", "UP")


async def _run(
    request: RefactorRequest, bench: Bench, files: Sequence[Path], options: list[str], tidied: Tidied
) -> None:
    wanted = {"safe", "unsafe"} if request.unsafe_fixes else {"safe"}
    unsafe = ["--unsafe-fixes"] if request.unsafe_fixes else []
    for start in range(0, len(files), FILES_A_RUN):
        batch = files[start : start + FILES_A_RUN]
        if "lint" in request.operations:
            found = await _checked(bench, batch, [*options, *unsafe, "--no-fix"])
            tidied.fixes.update(one.code for one in found if one.code and one.fix and one.fix.applicability in wanted)
            left = await _checked(bench, batch, [*options, *unsafe, "--fix"])
            tidied.remaining += len(left)
        if "format" in request.operations:
            before = await asyncio.to_thread(_contents, batch)
            await _formatted(bench, batch, _for_format(options))
            after = await asyncio.to_thread(_contents, batch)
            tidied.formatted += sum(before[file] != after[file] for file in batch)


def _for_format(options: Sequence[str]) -> Sequence[str]:
    """The options without the rules, which formatting knows nothing of."""
    if "--select" not in options:
        return options
    at = options.index("--select")
    return [*options[:at], *options[at + 2 :]]


async def _checked(bench: Bench, files: Sequence[Path], options: Sequence[str]) -> list[Violation]:
    report = bench.scratch / "ruff.json"
    report.unlink(missing_ok=True)
    fixed = ["check", "--no-cache", "--exit-zero", "--quiet", "--output-format", "json"]
    finished = await bench.run([ruff_program(), *fixed, "--output-file", report, *options, "--", *files])
    if finished.exit_code != 0:
        raise ToolFailed("ruff", " ".join(finished.tail(300).split()))
    return read_report("ruff", report, Violations, wrap=True).results


async def _formatted(bench: Bench, files: Sequence[Path], options: Sequence[str]) -> None:
    finished = await bench.run([ruff_program(), "format", "--no-cache", "--quiet", *options, "--", *files])
    # 2 says that a file does not parse: it stays as it is, and the violations name it.
    if finished.exit_code not in {0, 2}:
        raise ToolFailed("ruff", " ".join(finished.tail(300).split()))


def _python_files(tree: Path, wanted: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The files to look at. Raises `InvalidInput` where a path names none."""
    notes: list[str] = []
    found: list[Path] = []
    for folder, folders, names in os.walk(tree):
        folders[:] = sorted(name for name in folders if name != ".git")
        found += [Path(folder, name) for name in sorted(names) if name.endswith((".py", ".pyi"))]
    found = [file for file in found if not file.is_symlink() and file.is_file()]
    for path in wanted:
        place = tree / path
        if not any(file == place or place in file.parents for file in found):
            raise InvalidInput("paths", path, "no Python file of the tree is there")
    if wanted:
        places = {tree / path for path in wanted}
        found = [file for file in found if file in places or not places.isdisjoint(file.parents)]
    large = [file for file in found if file.stat().st_size > _FILE_BYTES_MAX]
    if large:
        notes.append(f"{len(large)} files are larger than {_FILE_BYTES_MAX} bytes and were left as they are")
        found = [file for file in found if file not in large]
    if len(found) > _FILES_MAX:
        notes.append(f"{len(found)} Python files are too many: the first {_FILES_MAX} were looked at")
    return found[:_FILES_MAX], notes


def _contents(files: Sequence[Path]) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in files}
