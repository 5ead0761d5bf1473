"""Reading repositories that somebody else owns: names, changes, and trees that mean harm."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain

from diurna_agents.changes import changes
from diurna_agents.checkout import check_out
from diurna_agents.errors import RefNotFound, RepositoryNotFound, UnrelatedHistories, UnsafeTree
from diurna_agents.repository import merge_base, open_repository, resolve
from support.agents_repositories import PROGRAM, SUBMODULE, SYMLINK, GitRepository, workspace_below


@pytest.fixture
def git(tmp_path: Path) -> GitRepository:
    return GitRepository(tmp_path / "source.git")


async def opened(git: GitRepository, tmp_path: Path):
    return await open_repository(str(git.path), workspace=workspace_below(tmp_path))


async def test_every_way_to_name_a_commit_leads_to_it(git: GitRepository, tmp_path: Path):
    first = git.commit({"a": "1"})
    second = git.commit({"a": "2"}, parents=(first,))
    side = git.commit({"a": "1", "b": "1"}, parents=(first,), branch="feature/x")
    merged = git.commit({"a": "2", "b": "1"}, parents=(second, side))
    git.tag("v1.0", first)
    git.point("refs/remotes/origin/theirs", second)
    repository = await opened(git, tmp_path)
    expected = {
        "main": merged,
        "HEAD": merged,
        "@": merged,
        "refs/heads/main": merged,
        "heads/main": merged,
        "feature/x": side,
        "v1.0": first,
        "v1.0^{}": first,
        "v1.0^{commit}": first,
        "origin/theirs": second,
        "theirs": second,
        "HEAD~1": second,
        "HEAD~2": first,
        "HEAD^": second,
        "HEAD^2": side,
        "HEAD^2~1": first,
        "main^0": merged,
        merged: merged,
        second[:9]: second,
        second.upper()[:12]: second,
    }
    for name, sha in expected.items():
        assert await resolve(repository, "head", name) == sha, name


@pytest.mark.parametrize("name", ["nothing", "HEAD~99", "HEAD^3", "deadbeef", "HEAD^{tree}", "~1", "a~b", "../../etc"])
async def test_a_name_for_nothing_is_refused_with_its_field(git: GitRepository, tmp_path: Path, name: str):
    git.commit({"a": "1"})
    repository = await opened(git, tmp_path)
    with pytest.raises(RefNotFound) as caught:
        await resolve(repository, "base", name)
    assert str(caught.value).startswith(f"base: no commit {name!r} in ")
    assert caught.value.code == "ref_not_found"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("/nowhere/at/all", "there is no such file"),
        ("relative/path", "must be absolute"),
        ("host:path/to/repo.git", "a URL is user@host:path"),
        ("/etc/hostname", "not a directory"),
        ("/usr", "not a git repository"),
        ("ext::sh -c true://x", "scheme"),
        ("file:///nowhere/at/all.git", "nowhere"),
    ],
)
async def test_what_is_no_repository_is_refused_with_the_reason(tmp_path: Path, location: str, reason: str):
    with pytest.raises(RepositoryNotFound) as caught:
        await open_repository(location, workspace=workspace_below(tmp_path))
    assert reason in str(caught.value)
    assert str(caught.value).startswith("repo: ")


async def test_a_damaged_repository_is_refused_and_not_a_crash(git: GitRepository, tmp_path: Path):
    sha = git.commit({"a": "1"})
    shutil.rmtree(git.path / "objects" / sha[:2])
    repository = await opened(git, tmp_path)
    with pytest.raises((RepositoryNotFound, RefNotFound)):
        await resolve(repository, "head", "main")


async def test_changes_are_told_from_where_the_branch_left(git: GitRepository, tmp_path: Path):
    text = "".join(f"line {number}\n" for number in range(30))
    root = git.commit({"kept.py": "a\nb\n", "moved.py": text, "gone.py": "x\n", "logo.png": b"\0\1"})
    head = git.commit(
        {
            "kept.py": "a\nnew\nb\n",
            "renamed.py": text + "more\n",
            "added.py": "1\n2\n",
            "logo.png": b"\0\2",
            "link": (SYMLINK, b"kept.py"),
            b"caf\xe9.txt": "latin\n",
        },
        parents=(root,),
        branch="feature",
    )
    base = git.commit({"kept.py": "a\nb\n", "elsewhere.py": "y\n"}, parents=(root,))
    repository = await opened(git, tmp_path)
    start = await merge_base(repository, base, head)
    assert start == root
    found = {file.path: file for file in (await changes(repository, start, head)).files}
    assert {path: (file.kind, file.content, file.added_lines) for path, file in found.items()} == {
        "kept.py": ("modified", "text", (2,)),
        "renamed.py": ("renamed", "text", (31,)),
        "added.py": ("added", "text", (1, 2)),
        "gone.py": ("deleted", "text", ()),
        "logo.png": ("modified", "binary", ()),
        "link": ("added", "symlink", ()),
        "caf\\xe9.txt": ("added", "text", (1,)),
    }
    assert found["renamed.py"].old_path == "moved.py"
    assert "+new" in found["kept.py"].patch


async def test_a_changed_submodule_is_told_as_one(git: GitRepository, tmp_path: Path):
    root = git.commit({"vendor": (SUBMODULE, b"1" * 40), "a": "1"})
    head = git.commit({"vendor": (SUBMODULE, b"2" * 40), "a": "1"}, parents=(root,))
    found = await changes(await opened(git, tmp_path), root, head)
    assert [(file.path, file.content) for file in found.files] == [("vendor", "submodule")]


async def test_histories_that_share_nothing_are_refused(git: GitRepository, tmp_path: Path):
    one, other = git.commit({"a": "1"}), git.commit({"b": "1"}, branch="other")
    with pytest.raises(UnrelatedHistories):
        await merge_base(await opened(git, tmp_path), one, other)


async def test_a_checkout_is_a_repository_of_its_own_and_the_source_is_not_touched(git: GitRepository, tmp_path: Path):
    first = git.commit({"run.sh": (PROGRAM, b"#!/bin/sh\n"), "pkg/mod.py": "x = 1\n", "in": (SYMLINK, b"pkg/mod.py")})
    git.tag("v1.2.3", first)
    head = git.commit(
        {"run.sh": (PROGRAM, b"#!/bin/sh\n"), "pkg/mod.py": "x = 2\r\n", "in": (SYMLINK, b"pkg/mod.py")},
        parents=(first,),
    )
    before = git.snapshot()
    tree = await check_out(await opened(git, tmp_path), head, tmp_path / "tree")
    assert git.snapshot() == before
    assert (tree.directory / "pkg/mod.py").read_bytes() == b"x = 2\r\n"
    assert (tree.directory / "run.sh").stat().st_mode & 0o111
    assert (tree.directory / "in").read_bytes() == b"x = 2\r\n"
    assert tree.version_from_tags == f"1.2.4.dev1+g{head[:9]}"
    with Repo(str(tree.directory)) as own:
        assert own.head().decode() == head
        assert b"refs/tags/v1.2.3" in own.refs.allkeys()


@pytest.mark.skipif(shutil.which("git") is None, reason="only a git program can say what a git program sees")
async def test_a_git_program_finds_the_checkout_clean_and_described(git: GitRepository, tmp_path: Path):
    first = git.commit(
        {"a.py": "1\n", "crlf.txt": "a\r\nb\r\n", "l": (SYMLINK, b"a.py"), "sub": (SUBMODULE, b"3" * 40)}
    )
    git.tag("v2.0", first)
    head = git.commit(
        {"a.py": "2\n", "crlf.txt": "a\r\nb\r\n", "l": (SYMLINK, b"a.py"), "sub": (SUBMODULE, b"3" * 40)},
        parents=(first,),
    )
    tree = await check_out(await opened(git, tmp_path), head, tmp_path / "tree")

    def ask(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=tree.directory, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert ask("status", "--porcelain") == ""
    assert ask("describe", "--dirty", "--tags") == f"v2.0-1-g{head[:7]}"


async def test_links_that_lead_out_are_refused_by_whatever_way_they_go(git: GitRepository, tmp_path: Path):
    head = git.commit(
        {
            "absolute": (SYMLINK, b"/etc/passwd"),
            "up": (SYMLINK, b"../../outside"),
            "deep/er/home": (SYMLINK, b"../.."),
            "by_way_of": (SYMLINK, b"deep/er/home/../../x"),
            "loop": (SYMLINK, b"loop"),
            "fine": (SYMLINK, b"deep/er"),
            "dangling": (SYMLINK, b"not/there"),
        }
    )
    tree = await check_out(await opened(git, tmp_path), head, tmp_path / "out" / "tree")
    assert sorted(tree.refused_symlinks) == ["absolute", "by_way_of", "up"]
    assert not (tree.directory / "absolute").is_symlink()
    assert (tree.directory / "fine").is_symlink()
    assert any("lead out of the tree" in note for note in tree.notes())


@pytest.mark.parametrize("name", [b"..", b".git", b".GIT", b"pkg/.git", b"."])
async def test_a_tree_with_names_that_would_escape_is_refused(git: GitRepository, tmp_path: Path, name: bytes):
    head = git.commit({name + b"/config": "[core]\n"})
    with pytest.raises(UnsafeTree, match="not safe"):
        await check_out(await opened(git, tmp_path), head, tmp_path / "tree")
    assert not (tmp_path / "config").exists()


async def test_nothing_is_written_through_a_link_of_the_same_name(git: GitRepository, tmp_path: Path):
    head = git.commit({b"dir": (SYMLINK, b"/tmp"), b"dir ": "x", b"dirx/evil": "x"})
    tree = await check_out(await opened(git, tmp_path), head, tmp_path / "tree")
    assert tree.refused_symlinks == ("dir",)


@contextmanager
def served(path: Path) -> Iterator[str]:
    """The repository over real HTTP, by dulwich's own server."""

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            return

    with Repo(str(path)) as repo:
        server = make_server("127.0.0.1", 0, make_wsgi_chain(DictBackend({"/": repo})), handler_class=Quiet)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://user:word@127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


