"""The API reference of a tree, read from its source by griffe."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from diurna_agents import child_environment, process
from diurna_agents.documentation.pages import PAGES_MAX, Pages, Source
from diurna_agents.errors import NothingToDocument, ToolFailed
from diurna_schemas.errors import NotFound

_NOT_THE_PRODUCT: Final = frozenset(
    {"test", "tests", "testing", "doc", "docs", "example", "examples", "benchmarks", "scripts", "build", "dist", "venv"}
)
_NO_MODULES: Final = frozenset({"setup", "conftest", "noxfile", "tasks", "fabfile"})


async def api_reference(source: Source, wanted: tuple[str, ...]) -> Pages:
    """A page for each module. Raises `NothingToDocument` where there is no Python, `NotFound` for an unknown name."""
    root = source.tree.directory
    found = await asyncio.to_thread(packages_of, root)
    if not found:
        raise NothingToDocument("api_reference", "no importable Python package or module is in this tree")
    for name in wanted:
        if name.partition(".")[0] not in found:
            raise NotFound("package", name)
    output, request = source.directory / "pages", source.directory / "api-request.json"
    places = sorted({str(found[name.partition(".")[0]]) for name in (wanted or found)})
    request.write_text(json.dumps({"search_paths": places, "packages": list(wanted or found)}))
    home = source.directory / "api-home"
    home.mkdir()
    environment = child_environment.for_analysis(source.workspace.environment, home=home)
    finished = await process.run(
        [sys.executable, "-m", "diurna_agents.api_pages", request, output],
        cwd=source.directory,
        environment={**environment, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        timeout_seconds=source.timeout_seconds,
    )
    if not finished.succeeded:
        why = f"more than {source.timeout_seconds:g} s" if finished.timed_out else finished.tail(300)
        raise ToolFailed("the reader of the API", why)
    return await asyncio.to_thread(_read, output)


def packages_of(root: Path) -> dict[str, Path]:
    """The importable packages and modules of a tree, with the folder each is imported from."""
    found: dict[str, Path] = {}
    for folder in _folders(root):
        for entry in sorted(folder.iterdir()):
            name = entry.stem if entry.suffix == ".py" else entry.name
            if not name.isidentifier() or entry.is_symlink() or name.startswith("_"):
                continue
            is_package = entry.is_dir() and (entry / "__init__.py").is_file() and name not in _NOT_THE_PRODUCT
            is_module = entry.suffix == ".py" and not _is_aside(name)
            if is_package or (is_module and folder in {root, root / "src"}):
                found.setdefault(name, folder)
    return found


def _folders(root: Path) -> list[Path]:
    """The root, `src`, and, where several packages live in folders of their own, each of these."""
    folders = [root]
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
            is_package = (entry / "__init__.py").is_file()
            if not is_package and entry.name not in _NOT_THE_PRODUCT:
                folders.append(entry)
    return folders


def _is_aside(name: str) -> bool:
    return name in _NO_MODULES or name.startswith("test_") or name.endswith("_test")


def _read(output: Path) -> Pages:
    result: dict[str, Any] = json.loads((output / "result.json").read_text("utf-8"))
    # The index comes first: it is what a reader opens.
    names = sorted(result["pages"], key=lambda name: (name != "index.md", name))[:PAGES_MAX]
    texts = {name: (output / name).read_text("utf-8") for name in names}
    return Pages(texts, list(result["problems"]), dict(result["counts"]))
