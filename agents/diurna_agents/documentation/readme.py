"""Brings sections of a README up to date on a branch, and leaves every other byte as it is: `update_readme`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from diurna_agents.branch import Change, checked_path, write_branch
from diurna_agents.changes import contents
from diurna_agents.checkout import check_out
from diurna_agents.documentation.installed_project import commands_of
from diurna_agents.documentation.marked_sections import replaced
from diurna_agents.documentation.pages import Source
from diurna_agents.documentation.request import ReadmeRequest
from diurna_agents.documentation.user_guide import command_lines, install_lines, module_lines
from diurna_agents.payload import validated
from diurna_agents.python_project import read_project
from diurna_agents.repository import Repository, open_repository, resolve
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import InvalidInput, Refused


async def update_readme(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Replaces what stands between the markers of the named sections.

    Answers `outcome` (updated, unchanged), `branch`, `commit`, `diff`, the `sections` that were looked at and `notes`.
    """
    request = validated(ReadmeRequest, payload)
    path = checked_path(request.file, "file")
    repository = await open_repository(request.repo, workspace=workspace, refs=(request.head,))
    head = await resolve(repository, "head", request.head)
    before = await contents(repository, head, path.encode())
    if before is None:
        if not request.append:
            raise InvalidInput("file", request.file, "there is no such file in this commit, or it is too large")
        before = b""
    if b"\0" in before:
        raise InvalidInput("file", request.file, "it is a binary file")
    sections, notes = await _sections(request, repository, head, workspace, report)
    after = replaced(before, sections, append=request.append)
    answer: dict[str, object] = {"branch": None, "commit": None, "base": None, "diff": None}
    answer |= {"file": path, "sections": sorted(sections), "notes": notes, "head": head}
    answer["repository"] = repository.location
    if after == before:
        return {**answer, "outcome": "unchanged", "reason": "the sections say so already"}
    names = ", ".join(sorted(sections))
    change = Change("readme", head, {path: after}, f"Bring {path} up to date\n\nSections: {names}", "documentation")
    branch = await write_branch(repository, request.repo, request.branch, change, workspace=workspace)
    await report("written", {"branch": branch.name, "commit": branch.commit})
    return {**answer, **branch.as_json(), "outcome": "updated", "reason": f"sections brought up to date: {names}"}


async def _sections(
    request: ReadmeRequest, repository: Repository, head: str, workspace: Workspace, report: Report
) -> tuple[dict[str, str], list[str]]:
    """The texts as given, and those that are made from the tree."""
    sections: dict[str, str] = dict(request.sections)
    if not request.generate:
        return sections, []
    async with workspace.fresh("readme") as directory:
        tree = await check_out(repository, head, directory / "tree")
        project = await asyncio.to_thread(read_project, tree.directory)
        source = Source(tree, project, directory, workspace, report, request.timeout_seconds)
        notes = tree.notes()
        for name, part in request.generate.items():
            await report("section", {"section": name, "part": part})
            text, said = await _made(part, source)
            notes += said
            if not text:
                why = said[0] if said else "this tree has nothing to say there"
                raise Refused(f"generate.{name}: no {part} could be written: {why}", code="nothing_to_document")
            sections[name] = text
    return sections, notes


async def _made(part: str, source: Source) -> tuple[str, list[str]]:
    match part:
        case "commands":
            commands = await commands_of(source)
            return "\n".join(command_lines(commands)).strip(), commands.notes
        case "modules":
            return "\n".join(await asyncio.to_thread(lambda: list(module_lines(source.tree.directory)))), []
        case _:
            return ("\n".join(install_lines(source)) if source.project.buildable else ""), []
