"""Writes documentation from what a repository holds: `generate_docs`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from diurna_agents.branch import checked_branch
from diurna_agents.checkout import check_out
from diurna_agents.documentation.api_reference import api_reference
from diurna_agents.documentation.deployment_guide import deployment_guide
from diurna_agents.documentation.pages import Pages, Source, delivered
from diurna_agents.documentation.request import DocsRequest
from diurna_agents.documentation.user_guide import user_guide
from diurna_agents.language_model import LanguageModel
from diurna_agents.payload import validated
from diurna_agents.python_project import read_project
from diurna_agents.repository import open_repository, resolve
from diurna_agents.workspace import Report, Workspace


async def generate_docs(
    payload: Mapping[str, object], *, workspace: Workspace, report: Report, model: LanguageModel | None = None
) -> dict[str, object]:
    """Makes the pages of one kind and puts them into a directory, a branch, or the answer.

    Answers `files`, where they went (`output`; or `branch`, `commit`, `diff`; or `pages`), `counts` of what was
    described, `overview_by` where a model wrote one, and `notes` on what could not be had.
    """
    request = validated(DocsRequest, payload)
    if request.branch is not None:
        checked_branch(request.branch)
    repository = await open_repository(request.repo, workspace=workspace, refs=(request.head,))
    head = await resolve(repository, "head", request.head)
    async with workspace.fresh("documentation") as directory:
        await report("checkout", {"head": head})
        tree = await check_out(repository, head, directory / "tree", without_missing=True)
        project = await asyncio.to_thread(read_project, tree.directory)
        pages = await _made(request, Source(tree, project, directory, workspace, report, request.timeout_seconds))
        if model is not None and request.prose == "auto":
            await pages.add_overview(model)
        await report("written", {"kind": request.kind, "pages": len(pages.texts)})
        answer = await delivered(request, pages, repository, head, workspace)
        notes = [*pages.notes, *tree.notes()]
    return {
        **answer,
        "kind": request.kind,
        "counts": pages.counts,
        "overview_by": pages.overview_by,
        "notes": notes,
        "head": head,
        "repository": repository.location,
    }


async def _made(request: DocsRequest, source: Source) -> Pages:
    match request.kind:
        case "api_reference":
            return await api_reference(source, request.packages)
        case "user_guide":
            return await user_guide(source)
        case "deployment_guide":
            return await deployment_guide(source)
