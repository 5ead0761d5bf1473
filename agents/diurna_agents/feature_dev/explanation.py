"""Explains code by its structure, read from the syntax tree; a language model adds words: `explain_code`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from diurna_agents import child_environment, process
from diurna_agents.branch import checked_path
from diurna_agents.checkout import check_out
from diurna_agents.code_review.tools import FILES_A_RUN, Bench, read_report
from diurna_agents.errors import NeedsModel, ToolFailed
from diurna_agents.feature_dev.request import ExplainRequest
from diurna_agents.language_model import LanguageModel
from diurna_agents.payload import validated
from diurna_agents.repository import open_repository, resolve
from diurna_agents.ruff_tool import Violations, ruff_program
from diurna_agents.syntax_trees import symbols_of
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import DiurnaError, InvalidInput, NotFound

Json = dict[str, Any]

FILES_MAX: Final = 1_000
_FILE_BYTES_MAX: Final = 1024 * 1024
_ANSWER_BYTES_MAX: Final = 160 * 1024
_SOURCE_CHARACTERS_MAX: Final = 12_000
_INSTRUCTIONS: Final = (
    "You explain code to a colleague who will work on it. You are given its structure as JSON, read from the syntax "
    "tree, and perhaps its source. Say in plain words what it is for, how its parts work together and what to know "
    "before changing it. Say only what the material shows. At most 400 words, in Markdown."
)


async def explain_code(
    payload: Mapping[str, object], *, workspace: Workspace, report: Report, model: LanguageModel | None = None
) -> Json:
    """The structure of a tree, a path of it, or one symbol: modules, classes, functions, calls, complexity.

    Answers `structure` (or `symbols` with their `source` and `called_by`), a `summary`, `languages`, and `prose` where
    a model wrote some.
    """
    request = validated(ExplainRequest, payload)
    if request.prose == "required" and model is None:
        raise NeedsModel.to("prose", "the structure can be had with prose: auto")
    repository = await open_repository(request.repo, workspace=workspace, refs=(request.head,))
    head = await resolve(repository, "head", request.head)
    async with workspace.fresh("explanation") as directory:
        tree = await check_out(repository, head, directory / "tree", without_missing=True)
        languages, python, notes = await asyncio.to_thread(_survey, tree.directory, request.path)
        await report("read", {"files": languages["total"]["files"], "python_files": len(python)})
        bench = _bench(directory, tree.directory, workspace)
        modules = await _structure(python, bench, request.timeout_seconds) if python else []
        if python:
            _add_complexity(modules, tree.directory, await _complexity(python, bench))
        answer: Json = {"path": request.path, "symbol": request.symbol, "languages": languages}
        if request.symbol is not None:
            answer["symbols"] = _found(request.symbol, modules, tree.directory)
        else:
            answer["structure"] = _fitted(modules, notes)
    answer["summary"] = _summary(modules, languages)
    answer |= await _prose(request, answer, model, notes)
    return {**answer, "notes": [*notes, *tree.notes()], "head": head, "repository": repository.location}


def _bench(directory: Path, tree: Path, workspace: Workspace) -> Bench:
    scratch, home = directory / "scratch", directory / "home"
    scratch.mkdir()
    home.mkdir()
    return Bench(tree, scratch, child_environment.for_analysis(workspace.environment, home=home))


def _survey(root: Path, path: str | None) -> tuple[Json, list[str], list[str]]:
    """How many files and lines of which kind there are, and the Python files among them."""
    start = root if path is None else root / checked_path(path)
    if not start.exists() or start.is_symlink():
        raise InvalidInput("path", path, "there is no such file or directory in this commit")
    files, lines = Counter[str](), Counter[str]()
    python: list[str] = []
    notes: list[str] = []
    for file in _files(start):
        suffix = PurePosixPath(file.name).suffix or file.name
        files[suffix] += 1
        if file.stat().st_size > _FILE_BYTES_MAX:
            notes.append(f"{file.relative_to(root)} is larger than {_FILE_BYTES_MAX} bytes and was not read")
            continue
        data = file.read_bytes()
        lines[suffix] += 0 if b"\0" in data[:8_000] else data.count(b"\n")
        if suffix in {".py", ".pyi"} and str(file.relative_to(root)).isprintable():
            python.append(file.relative_to(root).as_posix())
    if len(python) > FILES_MAX:
        notes.append(f"the first {FILES_MAX} of {len(python)} Python files were read")
    if not python:
        notes.append("no Python file is here: of other languages, files and lines are counted and nothing more")
    by_suffix: Json = {name: {"files": count, "lines": lines[name]} for name, count in files.most_common(30)}
    return {"total": {"files": files.total(), "lines": lines.total()}, **by_suffix}, python[:FILES_MAX], notes[:20]


def _files(start: Path) -> list[Path]:
    if start.is_file():
        return [start]
    found: list[Path] = []
    for folder, folders, names in os.walk(start):
        folders[:] = sorted(name for name in folders if name != ".git")
        found += [Path(folder, name) for name in sorted(names)]
    return [file for file in found if not file.is_symlink() and file.is_file()]


async def _structure(python: Sequence[str], bench: Bench, timeout_seconds: float) -> list[Json]:
    request, output = bench.scratch / "paths.json", bench.scratch / "structure.json"
    request.write_text(json.dumps(list(python)))
    command = [sys.executable, "-m", "diurna_agents.syntax_trees"]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    finished = await process.run(
        [*command, bench.checkout, request, output],
        cwd=bench.scratch,
        environment={**bench.environment, "PYTHONPATH": path},
        timeout_seconds=timeout_seconds,
    )
    if not finished.succeeded:
        why = f"more than {timeout_seconds:g} s" if finished.timed_out else finished.tail(300)
        raise ToolFailed("the reader of syntax trees", why)
    modules: list[Json] = json.loads(await asyncio.to_thread(output.read_text))
    return modules


async def _complexity(python: Sequence[str], bench: Bench) -> dict[tuple[str, int], int]:
    """The cyclomatic complexity of each function, as ruff counts it, by file and line."""
    found: dict[tuple[str, int], int] = {}
    for start in range(0, len(python), FILES_A_RUN):
        report = bench.scratch / "ruff.json"
        report.unlink(missing_ok=True)
        fixed = ["check", "--isolated", "--no-cache", "--exit-zero", "--quiet", "--select", "C901"]
        form = ["--config", "lint.mccabe.max-complexity=0", "--output-format", "json"]
        files = [bench.checkout / path for path in python[start : start + FILES_A_RUN]]
        finished = await bench.run([ruff_program(), *fixed, *form, "--output-file", report, "--", *files])
        if finished.exit_code != 0:
            raise ToolFailed("ruff", " ".join(finished.tail(300).split()))
        for one in read_report("ruff", report, Violations, wrap=True).results:
            count = one.message.rpartition("(")[2].partition(" ")[0]
            if one.code == "C901" and count.isdecimal():
                found[one.filename, one.location.row] = int(count)
    return found


def _add_complexity(modules: Sequence[Json], root: Path, complexity: Mapping[tuple[str, int], int]) -> None:
    for module in modules:
        name = str(root / module["path"])
        for symbol in symbols_of(module):
            if symbol["kind"] != "class":
                symbol["complexity"] = complexity.get((name, symbol["line"]))


def _found(wanted: str, modules: Sequence[Json], root: Path) -> list[Json]:
    """The symbols of this name, with their source and who calls them. Raises `NotFound`."""
    every = [(module, symbol) for module in modules for symbol in symbols_of(module)]
    chosen = [
        (module, symbol)
        for module, symbol in every
        if symbol["qualified"] == wanted or symbol["qualified"].endswith(f".{wanted}")
    ]
    if not chosen:
        raise NotFound("symbol", wanted)
    found: list[Json] = []
    for module, symbol in chosen[:10]:
        lines = (root / module["path"]).read_text("utf-8", "replace").splitlines()
        source = "\n".join(lines[symbol["line"] - 1 : symbol["end_line"]])
        callers = [
            caller["qualified"]
            for _, caller in every
            if any(call["to"] == symbol["qualified"] for call in caller.get("calls", ()))
        ]
        found.append(
            {**symbol, "path": module["path"], "source": source[:_SOURCE_CHARACTERS_MAX], "called_by": callers[:100]}
        )
    return found


def _fitted(modules: Sequence[Json], notes: list[str]) -> list[Json]:
    """As much as an answer may hold: what is left out, and noted, is first the calls, then words, then functions."""
    shown = [dict(module) for module in modules]
    for what, strip in (("calls", _without_calls), ("docstrings", _without_docstrings), ("functions", _names_alone)):
        if len(json.dumps(shown)) <= _ANSWER_BYTES_MAX:
            return shown
        notes.append(f"{what} were left out, the answer would be too large: ask for a path or a symbol")
        shown = [strip(module) for module in shown]
    kept: list[Json] = []
    room = _ANSWER_BYTES_MAX
    for module in shown:
        room -= len(json.dumps(module)) + 2
        if room < 0:
            notes.append(f"{len(kept)} of {len(shown)} modules are shown: ask for a path")
            break
        kept.append(module)
    return kept


def _without_calls(module: Json) -> Json:
    return _without("calls", module)


def _without_docstrings(module: Json) -> Json:
    return _without("docstring", module)


def _names_alone(module: Json) -> Json:
    names = {"classes": [one["name"] for one in module["classes"]]}
    return {**module, **names, "functions": [one["name"] for one in module["functions"]], "imports": []}


def _without(what: str, module: Json) -> Json:
    def stripped(symbol: Json) -> Json:
        return {name: value for name, value in symbol.items() if name != what}

    classes = [
        {**stripped(one), "methods": [stripped(method) for method in one["methods"]]} for one in module["classes"]
    ]
    return {**module, "classes": classes, "functions": [stripped(one) for one in module["functions"]]}


def _summary(modules: Sequence[Json], languages: Json) -> str:
    total = languages["total"]
    text = f"{total['files']} files, {total['lines']} lines"
    if not modules:
        return f"{text}; nothing of Python."
    symbols = [symbol for module in modules for symbol in symbols_of(module)]
    classes = [symbol for symbol in symbols if symbol["kind"] == "class"]
    functions = [symbol for symbol in symbols if symbol["kind"] != "class"]
    text += f"; {len(modules)} Python modules with {len(classes)} classes and {len(functions)} functions"
    hardest = max(functions, key=lambda one: one.get("complexity") or 0, default=None)
    if hardest is not None and hardest.get("complexity"):
        text += f"; the most complex is {hardest['qualified']} ({hardest['complexity']})"
    broken = [module["path"] for module in modules if module["problem"]]
    return f"{text}; {len(broken)} do not parse: {', '.join(broken[:5])}." if broken else f"{text}."


async def _prose(request: ExplainRequest, answer: Json, model: LanguageModel | None, notes: list[str]) -> Json:
    if request.prose == "never" or model is None:
        return {"prose": None, "prose_by": None}
    material = json.dumps({"symbols" if request.symbol else "structure": answer.get("symbols") or answer["structure"]})
    try:
        return {"prose": await model.say(_INSTRUCTIONS, material), "prose_by": model.name}
    except DiurnaError as error:
        if request.prose == "required":
            raise
        notes.append(f"no prose: {error}")
        return {"prose": None, "prose_by": None}
