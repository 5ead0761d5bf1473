"""The deployment guide of a tree, from the files that say how it is built, run and tested."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from diurna_agents.documentation.deployment_facts import (
    ComposeService,
    Image,
    Pipeline,
    read_compose,
    read_dockerfile,
    read_pipeline,
    text_of,
)
from diurna_agents.documentation.pages import Pages, Source
from diurna_agents.errors import NothingToDocument
from diurna_agents.toml_tables import read_toml, table, texts
from diurna_schemas.errors import InvalidInput

_DEPTH_MAX: Final = 3
_FILES_MAX: Final = 50
_COMMANDS_MAX: Final = 30
_NOT_LOOKED_INTO: Final = frozenset({".git", "node_modules", ".venv", "venv"})
Found = TypeVar("Found")


async def deployment_guide(source: Source) -> Pages:
    """One page. Raises `NothingToDocument` where no file says anything of deployment."""
    return await asyncio.to_thread(_written, source)


def _written(source: Source) -> Pages:
    root = source.tree.directory
    notes: list[str] = []
    files = list(_files(root, _DEPTH_MAX))
    dockerfiles = [file for file in files if file.name == "Dockerfile" or file.name.startswith("Dockerfile.")]
    composes = [file for file in files if file.stem.split(".")[0] in {"docker-compose", "compose"} and _is_yaml(file)]
    pipelines = [file for file in files if _is_pipeline(file.relative_to(root))]
    images = _read(root, dockerfiles, lambda name, raw: read_dockerfile(name, raw.decode("utf-8", "replace")), notes)
    stacks = _read(root, composes, read_compose, notes)
    tested = _read(root, pipelines, read_pipeline, notes)
    requirements = list(_requirements(source))
    sections: list[tuple[str, Iterator[str]]] = []
    if requirements:
        sections.append(("What it needs", iter(requirements)))
    sections += [(f"Image: `{image.path}`", _image(image)) for _, image in images]
    sections += [(f"Services: `{name}`", _services(*stack)) for name, stack in stacks]
    sections += [(f"Checks: `{pipeline.path}`", _pipeline(pipeline)) for _, pipeline in tested]
    scripts = [file.relative_to(root).as_posix() for file in files if file.parent == root / ".ci"]
    if scripts:
        sections.append(("Scripts of the checks", iter([f"- `{name}`" for name in scripts])))
    if not sections:
        looked_for = "a Dockerfile, a compose file, a pyproject.toml and CI files were looked for"
        raise NothingToDocument("deployment_guide", f"{looked_for}, and none is there")
    for what, found in (("Dockerfile", images), ("compose file", stacks), ("CI file", tested)):
        if not found:
            notes.append(f"there is no {what}")
    lines = [f"# {source.project.name or 'The project'}: deployment guide", ""]
    for heading, body in sections:
        lines += [f"## {heading}", "", *body, ""]
    counts = {"images": len(images), "compose_files": len(stacks), "ci_files": len(tested)}
    return Pages({"deployment-guide.md": "\n".join(lines).rstrip() + "\n"}, notes, counts)


def _read(
    root: Path, files: list[Path], read: Callable[[str, bytes], Found], notes: list[str]
) -> list[tuple[str, Found]]:
    found: list[tuple[str, Found]] = []
    for file in files[:_FILES_MAX]:
        name = file.relative_to(root).as_posix()
        try:
            found.append((name, read(name, text_of(file))))
        except (InvalidInput, OSError) as error:
            notes.append(f"{name} cannot be read: {error}"[:300])
    return found


def _files(folder: Path, depth: int) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink() or entry.name in _NOT_LOOKED_INTO:
            continue
        if entry.is_file():
            yield entry
        elif entry.is_dir() and depth > 1:
            yield from _files(entry, depth - 1)


def _is_yaml(file: Path) -> bool:
    return file.suffix in {".yml", ".yaml"}


def _is_pipeline(path: Path) -> bool:
    if path.name == ".gitlab-ci.yml":
        return True
    return path.parts[:2] == (".github", "workflows") and _is_yaml(path)


def _requirements(source: Source) -> Iterator[str]:
    project = table(read_toml(source.tree.directory / "pyproject.toml"), "project")
    if source.project.requires_python:
        yield f"- Python {source.project.requires_python}"
    if source.project.backend:
        yield f"- built by `{source.project.backend}`"
    dependencies = texts(project.get("dependencies"))
    if dependencies:
        yield f"- {len(dependencies)} packages: {', '.join(f'`{one}`' for one in dependencies[:_COMMANDS_MAX])}"
    for extra in table(project, "optional-dependencies"):
        yield f"- extra `{extra}`"
    for script, target in table(project, "scripts").items():
        yield f"- command `{script}` (`{target}`)"


def _image(image: Image) -> Iterator[str]:
    yield from ("```console", f"docker build -f {image.path} .", "```", "")
    yield from _list("Built from", image.stages)
    yield from _list("Ports", image.ports)
    yield from _list("Variables", image.variables)
    yield from _list("Volumes", image.volumes)
    yield from (f"- {word}: `{rest}`" for word, rest in image.instructions)


def _services(services: list[ComposeService], outside: list[str]) -> Iterator[str]:
    yield from ("| service | image | ports | needs | health check |", "|---|---|---|---|---|")
    for one in services:
        health = "yes" if one.has_health_check else "no"
        yield f"| `{one.name}` | `{one.image}` | {', '.join(one.ports)} | {', '.join(one.needs)} | {health} |"
    yield ""
    for one in services:
        yield from _list(f"`{one.name}` variables", one.variables)
        yield from _list(f"`{one.name}` volumes", one.volumes)
        if one.command:
            yield f"- `{one.name}` runs `{one.command}`"
    yield from _list("Taken from the environment", outside)


def _pipeline(pipeline: Pipeline) -> Iterator[str]:
    yield from _list("Runs on", pipeline.triggers)
    for name, commands in pipeline.jobs.items():
        yield from ("", f"### Job `{name}`", "", "```text")
        yield from (command.replace("```", "'''") for command in commands[:_COMMANDS_MAX])
        if len(commands) > _COMMANDS_MAX:
            yield f"… and {len(commands) - _COMMANDS_MAX} more"
        yield "```"


def _list(what: str, items: list[str]) -> Iterator[str]:
    if items:
        yield f"- {what}: {', '.join(item if '`' in item else f'`{item}`' for item in items)}"
