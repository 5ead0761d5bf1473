"""Puts documents that were made apart into one site, with an index that also says what is not there: `merge_docs`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, cast

from pydantic import Field, StringConstraints

from diurna_agents.errors import SiteTaken
from diurna_agents.fence import LockClaim, TargetFence, shown
from diurna_agents.payload import AbsolutePath, Payload, Text, validated
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import InvalidInput, NotFound
from diurna_schemas.ids import Id

MANIFEST: Final = ".diurna-site.json"
INDEX: Final = "index.md"
_DRAFTS: Final = ".diurna-drafts"
PartName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}\.md$")]


class MadePart(Payload):
    """A document that was made: its folder on the site, its title, the page to begin with, and its commit."""

    name: PartName
    title: Text
    first: FileName
    head: Text


class MissingPart(Payload):
    """A document the site does not have, and why."""

    name: PartName
    title: Text
    reason: Annotated[str, StringConstraints(min_length=1, max_length=2_000)]


class MergeRequest(Payload):
    """What `merge_docs` takes: the `parts` of one `build`, whose drafts lie where `draft_folder` says.

    Without `publish` the drafts are thrown away and the site stays as it is.
    """

    site: AbsolutePath
    build: Id
    title: Text
    parts: tuple[MadePart, ...] = Field(default=(), max_length=50, strict=False)
    missing: tuple[MissingPart, ...] = Field(default=(), max_length=50, strict=False)
    publish: bool = True
    lock: LockClaim | None = None


def draft_folder(site: str, build: str, part: str) -> str:
    """Where a part is to be written before it is merged: on the site's own file system, aside from what is read."""
    return str(_drafts_of(Path(site), build) / part)


async def merge_docs(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Publishes the parts of a build as one site; pages of the build before that are no longer there go.

    Answers `published`, the `index`, `pages_total` and the `parts` with their pages. A build that was merged before is
    answered for as it was. Each file is whole at any moment, the index comes last. Raises `SiteTaken` where an index
    lies there that was not made here, `StaleToken` under a lock that was lost.
    """
    request = validated(MergeRequest, payload)
    fence = await shown(Path(request.site), request.lock) if request.publish else None
    answer = await asyncio.to_thread(_merged, request, fence)
    await report("merged", {"site": request.site, "published": answer["published"], "pages": answer["pages_total"]})
    return answer


def _merged(request: MergeRequest, fence: TargetFence | None) -> dict[str, object]:
    site = Path(request.site)
    drafts = _drafts_of(site, request.build)
    try:
        if fence is None:
            shutil.rmtree(drafts, ignore_errors=True)
            _remove_empty(drafts.parent)
            return {"published": False, "site": request.site, "index": None, "parts": {}, "pages_total": 0}
        before = _manifest(site)
        if before.get("build") == request.build and not drafts.is_dir():
            return cast("dict[str, object]", before["answer"])
        if not before and (site / INDEX).exists():
            raise SiteTaken(request.site)
        pages = {part.name: sorted(_pages(part, drafts / part.name)) for part in request.parts}
        with fence.passing():
            return _publish(request, site, drafts, pages, before)
    except OSError as error:
        raise InvalidInput("site", request.site, f"cannot be written to: {error.strerror}") from error


def _publish(
    request: MergeRequest, site: Path, drafts: Path, pages: Mapping[str, list[str]], before: Mapping[str, Any]
) -> dict[str, object]:
    files = [f"{name}/{page}" for name, found in pages.items() for page in found]
    for file in files:
        _write(site / file, (drafts / file).read_text("utf-8"))
    _write(site / INDEX, "\n".join(_index(request, pages)))
    for file in set(map(str, before.get("files", ()))) - set(files):
        _remove(site, file)
    answer: dict[str, object] = {
        "published": True,
        "site": request.site,
        "index": str(site / INDEX),
        "parts": pages,
        "pages_total": len(files),
    }
    _write(site / MANIFEST, json.dumps({"build": request.build, "files": files, "answer": answer}))
    shutil.rmtree(drafts, ignore_errors=True)
    _remove_empty(drafts.parent)
    return answer


def _index(request: MergeRequest, pages: Mapping[str, list[str]]) -> Iterator[str]:
    yield f"# {request.title}"
    yield ""
    for part in request.parts:
        count = len(pages[part.name])
        words = "1 page" if count == 1 else f"{count} pages"
        yield f"- [{part.title}]({part.name}/{part.first}): {words}, of commit `{part.head[:12]}`"
    if request.missing:
        yield from ("", "## Not there", "")
        for missing in request.missing:
            yield f"- {missing.title}: {' '.join(missing.reason.split())}"
    yield ""


def _pages(part: MadePart, draft: Path) -> Iterator[str]:
    found = [path.name for path in draft.glob("*.md") if path.is_file()] if draft.is_dir() else []
    if part.first not in found:
        raise NotFound("draft", f"{part.name}/{part.first}")
    yield from found


def _drafts_of(site: Path, build: str) -> Path:
    return site / _DRAFTS / hashlib.blake2b(build.encode(), digest_size=8).hexdigest()


def _manifest(site: Path) -> dict[str, Any]:
    try:
        found: object = json.loads((site / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, "utf-8")
    partial.replace(path)


def _remove(site: Path, file: str) -> None:
    folder, slash, page = file.partition("/")
    # Only what a build can have written: a manifest that somebody wrote otherwise must not lead out of the site.
    if slash and page == Path(page).name and page.endswith(".md") and folder == Path(folder).name != "..":
        (site / folder / page).unlink(missing_ok=True)
        _remove_empty(site / folder)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
