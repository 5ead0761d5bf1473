"""What a branch changes: the files and lines between the merge base and the head, like a pull request."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from dulwich.diff_tree import RenameDetector, TreeChange, tree_changes
from dulwich.object_store import tree_lookup_path
from dulwich.objects import Blob, TreeEntry
from dulwich.repo import Repo

from diurna_agents.changed_lines import compare
from diurna_agents.repository import Repository, commit_of, reading

Kind = Literal["added", "modified", "deleted", "renamed"]
Content = Literal["text", "binary", "symlink", "submodule", "too_large"]

FILES_MAX: Final = 3_000
"""So many files are looked into; the rest is counted."""
_FILE_BYTES_MAX: Final = 4 * 1024 * 1024
_FILE_PATCH_MAX: Final = 32 * 1024
_PATCH_MAX: Final = 256 * 1024
_BINARY_PROBE_BYTES: Final = 8_000
_RENAMES_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class FileChange:
    """One changed file. `raw_path` is what git has; `path` is the same, fit to be shown."""

    raw_path: bytes
    old_raw_path: bytes | None
    kind: Kind
    content: Content
    added_lines: tuple[int, ...]
    deleted_count: int
    patch: str
    patch_cut: bool
    approximate: bool
    executable: bool

    @property
    def path(self) -> str:
        """The path as text; bytes that are not UTF-8 are written as escapes."""
        return shown_path(self.raw_path)

    @property
    def old_path(self) -> str | None:
        """Where it was before, for a renamed file."""
        return None if self.old_raw_path is None else shown_path(self.old_raw_path)


@dataclass(frozen=True, slots=True)
class Changes:
    """All that changed from `merge_base` to `head`. `files_total` counts those left out as well."""

    merge_base: str
    head: str
    files: tuple[FileChange, ...]
    files_total: int

    @property
    def lines_added(self) -> int:
        """New lines in all files looked into."""
        return sum(len(file.added_lines) for file in self.files)

    @property
    def lines_deleted(self) -> int:
        """Lines that went, in all files looked into."""
        return sum(file.deleted_count for file in self.files)


def shown_path(raw: bytes) -> str:
    """A path of the repository as text that can go into JSON."""
    return raw.decode("utf-8", "backslashreplace")


async def changes(repository: Repository, merge_base: str, head: str) -> Changes:
    """The files and lines that turn the tree of `merge_base` into the tree of `head` (full ids)."""

    def read() -> Changes:
        with reading(repository) as repo:
            found = list(_tree_changes(repo, merge_base, head))
            files: list[FileChange] = []
            room = _PATCH_MAX
            for change in found[:FILES_MAX]:
                file = _file_change(repo, change, min(room, _FILE_PATCH_MAX))
                room -= len(file.patch)
                files.append(file)
        return Changes(merge_base, head, tuple(files), len(found))

    return await asyncio.to_thread(read)


async def contents(repository: Repository, commit: str, raw_path: bytes) -> bytes | None:
    """The file as it is in `commit`; None where there is no such file or it is too large."""

    def read() -> bytes | None:
        with reading(repository) as repo:
            try:
                tree = commit_of(repo, commit).tree
                _, sha = tree_lookup_path(repo.object_store.__getitem__, tree, raw_path)
                blob = repo[sha]
            except KeyError:
                return None
            return _data(blob) if isinstance(blob, Blob) else None

    return await asyncio.to_thread(read)


def _tree_changes(repo: Repo, merge_base: str, head: str) -> Iterator[TreeChange]:
    old, new = commit_of(repo, merge_base).tree, commit_of(repo, head).tree
    plain = list(tree_changes(repo.object_store, old, new))
    moved = sum(1 for change in plain if change.type in {"add", "delete"})
    if moved > 2 * _RENAMES_MAX or any(_is_submodule(change) for change in plain):
        # Renames are told by comparing contents pair by pair: too slow here, or not possible.
        yield from plain
        return
    detector = RenameDetector(repo.object_store, max_files=_RENAMES_MAX, rewrite_threshold=None)
    yield from tree_changes(repo.object_store, old, new, rename_detector=detector)


def _is_submodule(change: TreeChange) -> bool:
    entries = (change.old, change.new)
    return any(entry is not None and _content(entry) == "submodule" for entry in entries)


def _content(entry: TreeEntry) -> Content:
    mode = entry.mode
    if stat.S_IFMT(mode) == stat.S_IFDIR | stat.S_IFLNK:
        return "submodule"
    return "symlink" if stat.S_ISLNK(mode) else "text"


def _file_change(repo: Repo, change: TreeChange, patch_max: int) -> FileChange:
    kinds: dict[str, Kind] = {"add": "added", "delete": "deleted", "rename": "renamed", "copy": "added"}
    kind = kinds.get(change.type, "modified")
    present = change.old if kind == "deleted" or change.new is None else change.new
    assert present is not None
    content = _content(present)
    old = _blob(repo, change.old) if kind in {"modified", "renamed", "deleted"} else b""
    new = _blob(repo, change.new) if kind != "deleted" else b""
    if content == "text":
        if old is None or new is None:
            content = "too_large"
        elif _is_binary(old) or _is_binary(new):
            content = "binary"
    old_path = change.old.path if kind == "renamed" and change.old is not None else None
    executable = bool(present.mode & stat.S_IXUSR) and content == "text"
    if content != "text" or old is None or new is None:
        return FileChange(present.path, old_path, kind, content, (), 0, "", False, False, executable)
    lines = compare(old, new, patch_characters_max=max(patch_max, 0))
    return FileChange(
        raw_path=present.path,
        old_raw_path=old_path,
        kind=kind,
        content="text",
        added_lines=lines.added,
        deleted_count=lines.deleted_count,
        patch=lines.patch,
        patch_cut=lines.patch_cut,
        approximate=lines.approximate,
        executable=executable,
    )


def _blob(repo: Repo, entry: TreeEntry | None) -> bytes | None:
    if entry is None or _content(entry) == "submodule":
        return b""
    found = repo[entry.sha]
    return _data(found) if isinstance(found, Blob) else b""


def _data(blob: Blob) -> bytes | None:
    return None if blob.raw_length() > _FILE_BYTES_MAX else blob.as_raw_string()


def _is_binary(data: bytes) -> bool:
    return b"\0" in data[:_BINARY_PROBE_BYTES]
