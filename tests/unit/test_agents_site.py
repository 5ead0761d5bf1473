"""One site of several documents: published whole, said where something is missing, never over somebody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diurna_agents.documentation import merge_docs
from diurna_agents.documentation.site import draft_folder
from diurna_agents.workspace import Workspace, report_nothing
from diurna_schemas.errors import Conflict, InvalidInput, NotFound, StaleToken

HEAD = "a" * 40


class Site:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "site"
        self._workspace = Workspace(folder / "work", environment={})

    def draft(self, build: str, part: str, **pages: str) -> None:
        folder = Path(draft_folder(str(self.path), build, part))
        folder.mkdir(parents=True)
        for name, text in pages.items():
            (folder / f"{name}.md").write_text(text)

    async def merge(self, build: str, *parts: str, **more: Any) -> dict[str, Any]:
        made = [{"name": part, "title": part.upper(), "first": "index.md", "head": HEAD} for part in parts]
        payload = {"site": str(self.path), "build": build, "title": "Documentation", "parts": made, **more}
        return await merge_docs(payload, workspace=self._workspace, report=report_nothing)

    def pages(self) -> set[str]:
        return {path.relative_to(self.path).as_posix() for path in self.path.rglob("*.md")}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_the_parts_become_one_site_with_an_index_that_says_what_is_missing(site: Site) -> None:
    site.draft("one", "api", index="# API", module="# module")
    site.draft("one", "guide", index="# Guide")
    missing = [{"name": "deployment", "title": "Deployment", "reason": "no\nDockerfile"}]
    answer = await site.merge("one", "api", "guide", missing=missing)
    assert (answer["published"], answer["pages_total"]) == (True, 3)
    assert site.pages() == {"index.md", "api/index.md", "api/module.md", "guide/index.md"}
    assert (site.path / "index.md").read_text() == (
        "# Documentation\n\n"
        "- [API](api/index.md): 2 pages, of commit `aaaaaaaaaaaa`\n"
        "- [GUIDE](guide/index.md): 1 page, of commit `aaaaaaaaaaaa`\n"
        "\n## Not there\n\n- Deployment: no Dockerfile\n"
    )
    assert not (site.path / ".diurna-drafts").exists()


async def test_a_build_that_was_merged_before_is_answered_for_as_it_was(site: Site) -> None:
    site.draft("one", "api", index="# API")
    first = await site.merge("one", "api")
    assert await site.merge("one", "api") == first


async def test_pages_that_are_no_longer_made_go_and_other_files_stay(site: Site) -> None:
    site.draft("one", "api", index="# API", old="# old")
    site.draft("one", "guide", index="# Guide")
    await site.merge("one", "api", "guide")
    (site.path / "guide" / "mine.md").write_text("mine")
    site.draft("two", "api", index="# API anew")
    await site.merge("two", "api")
    assert site.pages() == {"index.md", "api/index.md", "guide/mine.md"}
    assert (site.path / "api" / "index.md").read_text() == "# API anew"


async def test_unpublished_drafts_are_thrown_away_and_the_site_stays(site: Site) -> None:
    site.draft("one", "api", index="# API")
    await site.merge("one", "api")
    site.draft("two", "api", index="# worse")
    assert (await site.merge("two", "api", publish=False))["published"] is False
    assert (site.path / "api" / "index.md").read_text() == "# API"
    assert not (site.path / ".diurna-drafts").exists()


async def test_an_index_of_somebody_else_s_is_never_overwritten(site: Site) -> None:
    site.path.mkdir()
    (site.path / "index.md").write_text("mine")
    site.draft("one", "api", index="# API")
    with pytest.raises(Conflict, match="not made here"):
        await site.merge("one", "api")
    assert (site.path / "index.md").read_text() == "mine"


async def test_a_holder_that_was_overtaken_publishes_nothing(site: Site) -> None:
    def lock(token: int) -> dict[str, Any]:
        return {"resource_id": "docs:/x", "token": token}

    site.draft("one", "api", index="# API")
    await site.merge("one", "api", lock=lock(7))
    site.draft("two", "api", index="# late")
    with pytest.raises(StaleToken):
        await site.merge("two", "api", lock=lock(6))
    assert (site.path / "api" / "index.md").read_text() == "# API"


async def test_what_was_not_made_is_not_published(site: Site) -> None:
    with pytest.raises(NotFound, match=r"api/index\.md"):
        await site.merge("one", "api")
    with pytest.raises(InvalidInput, match="build"):
        await site.merge("no id\n", "api")
    with pytest.raises(InvalidInput, match="site"):
        await site.merge("one", "api", site="../x")
    part = {"name": "../api", "title": "API", "first": "index.md", "head": HEAD}
    with pytest.raises(InvalidInput, match=r"parts\.0\.name"):
        await site.merge("one", parts=[part])
