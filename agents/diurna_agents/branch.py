"""Writes a branch of its own into a repository: one commit on top of a known one, and nothing that was there moves.

A repository given by its path gets the objects and the branch; one given by its URL gets them by a push. A branch that
exists is never moved: where it already holds exactly this change, it is the answer, for a request may be worked on
twice.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from dulwich.object_store import commit_tree_changes
from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.refs import Ref, check_ref_format
from dulwich.repo import Repo

from diurna_agents import push
from diurna_agents.changes import Changes, changes
from diurna_agents.clone import is_url
from diurna_agents.errors import BranchTaken, RepositoryNotFound
from diurna_agents.repository import Repository, commit_of, reading
from diurna_agents.workspace import Workspace
from diurna_schemas.errors import InvalidInput, Refused

EDITS_MAX: Final = 5_000
EDIT_BYTES_MAX: Final = 64 * 1024 * 1024
_FILES_NAMED_MAX: Final = 200
_NEW_FILE: Final = 0o100644
_NOT_SAFE: Final = frozenset({"", ".", "..", ".git", "git~1"})


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a change is written down. `existed` says that the branch held exactly this change before."""

    name: str
    commit: str
    base: str
    existed: bool
    changed: Changes

    def as_json(self) -> dict[str, object]:
        """The branch as an answer holds it, with the size of the change by file."""
        return {"branch": self.name, "commit": self.commit, "base": self.base, "diff": diff_stat(self.changed)}


@dataclass(frozen=True, slots=True)
class Change:
    """What to write: the new contents of files by their paths, why, and in whose name.

    `operation` names the branch where nobody else does: with the base and the content, so that the same change gets
    the same name.
    """

    operation: str
    base: str
    edits: Mapping[str, bytes]
    message: str
    author: str


def diff_stat(changed: Changes) -> dict[str, object]:
    """How much changed, and in which files."""
    return {
        "files": changed.files_total,
        "lines_added": changed.lines_added,
        "lines_deleted": changed.lines_deleted,
        "by_file": [
            {
                "path": file.path,
                "kind": file.kind,
                "lines_added": len(file.added_lines),
                "lines_deleted": file.deleted_count,
            }
            for file in changed.files[:_FILES_NAMED_MAX]
        ],
    }


def checked_branch(name: str) -> str:
    """`name` where a branch may have it. Raises `InvalidInput`."""
    if not check_ref_format(Ref(b"refs/heads/" + os.fsencode(name))) or name == "HEAD":
        raise InvalidInput("branch", name, "it is not a name git allows for a branch")
    return name


def checked_path(path: str, field: str = "path") -> str:
    """`path` where a file of a tree may have it: relative, inside, none of git's own. Raises `InvalidInput`."""
    parts = path.split("/")
    if (
        PurePosixPath(path).is_absolute()
        or "\0" in path
        or any(part.lower().rstrip(". ") in _NOT_SAFE for part in parts)
    ):
        raise InvalidInput(field, path, "a path inside the repository is needed, such as src/app.py")
    return path


async def write_branch(
    repository: Repository, location: str, name: str | None, change: Change, *, workspace: Workspace
) -> Branch:
    """Writes the change as branch `name`. `location` is the repository as it was asked for, credentials and all.

    Raises `BranchTaken` where the branch holds something else, `Refused` where the repository cannot be written to.
    """
    if name is not None:
        checked_branch(name)

    def write() -> tuple[str, str]:
        try:
            with reading(repository) as repo:
                commit = _commit(repo, change)
                tree = commit_of(repo, commit.decode("ascii")).tree
                return commit.decode("ascii"), tree.decode("ascii")
        except OSError as error:
            raise Refused(
                f"repo: {repository.location} cannot be written to: {error.strerror}", code="read_only"
            ) from error

    commit, tree = await asyncio.to_thread(write)
    name = name or f"diurna/{change.operation}-{change.base[:7]}-{tree[:7]}"
    if is_url(location):
        standing = await push.pushed(location, repository.path, name, commit, workspace=workspace)
    else:
        standing = await asyncio.to_thread(_point, repository, name, commit)
    if standing == commit:
        return Branch(name, commit, change.base, False, await changes(repository, change.base, commit))
    if not await asyncio.to_thread(_is_same, repository, standing, commit):
        raise BranchTaken(name, repository.location, standing)
    return Branch(name, standing, change.base, True, await changes(repository, change.base, standing))


