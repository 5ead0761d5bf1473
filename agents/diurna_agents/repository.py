"""Reads a git repository that somebody else owns: opens it, names its commits, never writes to it."""

from __future__ import annotations

import asyncio
import os
import re
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dulwich.errors import (
    ChecksumMismatch,
    FileFormatException,
    MissingCommitError,
    NotGitRepository,
    ObjectMissing,
    WrongObjectException,
)
from dulwich.graph import find_merge_base
from dulwich.objects import Commit, ObjectID, Tag
from dulwich.refs import Ref
from dulwich.repo import Repo, UnsupportedExtension, UnsupportedVersion

from diurna_agents import clone
from diurna_agents.errors import RefNotFound, RepositoryNotFound, UnrelatedHistories
from diurna_agents.workspace import Workspace

_ABBREVIATED: Final = re.compile(r"[0-9a-f]{4,40}")
_STEP: Final = re.compile(r"(?P<kind>[~^])(?:\{(?P<peel>[a-z]*)\}|(?P<count>\d{0,6}))")
_WHERE_REFS_ARE: Final = (
    "{}",
    "refs/{}",
    "refs/tags/{}",
    "refs/heads/{}",
    "refs/remotes/{}",
    "refs/remotes/origin/{}",
    "refs/remotes/{}/HEAD",
)
"""Where a short name is looked for, in the order of git's rev-parse, and then the remote everybody has."""


