"""Writes a commit's tree into a fresh directory that is a git repository of its own.

The objects stay where they are and are named as an alternate, so the source is never written to;
tags come along, for versions are derived from them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dulwich.index import Index, IndexEntry, index_entry_from_stat
from dulwich.objects import Blob, ObjectID, Tag, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo

from diurna_agents.changes import shown_path
from diurna_agents.errors import UnsafeTree
from diurna_agents.repository import Repository, commit_of, reading

_FILES_MAX: Final = 200_000
_BYTES_MAX: Final = 4 * 1024**3
_GITLINK: Final = stat.S_IFDIR | stat.S_IFLNK
_DESCRIBE_COMMITS_MAX: Final = 50_000
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/v1\n"


@dataclass(frozen=True, slots=True)
class Checkout:
    """A tree on disk. What could not be there as it is in git is named, never silently left out."""

    directory: Path
    commit: str
    file_count: int
    refused_symlinks: tuple[str, ...]
    submodules: tuple[str, ...]
    lfs_pointers: tuple[str, ...]
    missing: tuple[str, ...]
    version_from_tags: str | None
    """What a version derived from the tags would be, for builds on a machine without a git program."""

    def notes(self) -> list[str]:
        """What a reader of results should know about this tree."""
        named = (
            ("symlinks that lead out of the tree were not created", self.refused_symlinks),
            ("submodules were left empty", self.submodules),
            ("files kept in Git LFS are pointers here", self.lfs_pointers),
            ("files whose contents this repository does not hold were left out", self.missing),
        )
        return [f"{text}: {', '.join(paths[:5])}" for text, paths in named if paths]


async def check_out(repository: Repository, commit: str, directory: Path, *, without_missing: bool = False) -> Checkout:
    """Writes the tree of `commit` (a full id) into `directory`, which must not exist or be empty.

    A partial clone does not hold every file: that is refused, for such a tree cannot be tested, unless
    `without_missing` says that what is there will do.
    Raises `UnsafeTree` where a path would leave the directory or the amount is out of bounds.
    """
    return await asyncio.to_thread(_check_out, repository, commit, directory, without_missing)


def git_is_installed(path: str | None) -> bool:
    """Whether a git program is on this PATH."""
    return shutil.which("git", path=path) is not None


def _check_out(repository: Repository, commit: str, directory: Path, without_missing: bool) -> Checkout:
    directory.mkdir(parents=True, exist_ok=True)
    with reading(repository) as repo:
        writer = _Writer(directory)
        for path, mode, sha in _entries(repo, commit_of(repo, commit).tree):
            if without_missing and stat.S_IFMT(mode) != _GITLINK and sha not in repo.object_store:
                writer.missing.append(shown_path(path))
                continue
            try:
                writer.write(repo, path, mode, sha)
            except OSError as error:
                raise UnsafeTree(f"head: {shown_path(path)!r} cannot be written: {error.strerror}") from error
        writer.link()
        _make_git_directory(repo, commit, directory, writer.index)
        version = _version_from_tags(repo, commit)
    return Checkout(
        directory=directory,
        commit=commit,
        file_count=writer.file_count,
        refused_symlinks=tuple(writer.refused),
        submodules=tuple(writer.submodules),
        lfs_pointers=tuple(writer.lfs_pointers),
        missing=tuple(writer.missing),
        version_from_tags=version,
    )


def _entries(repo: Repo, root: ObjectID) -> Iterator[tuple[bytes, int, ObjectID]]:
    waiting: list[tuple[bytes, ObjectID]] = [(b"", root)]
    while waiting:
        prefix, sha = waiting.pop()
        tree = repo[sha]
        if not isinstance(tree, Tree):
            raise UnsafeTree(f"head: {shown_path(prefix)} should be a directory in this tree and is not")
        for entry in tree.iteritems():
            _check_name(entry.path, prefix)
            path = prefix + b"/" + entry.path if prefix else entry.path
            if stat.S_IFMT(entry.mode) == stat.S_IFDIR:
                waiting.append((path, entry.sha))
            else:
                yield path, entry.mode, entry.sha


def _check_name(name: bytes, prefix: bytes) -> None:
    # Also as file systems that fold case, or ignore what follows, would read it.
    folded = name.lower().rstrip(b". ")
    if folded in {b"", b".git", b"git~1"} or b"/" in name or b"\0" in name:
        raise UnsafeTree(f"head: the tree has a file named {name!r} in {shown_path(prefix)!r}, which is not safe")


class _Writer:
    """Writes files first and symlinks last, so that nothing is ever written through a link."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._links: list[tuple[bytes, bytes, ObjectID]] = []
        self._bytes = 0
        self.file_count = 0
        self.index: dict[bytes, IndexEntry] = {}
        self.refused: list[str] = []
        self.submodules: list[str] = []
        self.lfs_pointers: list[str] = []
        self.missing: list[str] = []

    def write(self, repo: Repo, path: bytes, mode: int, sha: ObjectID) -> None:
        self.file_count += 1
        if self.file_count > _FILES_MAX:
            raise UnsafeTree(f"head: the tree has more than {_FILES_MAX} files")
        target = self._target(path)
        if stat.S_IFMT(mode) == _GITLINK:
            target.mkdir(parents=True, exist_ok=True)
            self.submodules.append(shown_path(path))
            self.index[path] = index_entry_from_stat(target.lstat(), sha, mode=mode)
            return
        blob = repo[sha]
        data = blob.as_raw_string() if isinstance(blob, Blob) else b""
        self._bytes += len(data)
        if self._bytes > _BYTES_MAX:
            raise UnsafeTree(f"head: the tree holds more than {_BYTES_MAX} bytes")
        target.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISLNK(mode):
            self._links.append((path, data, sha))
            return
        _write_file(target, path, data, mode)
        self.index[path] = index_entry_from_stat(target.lstat(), sha)
        if data.startswith(_LFS_POINTER):
            self.lfs_pointers.append(shown_path(path))

    def link(self) -> None:
        created: list[bytes] = []
        for path, data, sha in self._links:
            target = self._target(path)
            try:
                target.symlink_to(os.fsdecode(data))
            except (OSError, ValueError):
                self.refused.append(shown_path(path))
                continue
            created.append(path)
            self.index[path] = index_entry_from_stat(target.lstat(), sha)
        root = os.path.realpath(self._root)
        # Judged when all are there, for a link may lead out by way of another one.
        for path in created:
            real = os.path.realpath(self._target(path))
            if real != root and not real.startswith(root + "/"):
                self._target(path).unlink()
                del self.index[path]
                self.refused.append(shown_path(path))

    def _target(self, path: bytes) -> Path:
        return self._root / os.fsdecode(path)