async def test_a_url_is_cloned_once_and_refreshed_after(git: GitRepository, tmp_path: Path):
    first = git.commit({"a": "1"})
    gone = git.commit({"a": "x"}, parents=(first,), branch="gone")
    workspace = workspace_below(tmp_path)
    with served(git.path) as url:
        repository = await open_repository(url, workspace=workspace)
        assert "word" not in repository.location
        assert await resolve(repository, "head", "HEAD") == first
        assert await resolve(repository, "head", "gone") == gone
    second = git.commit({"a": "2"}, parents=(first,))
    (git.path / "refs/heads/gone").unlink()
    git.tag("v9", second)
    with served(git.path) as url_again:
        # Another port is another URL: the file URL below shows the refresh of one and the same.
        assert await resolve(await open_repository(url_again, workspace=workspace), "head", "v9") == second


async def test_a_clone_follows_its_remote_also_where_branches_go(git: GitRepository, tmp_path: Path):
    first = git.commit({"a": "1"})
    git.commit({"a": "x"}, parents=(first,), branch="gone")
    workspace, url = workspace_below(tmp_path), f"file://{git.path}"
    repository = await open_repository(url, workspace=workspace)
    assert await resolve(repository, "head", "main") == first
    second = git.commit({"a": "2"}, parents=(first,))
    pull = git.commit({"a": "3"}, parents=(second,), branch=None)
    git.point("refs/pull/7/head", pull)
    (git.path / "refs/heads/gone").unlink()
    again = await open_repository(url, workspace=workspace, refs=("refs/pull/7/head",))
    assert again.path == repository.path
    assert await resolve(again, "head", "main") == second
    assert await resolve(again, "head", "refs/pull/7/head") == pull
    with pytest.raises(RefNotFound):
        await resolve(again, "head", "gone")