_SHALLOW: Final = "this clone is shallow and does not hold the whole history: `git fetch --unshallow` completes it"


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on this disk. `location` is what it is called in answers, without credentials."""

    path: Path
    location: str


async def open_repository(location: str, *, workspace: Workspace, refs: tuple[str, ...] = ()) -> Repository:
    """The repository at a path or a URL; a URL is cloned once and refreshed every time after.

    `refs` are names that must be there, for a remote offers more than branches and tags
    (`refs/pull/7/head`). Raises `RepositoryNotFound`.
    """
    if clone.is_url(location):
        path = await clone.refreshed_clone(location, workspace=workspace, refs=refs)
        return Repository(path, clone.without_credentials(location))
    path = Path(location)
    if not path.is_absolute():
        reason = "a path must be absolute, the agent has its own working directory; a URL is user@host:path or has ://"
        raise RepositoryNotFound(location, reason)
    repository = Repository(path, location)
    await asyncio.to_thread(_probe, repository)
    return repository


async def resolve(repository: Repository, field: str, ref: str) -> str:
    """The full id of the commit that `ref` names: a branch, tag, remote branch, commit id, `HEAD~2`.

    Raises `RefNotFound` naming `field`.
    """

    def find() -> str:
        with reading(repository) as repo:
            return _Finder(repo, field, ref, repository.location).find().decode("ascii")

    return await asyncio.to_thread(find)


async def merge_base(repository: Repository, base: str, head: str) -> str:
    """The commit where `head` left `base`. Raises `UnrelatedHistories` where there is none."""

    def find() -> str:
        with reading(repository) as repo:
            found = find_merge_base(repo, [ObjectID(base.encode()), ObjectID(head.encode())])
            is_shallow = bool(repo.get_shallow())
        if not found:
            raise UnrelatedHistories(base, head, _SHALLOW if is_shallow else "")
        return found[0].decode("ascii")

    return await asyncio.to_thread(find)


@contextmanager
def reading(repository: Repository) -> Generator[Repo]:
    """The repository opened by dulwich; its errors leave here as ours. Blocking: use it in a thread."""
    try:
        with Repo(str(repository.path)) as repo:
            if repo.object_format.name != "sha1":
                name = repo.object_format.name.upper()
                raise RepositoryNotFound(
                    repository.location, f"its objects are named by {name}, which is not supported"
                )
            yield repo
    except NotGitRepository as error:
        raise RepositoryNotFound(repository.location, "it is not a git repository") from error
    except (UnsupportedVersion, UnsupportedExtension) as error:
        raise RepositoryNotFound(repository.location, f"its format is not supported: {error}") from error
    except (
        ChecksumMismatch,
        FileFormatException,
        WrongObjectException,
        MissingCommitError,
        ObjectMissing,
        zlib.error,
    ) as error:
        raise RepositoryNotFound(
            repository.location, f"it is damaged or incomplete: {type(error).__name__} {error}"
        ) from error
    except KeyError as error:
        # dulwich says with a KeyError that an object is missing: a partial clone, or damage.
        raise RepositoryNotFound(
            repository.location, f"the object {error.args[0]!r} is missing, is it a partial clone?"
        ) from error
    except PermissionError as error:
        raise RepositoryNotFound(repository.location, f"no permission to read {error.filename}") from error


def commit_of(repo: Repo, sha: str) -> Commit:
    """The commit with this full id."""
    found = repo[ObjectID(sha.encode("ascii"))]
    if not isinstance(found, Commit):
        raise KeyError(sha)
    return found


def _probe(repository: Repository) -> None:
    if not repository.path.exists():
        raise RepositoryNotFound(repository.location, "there is no such file or directory")
    if not repository.path.is_dir():
        raise RepositoryNotFound(repository.location, "it is not a directory")
    with reading(repository):
        return


class _Finder:
    """Finds the commit one name stands for; the refusal names the field it came in."""

    def __init__(self, repo: Repo, field: str, ref: str, location: str) -> None:
        self._repo = repo
        self._field = field
        self._ref = ref
        self._location = location

    def find(self) -> ObjectID:
        name, steps = _split(self._ref)
        if name is None:
            raise self._refusal("it is not a name git would understand")
        sha = self._named("HEAD" if name == "@" else name)
        for step in steps:
            sha = self._step(sha, step)
        return sha

    def _named(self, name: str) -> ObjectID:
        for pattern in _WHERE_REFS_ARE:
            full = pattern.format(name)
            if full != "HEAD" and not full.startswith("refs/"):
                continue
            target = _read_ref(self._repo, Ref(os.fsencode(full)))
            if target is not None:
                return self._peeled(target)
        if _ABBREVIATED.fullmatch(name.lower()):
            return self._by_prefix(name.lower().encode("ascii"))
        raise self._refusal("no branch, tag or commit has this name")

    def _by_prefix(self, prefix: bytes) -> ObjectID:
        commits: set[ObjectID] = set()
        for sha in self._repo.object_store.iter_prefix(prefix):
            found = self._repo[sha]
            if isinstance(found, Commit | Tag):
                commits.add(self._peeled(found.id))
        if not commits:
            raise self._refusal("no commit's id begins so")
        if len(commits) > 1:
            raise self._refusal(f"{len(commits)} commits' ids begin so, write more of it")
        return commits.pop()

    def _peeled(self, sha: ObjectID) -> ObjectID:
        found = self._repo[sha]
        while isinstance(found, Tag):
            found = self._repo[found.object[1]]
        if not isinstance(found, Commit):
            raise self._refusal(f"it names a {found.type_name.decode()}, not a commit")
        return found.id

    def _step(self, sha: ObjectID, step: re.Match[str]) -> ObjectID:
        if step["peel"] is not None:
            if step["peel"] in {"", "commit"}:
                return sha
            raise self._refusal("only commits can be named here")
        count = int(step["count"] or 1)
        try:
            if step["kind"] == "~":
                for _ in range(count):
                    sha = self._repo.get_parents(sha)[0]
                return sha
            return self._repo.get_parents(sha)[count - 1] if count else sha
        except IndexError:
            raise self._refusal(f"{sha.decode()[:12]} has not so many ancestors") from None

    def _refusal(self, detail: str) -> RefNotFound:
        if self._repo.get_shallow():
            detail = f"{detail}; {_SHALLOW}"
        return RefNotFound(self._field, self._ref, self._location, detail)


def _split(ref: str) -> tuple[str | None, list[re.Match[str]]]:
    start = min((at for at in (ref.find("~"), ref.find("^")) if at >= 0), default=len(ref))
    steps: list[re.Match[str]] = []
    position = start
    while position < len(ref):
        step = _STEP.match(ref, position)
        if step is None:
            return None, []
        steps.append(step)
        position = step.end()
    return ref[:start] or None, steps


def _read_ref(repo: Repo, name: Ref) -> ObjectID | None:
    try:
        return repo.refs[name]
    except (KeyError, ValueError, OSError):
        # Not there, not a name a ref may have, or a directory of refs.
        return None
