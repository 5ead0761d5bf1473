"""Builds git repositories for tests, with dulwich, down to trees that no honest git would write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dulwich.objects import Blob, Commit, ObjectID, Tag, Tree
from dulwich.refs import HEADREF, Ref
from dulwich.repo import Repo

from diurna_agents.workspace import Workspace

FILE, PROGRAM, SYMLINK, SUBMODULE = 0o100644, 0o100755, 0o120000, 0o160000
Entry = bytes | str | tuple[int, bytes]


class GitRepository:
    """A bare repository whose commits are given as whole trees: path → content, or (mode, content)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self._repo = Repo.init_bare(str(path), default_branch=b"main")
        self._moment = 1_700_000_000

    def commit(
        self,
        files: Mapping[str | bytes, Entry],
        *,
        parents: tuple[str, ...] = (),
        branch: str | None = "main",
        message: str = "Change",
    ) -> str:
        self._moment += 60
        commit = Commit()
        commit.tree = self._tree({_parts(path): entry for path, entry in files.items()})
        commit.parents = [ObjectID(parent.encode()) for parent in parents]
        commit.author = commit.committer = b"Test Author <test@example.com>"
        commit.author_time = commit.commit_time = self._moment
        commit.author_timezone = commit.commit_timezone = 0
        commit.message = message.encode() + b"\n"
        self._repo.object_store.add_object(commit)
        if branch is not None:
            self.point(f"refs/heads/{branch}", commit.id.decode())
        return commit.id.decode()

    def point(self, ref: str, sha: str) -> None:
        self._repo.refs[Ref(os.fsencode(ref))] = ObjectID(sha.encode())

    def head(self, branch: str) -> None:
        self._repo.refs.set_symbolic_ref(HEADREF, Ref(b"refs/heads/" + branch.encode()))

    def tag(self, name: str, sha: str) -> str:
        tag = Tag()
        tag.name = name.encode()
        tag.object = (Commit, ObjectID(sha.encode()))
        tag.tagger, tag.tag_time, tag.tag_timezone = b"Test Author <test@example.com>", self._moment, 0
        tag.message = b"A release\n"
        self._repo.object_store.add_object(tag)
        self.point(f"refs/tags/{name}", tag.id.decode())
        return tag.id.decode()

    def snapshot(self) -> dict[str, bytes]:
        """Every file below the repository, to prove that nobody wrote to it."""
        return {str(path): path.read_bytes() for path in sorted(self.path.rglob("*")) if path.is_file()}

    def _tree(self, files: Mapping[tuple[bytes, ...], Entry]) -> ObjectID:
        tree = Tree()
        folders: dict[bytes, dict[tuple[bytes, ...], Entry]] = {}
        for path, entry in files.items():
            if len(path) > 1:
                folders.setdefault(path[0], {})[path[1:]] = entry
                continue
            mode, data = entry if isinstance(entry, tuple) else (FILE, entry)
            if mode == SUBMODULE:
                tree.add(path[0], mode, ObjectID(data))
                continue
            blob = Blob.from_string(data.encode() if isinstance(data, str) else data)
            self._repo.object_store.add_object(blob)
            tree.add(path[0], mode, blob.id)
        for name, inside in folders.items():
            tree.add(name, 0o040000, self._tree(inside))
        self._repo.object_store.add_object(tree)
        return tree.id


def workspace_below(path: Path) -> Workspace:
    """A workspace that sees the environment of the tests."""
    return Workspace(path / "workspace", environment=os.environ)


def _parts(path: str | bytes) -> tuple[bytes, ...]:
    raw = path.encode() if isinstance(path, str) else path
    return tuple(raw.split(b"/"))
