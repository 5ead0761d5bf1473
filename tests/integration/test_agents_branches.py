"""Branches of their own, written into repositories by path and by URL; what was there is never moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dulwich.object_store import iter_tree_contents
from dulwich.repo import Repo

from diurna_agents import branch
from diurna_agents.branch import Branch, Change, write_branch
from diurna_agents.errors import BranchTaken
from diurna_agents.repository import open_repository, resolve
from diurna_schemas.errors import InvalidInput, Refused
from support.agents_repositories import PROGRAM, SUBMODULE, SYMLINK, GitRepository, workspace_below


@pytest.fixture
def git(tmp_path: Path) -> GitRepository:
    made = GitRepository(tmp_path / "source.git")
    files: dict[str | bytes, Any] = {
        "run.sh": (PROGRAM, b"#!/bin/sh\n"),
        "src/app.py": "x = 1\n",
        "link": (SYMLINK, b"src/app.py"),
        "module": (SUBMODULE, b"a" * 40),
    }
    made.commit(files)
    return made


async def write(git: GitRepository, location: str, name: str | None, edits: dict[str, bytes]) -> Branch:
    workspace = workspace_below(git.path.parent)
    repository = await open_repository(location, workspace=workspace)
    base = await resolve(repository, "head", "main")
    change = Change("try", base, edits, "Try it\n\nBecause.", "tester")
    return await write_branch(repository, location, name, change, workspace=workspace)


def entries(git: GitRepository, name: str) -> dict[str, tuple[int, bytes]]:
    with Repo(str(git.path)) as repo:
        commit: Any = repo[b"refs/heads/" + name.encode()]
        tree = iter_tree_contents(repo.object_store, commit.tree)
        return {
            entry.path.decode(): (entry.mode or 0, b"" if entry.mode == SUBMODULE else repo[entry.sha].as_raw_string())  # type: ignore[index, union-attr]
            for entry in tree
        }


@pytest.mark.parametrize("scheme", ["", "file://"])
async def test_a_branch_holds_the_change_and_nothing_else_of_the_tree_changes(git: GitRepository, scheme: str):
    before, main = entries(git, "main"), git.snapshot()[str(git.path / "refs/heads/main")]
    edits = {"src/app.py": b"x = 2\n", "docs/new/page.md": b"# New\n", "run.sh": b"#!/bin/bash\n"}
    made = await write(git, f"{scheme}{git.path}", "feature/x", edits)
    after = entries(git, "feature/x")
    assert after["run.sh"] == (PROGRAM, b"#!/bin/bash\n"), "a program stays one"
    assert (after["docs/new/page.md"], after["src/app.py"]) == ((0o100644, b"# New\n"), (0o100644, b"x = 2\n"))
    assert {path: after[path] for path in ("link", "module")} == {path: before[path] for path in ("link", "module")}
    assert git.snapshot()[str(git.path / "refs/heads/main")] == main
    assert {file.path: len(file.added_lines) for file in made.changed.files} == {
        "docs/new/page.md": 1,
        "run.sh": 1,
        "src/app.py": 1,
    }
    with Repo(str(git.path)) as repo:
        commit: Any = repo[made.commit.encode()]
        assert (commit.message, commit.author) == (b"Try it\n\nBecause.\n", b"Diurna tester <tester@diurna.invalid>")


@pytest.mark.parametrize("scheme", ["", "file://"])
async def test_the_same_change_again_is_the_same_branch_and_another_is_refused(
    git: GitRepository, scheme: str, monkeypatch: pytest.MonkeyPatch
):
    location = f"{scheme}{git.path}"
    first = await write(git, location, "x", {"a": b"1"})
    monkeypatch.setattr(branch.time, "time", lambda: 2_000_000_000)
    second = await write(git, location, "x", {"a": b"1"})
    assert (second.commit, second.existed, first.existed) == (first.commit, True, False)
    with pytest.raises(BranchTaken, match=r"branch: 'x' in .* points at"):
        await write(git, location, "x", {"a": b"2"})
    moved = git.commit({"other": "by somebody else"}, branch="x")
    with pytest.raises(BranchTaken):
        await write(git, location, "x", {"a": b"1"})
    with Repo(str(git.path)) as repo:
        assert repo.refs[b"refs/heads/x"].decode() == moved  # type: ignore[index]


async def test_a_branch_nobody_named_is_named_by_what_it_holds(git: GitRepository):
    one, same, other = [await write(git, str(git.path), None, {"a": data}) for data in (b"1", b"1", b"2")]
    assert one.name.startswith("diurna/try-")
    assert (same.name, same.commit) == (one.name, one.commit)
    assert other.name != one.name


@pytest.mark.parametrize("name", ["a..b", "x.lock", "a b", "HEAD", "/x"])
async def test_a_name_git_does_not_allow_is_refused(git: GitRepository, name: str):
    with pytest.raises(InvalidInput, match="branch: it is not a name git allows"):
        await write(git, str(git.path), name, {"a": b"1"})


async def test_a_branch_in_the_way_of_another_is_said(git: GitRepository):
    await write(git, str(git.path), "taken", {"a": b"1"})
    with pytest.raises(Refused, match="branch: taken/below cannot be made"):
        await write(git, str(git.path), "taken/below", {"a": b"1"})


@pytest.mark.parametrize("path", ["src", "link", "module", "src/app.py/below", "link/below", "../x", ".git/hooks/x"])
async def test_only_files_can_be_written(git: GitRepository, path: str):
    with pytest.raises(InvalidInput, match="path"):
        await write(git, str(git.path), "x", {path: b"1"})


async def test_amounts_are_bounded(git: GitRepository, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(branch, "EDITS_MAX", 1)
    with pytest.raises(Refused, match="2 files are more than the 1"):
        await write(git, str(git.path), "x", {"a": b"1", "b": b"1"})
    monkeypatch.setattr(branch, "EDIT_BYTES_MAX", 3)
    with pytest.raises(Refused, match="4 bytes are more than the 3"):
        await write(git, str(git.path), "x", {"a": b"1234"})


async def test_a_remote_that_does_not_take_it_is_told_without_its_credentials(git: GitRepository):
    workspace = workspace_below(git.path.parent)
    repository = await open_repository(str(git.path), workspace=workspace)
    base = await resolve(repository, "head", "main")
    change = Change("try", base, {"a": b"1"}, "Try it", "tester")
    with pytest.raises(Refused, match=r"https://127\.0\.0\.1:9/x\.git did not take the branch x") as refused:
        await write_branch(repository, "https://ada:word@127.0.0.1:9/x.git", "x", change, workspace=workspace)
    assert "word" not in str(refused.value)