async def test_many_may_want_the_same_clone_at_once(git: GitRepository, tmp_path: Path):
    head = git.commit({"a": "1"})
    workspace, url = workspace_below(tmp_path), f"file://{git.path}"
    found = await asyncio.gather(*(open_repository(url, workspace=workspace) for _ in range(3)))
    assert len({repository.path for repository in found}) == 1
    assert await resolve(found[0], "head", "main") == head
    assert not list(workspace.clones.glob("*.partial"))


@pytest.mark.skipif(shutil.which("git") is None, reason="only a git program makes these kinds of repository")
async def test_worktrees_shallow_clones_and_packed_repositories_are_read_as_well(git: GitRepository, tmp_path: Path):
    first = git.commit({"a.py": "x = 1\n"})
    second = git.commit({"a.py": "x = 2\n"}, parents=(first,))
    git.tag("v1.0", first)

    def run(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True, cwd=tmp_path).stdout

    source = f"file://{git.path}"
    run("clone", "-q", source, "full")
    run("-C", "full", "gc", "-q")
    run("-C", "full", "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"), "HEAD~1")
    run("clone", "-q", "--depth", "1", source, "shallow")
    run("clone", "-q", "--shared", str(tmp_path / "full"), "borrowing")
    workspace = workspace_below(tmp_path)
    for name, head in (("full", second), ("side", first), ("shallow", second), ("borrowing", second)):
        repository = await open_repository(str(tmp_path / name), workspace=workspace)
        assert await resolve(repository, "head", "HEAD") == head, name
        tree = await check_out(repository, head, tmp_path / f"{name}-tree")
        assert run("-C", str(tree.directory), "log", "--oneline").startswith(head[:7]), name
    shallow = await open_repository(str(tmp_path / "shallow"), workspace=workspace)
    with pytest.raises(RefNotFound, match="has not so many ancestors; this clone is shallow"):
        await resolve(shallow, "base", "HEAD~1")


@pytest.mark.skipif(shutil.which("git") is None, reason="only a git program makes such a repository")
async def test_objects_named_by_another_hash_are_refused_as_such(tmp_path: Path):
    words = ["git", "init", "-q", "--object-format=sha256", str(tmp_path / "other")]
    await asyncio.to_thread(subprocess.run, words, check=True)
    with pytest.raises(RepositoryNotFound, match="its objects are named by SHA256, which is not supported"):
        await open_repository(str(tmp_path / "other"), workspace=workspace_below(tmp_path))


@pytest.mark.skipif(shutil.which("git") is None, reason="only a git program makes a shallow clone of two branches")
async def test_histories_that_a_shallow_clone_cut_apart_are_told_as_such(git: GitRepository, tmp_path: Path):
    first = git.commit({"a": "1"})
    main = git.commit({"a": "2"}, parents=(first,))
    side = git.commit({"a": "3"}, parents=(first,), branch="side")
    words = [
        "git",
        "clone",
        "-q",
        "--depth",
        "1",
        "--no-single-branch",
        f"file://{git.path}",
        str(tmp_path / "shallow"),
    ]
    await asyncio.to_thread(subprocess.run, words, check=True)
    shallow = await open_repository(str(tmp_path / "shallow"), workspace=workspace_below(tmp_path))
    with pytest.raises(UnrelatedHistories, match="share no commit in this repository: this clone is shallow"):
        await merge_base(shallow, main, side)
