"""The user guide of a tree: its README, what its commands say of themselves, what its modules are for."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from diurna_agents.documentation.api_reference import packages_of
from diurna_agents.documentation.installed_project import Commands, commands_of
from diurna_agents.documentation.pages import Pages, Source
from diurna_agents.errors import NothingToDocument
from diurna_agents.toml_tables import read_toml, table, text

_READMES: Final = ("README.md", "readme.md", "README.rst", "README.txt", "README")
_README_BYTES_MAX: Final = 128 * 1024
_MODULES_MAX: Final = 300


async def user_guide(source: Source) -> Pages:
    """One page. Raises `NothingToDocument` where the tree says nothing of itself."""
    root = source.tree.directory
    readme = await asyncio.to_thread(_readme, root)
    commands = await commands_of(source) if source.project.is_python else Commands()
    modules = await asyncio.to_thread(lambda: list(module_lines(root)))
    if readme is None and not commands.helps and not modules:
        raise NothingToDocument("user_guide", "there is no README, no command and no Python module in this tree")
    notes = list(commands.notes)
    title, body = _title_and_body(source, readme, notes)
    lines = [f"# {title}: user guide", ""]
    if body:
        lines += [body, ""]
    lines += ["## Installation", "", *install_lines(source), ""] if source.project.buildable else []
    if commands.helps:
        lines += ["## Commands", "", *command_lines(commands)]
    if modules:
        lines += ["## Modules", "", *modules, ""]
    counts = {"commands": len(commands.helps), "modules": len(modules)}
    return Pages({"user-guide.md": "\n".join(lines).rstrip() + "\n"}, notes, counts)


def install_lines(source: Source) -> Iterator[str]:
    """How it is installed, and what it needs."""
    project = table(read_toml(source.tree.directory / "pyproject.toml"), "project")
    yield "```console"
    yield f"pip install {source.project.name or '.'}"
    yield "```"
    if source.project.requires_python:
        yield ""
        yield f"Python {source.project.requires_python} is needed."
    extras = list(table(project, "optional-dependencies"))
    if extras:
        yield ""
        yield f"Extras: {', '.join(f'`{name}`' for name in extras)}."


def command_lines(commands: Commands) -> Iterator[str]:
    """Each command with its own help."""
    for script, said in commands.helps.items():
        yield from (f"### `{script}`", "", "```text", said.replace("```", "'''"), "```", "")


def module_lines(root: Path) -> Iterator[str]:
    """Each public module with the first line of its docstring."""
    for name, folder in packages_of(root).items():
        start = folder / name
        files = sorted(start.rglob("*.py")) if start.is_dir() else [folder / f"{name}.py"]
        for file in files[:_MODULES_MAX]:
            parts = file.relative_to(folder).with_suffix("").parts
            dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if any(part.startswith("_") for part in dotted.split(".")) or file.is_symlink():
                continue
            first = _first_line(file)
            if first:
                yield f"- `{dotted}`: {first}"


def _first_line(file: Path) -> str:
    try:
        found = ast.get_docstring(ast.parse(file.read_bytes()))
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return ""
    return found.strip().splitlines()[0] if found and found.strip() else ""


def _readme(root: Path) -> tuple[str, str] | None:
    for name in _READMES:
        file = root / name
        if file.is_file() and not file.is_symlink():
            return name, file.read_bytes()[:_README_BYTES_MAX].decode("utf-8", "replace")
    return None


def _title_and_body(source: Source, readme: tuple[str, str] | None, notes: list[str]) -> tuple[str, str]:
    """The README's first heading is the title; its other headings stay below it."""
    project = table(read_toml(source.tree.directory / "pyproject.toml"), "project")
    name = source.project.name or "The project"
    if readme is None:
        notes.append("there is no README")
        return name, text(project.get("description")) or ""
    file, words = readme
    if not file.lower().endswith(".md"):
        notes.append(f"{file} is no Markdown and is shown as it is")
        return name, f"```text\n{words.strip()}\n```"
    first, _, rest = words.strip().partition("\n")
    return (first.removeprefix("# ").strip(), rest.strip()) if first.startswith("# ") else (name, words.strip())
