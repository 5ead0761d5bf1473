"""What a language model may touch: files below the root, and nothing by way of a link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diurna_agents import worktree
from diurna_agents.branch import checked_path
from diurna_agents.worktree import Worktree
from diurna_schemas.errors import InvalidInput, NotFound, Refused, TooLarge

ESCAPES = ("../outside", "/etc/passwd", "a/../../outside", ".git/config", "a/.GIT/config", "", "a//b", "./a", "a\0b")


@pytest.fixture
def files(tmp_path: Path) -> Worktree:
    root = tmp_path / "tree"
    (root / "src").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / ".git/config").write_text("secret")
    (root / "src/app.py").write_text("x = 1\ny = 2\n")
    (tmp_path / "outside").write_text("secret")
    return Worktree(root)


def test_files_are_read_written_listed_and_searched(files: Worktree):
    files.write("src/new/module.py", b"x = 3\n")
    files.write("src/app.py", b"x = 1\n")
    assert files.read("src/new/module.py") == b"x = 3\n"
    assert files.paths() == ["src/app.py", "src/new/module.py"]
    assert files.search("x = ") == ["src/app.py:1: x = 1", "src/new/module.py:1: x = 3"]
    assert files.written == {"src/new/module.py": b"x = 3\n", "src/app.py": b"x = 1\n"}


@pytest.mark.parametrize("path", ESCAPES)
def test_a_path_that_leads_out_or_into_git_is_refused(files: Worktree, path: str):
    with pytest.raises(InvalidInput) as refused:
        files.read(path)
    assert refused.value.field == "path"
    with pytest.raises(InvalidInput):
        files.write(path, b"x")


@given(st.lists(st.sampled_from(("..", ".", "a", "", ".git", "b.py", "..a", "...")), min_size=1, max_size=6))
def test_a_checked_path_stays_inside_whatever_it_is_made_of(parts: list[str]):
    path = "/".join(parts)
    try:
        checked_path(path)
    except InvalidInput:
        return
    assert os.path.normpath(f"/root/{path}").startswith("/root/")


def test_links_are_neither_followed_nor_written_through(files: Worktree, tmp_path: Path):
    (files.root / "link").symlink_to(tmp_path / "outside")
    (files.root / "folder").symlink_to(tmp_path)
    (files.root / "src/inner").symlink_to("app.py")
    os.link(tmp_path / "outside", files.root / "hard")
    for path in ("link", "folder/outside", "src/inner", "hard"):
        with pytest.raises(InvalidInput, match="no plain file"):
            files.read(path)
        with pytest.raises(InvalidInput, match="no plain file"):
            files.write(path, b"changed")
    with pytest.raises(InvalidInput, match="no plain file"):
        files.write("folder/new", b"x")
    assert (tmp_path / "outside").read_text() == "secret"
    assert not (tmp_path / "new").exists()
    assert files.paths() == ["hard", "src/app.py"]
    assert files.search("secret") == []


def test_what_is_no_file_is_refused(files: Worktree):
    os.mkfifo(files.root / "pipe")
    for path in ("pipe", "src"):
        with pytest.raises(InvalidInput):
            files.read(path)
    with pytest.raises(NotFound):
        files.read("src/nothing.py")
    with pytest.raises(InvalidInput):
        files.write("src/app.py/below", b"x")


def test_amounts_are_bounded(files: Worktree, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(TooLarge):
        files.write("large", b"x" * (worktree.FILE_BYTES_MAX + 1))
    (files.root / "large").write_bytes(b"x" * (worktree.FILE_BYTES_MAX + 1))
    with pytest.raises(TooLarge):
        files.read("large")
    monkeypatch.setattr(worktree, "WRITTEN_FILES_MAX", 2)
    monkeypatch.setattr(worktree, "WRITTEN_BYTES_MAX", 10)
    files.write("one", b"12345")
    files.write("two", b"12345")
    files.write("two", b"1234")
    with pytest.raises(Refused, match="at most 2 files"):
        files.write("three", b"x")
    with pytest.raises(TooLarge):
        files.write("two", b"123456")
    assert files.written == {"one": b"12345", "two": b"1234"}