def _write_file(target: Path, path: bytes, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(target, flags, 0o755 if mode & stat.S_IXUSR else 0o644)
    except FileExistsError as error:
        raise UnsafeTree(
            f"head: {shown_path(path)!r} is in the tree twice, or differs from another only in case"
        ) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _make_git_directory(repo: Repo, commit: str, directory: Path, index: dict[bytes, IndexEntry]) -> None:
    git = directory / ".git"
    (git / "objects" / "info").mkdir(parents=True)
    (git / "objects" / "pack").mkdir()
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "refs" / "tags").mkdir()
    objects = Path(os.fsdecode(repo.object_store.path)).resolve()
    (git / "objects" / "info" / "alternates").write_bytes(os.fsencode(objects) + b"\n")
    (git / "HEAD").write_text(commit + "\n")
    (git / "config").write_text(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tautocrlf = false\n"
    )
    (git / "packed-refs").write_bytes(b"".join(_packed_tags(repo)))
    shallow = repo.get_shallow()
    if shallow:
        (git / "shallow").write_bytes(b"".join(sha + b"\n" for sha in sorted(shallow)))
    staged = Index(str(git / "index"), read=False)
    for path, entry in index.items():
        staged[path] = entry
    staged.write()


def _packed_tags(repo: Repo) -> Iterator[bytes]:
    yield b"# pack-refs with: peeled fully-peeled sorted \n"
    for name, target in sorted(_tags(repo).items()):
        yield target + b" " + name + b"\n"
        peeled = _peeled(repo, target)
        if peeled is not None and peeled != target:
            yield b"^" + peeled + b"\n"


def _tags(repo: Repo) -> dict[Ref, ObjectID]:
    return {Ref(b"refs/tags/" + name): target for name, target in repo.refs.as_dict(Ref(b"refs/tags")).items()}


def _peeled(repo: Repo, target: ObjectID) -> ObjectID | None:
    try:
        found = repo[target]
        while isinstance(found, Tag):
            found = repo[found.object[1]]
    except KeyError:
        # A tag whose object a shallow or partial clone does not have.
        return None
    return found.id


def _version_from_tags(repo: Repo, commit: str) -> str | None:
    """The nearest tag that reads as a version: itself where it is here, else the next development one."""
    by_commit: dict[ObjectID, str] = {}
    for name, target in _tags(repo).items():
        version = _as_version(name.rpartition(b"/")[2].decode("utf-8", "replace"))
        peeled = _peeled(repo, target)
        if version is not None and peeled is not None:
            by_commit[peeled] = max(version, by_commit.get(peeled, version), key=_version_key)
    if not by_commit:
        return None
    waiting, seen, distance = [ObjectID(commit.encode())], set[ObjectID](), 0
    while waiting and distance < _DESCRIBE_COMMITS_MAX:
        following: list[ObjectID] = []
        for sha in waiting:
            if sha in by_commit:
                return by_commit[sha] if distance == 0 else _next(by_commit[sha], distance, commit)
            if sha not in seen:
                seen.add(sha)
                following.extend(parent for parent in repo.get_parents(sha) if parent in repo.object_store)
        waiting = list(dict.fromkeys(following))
        distance += 1
    return None


def _as_version(tag: str) -> str | None:
    text = tag[1:] if tag[:1] in {"v", "V"} else tag
    parts = text.split(".")
    return text if len(parts) > 1 and all(part.isascii() and part.isdigit() for part in parts) else None


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _next(version: str, distance: int, commit: str) -> str:
    parts = [int(part) for part in version.split(".")]
    parts[-1] += 1
    return f"{'.'.join(map(str, parts))}.dev{distance}+g{commit[:9]}"