def _tree(repo: Repo, change: Change) -> ObjectID:
    if len(change.edits) > EDITS_MAX:
        raise Refused(f"{len(change.edits)} files are more than the {EDITS_MAX} one change may touch", code="too_large")
    if (size := sum(map(len, change.edits.values()))) > EDIT_BYTES_MAX:
        raise Refused(f"{size} bytes are more than the {EDIT_BYTES_MAX} one change may hold", code="too_large")
    store = repo.object_store
    root = commit_of(repo, change.base).tree
    listed: list[tuple[bytes, int | None, ObjectID | None]] = []
    for path, data in sorted(change.edits.items()):
        raw = os.fsencode(checked_path(path))
        mode = _mode(repo, root, raw.split(b"/"))
        blob = Blob.from_string(data)
        store.add_object(blob)
        listed.append((raw, mode, blob.id))
    tree = repo[root]
    assert isinstance(tree, Tree)
    return commit_tree_changes(store, tree, listed)


def _mode(repo: Repo, root: ObjectID, parts: list[bytes]) -> int:
    """The mode of the file that is there, else a plain file's. Raises `InvalidInput` where no file can be there."""
    sha = root
    for depth, part in enumerate(parts):
        tree = repo[sha]
        assert isinstance(tree, Tree)
        if part not in tree:
            return _NEW_FILE
        mode, sha = tree[part]
        is_last = depth == len(parts) - 1
        if is_last and stat.S_ISREG(mode):
            return mode
        if is_last or stat.S_IFMT(mode) != stat.S_IFDIR:
            shown = os.fsdecode(b"/".join(parts))
            raise InvalidInput("path", shown, "a directory, link or submodule is in the place of this file")
    return _NEW_FILE


def _commit(repo: Repo, change: Change) -> ObjectID:
    commit = Commit()
    commit.tree = _tree(repo, change)
    commit.parents = [ObjectID(change.base.encode("ascii"))]
    commit.author = commit.committer = f"Diurna {change.author} <{change.author}@diurna.invalid>".encode()
    commit.author_time = commit.commit_time = int(time.time())
    commit.author_timezone = commit.commit_timezone = 0
    commit.encoding = b"UTF-8"
    commit.message = change.message.encode() + b"\n"
    repo.object_store.add_object(commit)
    return commit.id


def _point(repository: Repository, name: str, commit: str) -> str:
    """Makes the branch where there is none; returns what it points at then."""
    ref = Ref(b"refs/heads/" + os.fsencode(name))
    with reading(repository) as repo:
        try:
            if repo.refs.add_if_new(ref, ObjectID(commit.encode("ascii")), message=b"branch: made by Diurna"):
                return commit
            return repo.refs[ref].decode("ascii")
        except KeyError as error:
            raise RepositoryNotFound(repository.location, f"its branch {name} cannot be read") from error
        except OSError as error:
            # A branch `a` is in the way of a branch `a/b`, or the directory may not be written to.
            reason = f"branch: {name} cannot be made in {repository.location}: {error.strerror}"
            raise Refused(reason, code="read_only") from error


def _is_same(repository: Repository, standing: str, commit: str) -> bool:
    """Whether what stands there is the same change, made at another moment."""
    with reading(repository) as repo:
        if ObjectID(standing.encode("ascii")) not in repo.object_store:
            return False
        one, other = commit_of(repo, standing), commit_of(repo, commit)
        return one.tree == other.tree and one.parents == other.parents
