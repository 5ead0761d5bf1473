"""A project installed where nothing else is, so that its commands can be asked what they do."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from diurna_agents.distribution import WheelFacts, build, read_wheel, version_hints
from diurna_agents.documentation.pages import Source
from diurna_agents.environment_checks import Inspected
from diurna_agents.errors import ToolFailed
from diurna_agents.uv_tool import Uv

SCRIPTS_MAX = 30
_HELP_SECONDS = 30.0
_HELP_CHARACTERS_MAX = 12_000


@dataclass(slots=True)
class Commands:
    """What each declared script says to `--help`; in `notes`, what could not be had and why."""

    helps: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])
    facts: WheelFacts | None = None


async def commands_of(source: Source) -> Commands:
    """Builds and installs the project, and asks its scripts."""
    found = Commands()
    if not source.project.buildable:
        found.notes.append("the project has no build metadata, so it has no commands that could be asked")
        return found
    deadline = time.monotonic() + source.timeout_seconds
    environment = source.workspace.environment
    uv = Uv.below(source.tree.directory, environment, **version_hints(source.project, source.tree, environment))
    python = await uv.find_python(source.project.requires_python)
    if python is None:
        found.notes.append(f"no Python on this machine satisfies requires-python {source.project.requires_python!r}")
        return found
    built = await build(
        uv, source.directory / "dist", python=python, sdist=False, timeout_seconds=source.timeout_seconds
    )
    if built.wheel is None:
        found.notes.append(f"the project does not build, so its commands were not asked: {built.finished.tail(300)}")
        return found
    found.facts = await read_wheel(built.wheel)
    if not found.facts.scripts:
        return found
    target, home = source.directory / "environment", source.directory / "home"
    home.mkdir()
    made = await uv.make_environment(target, python)
    left = max(deadline - time.monotonic(), 1.0)
    installed = await uv.install(target, [built.wheel], timeout_seconds=left) if made.succeeded else made
    if not installed.succeeded:
        found.notes.append(f"the project does not install, so its commands were not asked: {installed.tail(300)}")
        return found
    await source.report("commands", {"scripts": found.facts.scripts[:SCRIPTS_MAX]})
    inspected = Inspected(target, home, home, environment)
    for script in found.facts.scripts[:SCRIPTS_MAX]:
        try:
            said = await inspected.run([str(target / "bin" / script), "--help"], _HELP_SECONDS)
        except ToolFailed as error:
            found.notes.append(f"{script} --help: {error.detail}")
            continue
        if said.succeeded:
            found.helps[script] = said.output.strip()[:_HELP_CHARACTERS_MAX]
        else:
            why = "no answer in time" if said.timed_out else f"exit code {said.exit_code}: {said.tail(200)}"
            found.notes.append(f"{script} --help: {why}")
    return found
