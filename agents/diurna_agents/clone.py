"""Clones of URLs: one bare copy per URL, refreshed under a lock, in a child that can be ended."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from dulwich.client import get_transport_and_path
from dulwich.config import StackedConfig
from dulwich.objects import ObjectID
from dulwich.refs import HEADREF, Ref
from dulwich.repo import Repo

from diurna_agents import child_environment, process
from diurna_agents.errors import RepositoryNotFound
from diurna_agents.workspace import Workspace, remove_tree

FETCH_SECONDS_MAX: Final = 600.0
_SCHEMES: Final = frozenset({"http", "https", "ssh", "git", "file", "git+ssh"})
_SCP_LIKE: Final = re.compile(r"^(?:[\w.+-]+@)[\w.-]+:(?!//)[^\s]+$")
_MIRRORED: Final = (b"refs/heads/", b"refs/tags/")


def is_url(location: str) -> bool:
    """Whether this is to be fetched: it has a scheme, or is git's `user@host:path`."""
    return "://" in location or _SCP_LIKE.match(location) is not None


def without_credentials(url: str) -> str:
    """The URL as it may be shown: no password, no token."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    user, _, host = parts.netloc.rpartition("@")
    keep_user = parts.scheme in {"ssh", "git+ssh"} and ":" not in user
    return urlunsplit(parts._replace(netloc=f"{user}@{host}" if keep_user else host))


async def refreshed_clone(url: str, *, workspace: Workspace, refs: tuple[str, ...] = ()) -> Path:
    """The bare clone of `url`, as new as the remote is now. Raises `RepositoryNotFound`."""
    shown_url = without_credentials(url)
    if "://" in url and urlsplit(url).scheme not in _SCHEMES:
        raise RepositoryNotFound(shown_url, f"the scheme must be one of {', '.join(sorted(_SCHEMES))}")
    name = hashlib.sha256(url.encode()).hexdigest()[:32]
    target = workspace.clones / f"{name}.git"
    workspace.clones.mkdir(parents=True, exist_ok=True)
    explicit = [ref for ref in refs if ref.startswith("refs/")]
    async with workspace.fresh("clone") as directory:
        # The URL may hold a token: it goes in by a file of ours, for command lines can be listed.
        request = directory / "url"
        request.touch(mode=0o600)
        request.write_text(url)
        finished = await process.run(
            [sys.executable, "-m", "diurna_agents.clone", request, target, *explicit],
            cwd=directory,
            environment={
                **child_environment.for_git(workspace.environment),
                "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            },
            timeout_seconds=FETCH_SECONDS_MAX,
        )
    if finished.timed_out:
        raise RepositoryNotFound(shown_url, f"fetching took more than {FETCH_SECONDS_MAX:g} s")
    if not finished.succeeded:
        reason = (finished.tail(800).splitlines() or ["no reason given"])[-1]
        raise RepositoryNotFound(shown_url, reason.replace(url, shown_url))
    return target


def refresh(url: str, target: Path, wanted: tuple[str, ...]) -> None:
    """Makes `target` a bare copy of the branches and tags at `url`; one process at a time does it.

    Objects are only ever added, so those who read an older state are not disturbed.
    """
    with _locked(target.with_suffix(".lock")):
        if not target.exists():
            partial = target.with_suffix(".partial")
            remove_tree(partial)
            partial.mkdir(parents=True)
            with Repo.init_bare(str(partial)) as repo:
                _fetch(url, repo, wanted)
            partial.rename(target)
            return
        with Repo(str(target)) as repo:
            _fetch(url, repo, wanted)


def _fetch(url: str, repo: Repo, wanted: tuple[str, ...]) -> None:
    explicit = {name.encode() for name in wanted}

    def mirrored(name: bytes) -> bool:
        return name.startswith(_MIRRORED) or name in explicit

    def wants(refs: Mapping[Ref, ObjectID | None], depth: int | None = None) -> list[ObjectID]:
        shas = {sha for name, sha in refs.items() if sha and mirrored(name) and not name.endswith(b"^{}")}
        return sorted(sha for sha in shas if sha not in repo.object_store)

    client, path = get_transport_and_path(url, config=StackedConfig.default(), include_tags=True)
    result = client.fetch(path, repo, determine_wants=wants)
    offered = {name: sha for name, sha in result.refs.items() if sha and mirrored(name) and not name.endswith(b"^{}")}
    gone: dict[Ref, ObjectID | None] = {
        name: None for name in repo.refs.allkeys() if name != HEADREF and name not in offered
    }
    repo.refs.add_packed_refs({**offered, **gone})
    head = result.symrefs.get(HEADREF)
    if head:
        repo.refs.set_symbolic_ref(HEADREF, head)
    elif sha := result.refs.get(HEADREF):
        _head_without_symref(repo, sha, offered)


def _head_without_symref(repo: Repo, sha: ObjectID, offered: Mapping[Ref, ObjectID]) -> None:
    """Old and dumb servers say only which commit HEAD is; the branch is then guessed as git does."""
    same = sorted(name for name, target in offered.items() if target == sha and name.startswith(_MIRRORED[0]))
    usual = [name for name in same if name in (b"refs/heads/main", b"refs/heads/master")]
    if same:
        repo.refs.set_symbolic_ref(HEADREF, (usual or same)[0])


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _main(arguments: list[str]) -> int:
    request, target, *wanted = arguments
    try:
        refresh(Path(request).read_text(), Path(target), tuple(wanted))
    except Exception as error:
        # The door: whatever happened becomes one line for the parent.
        text = " ".join(str(error).split()) or "no details"
        sys.stderr.write(f"{type(error).__name__}: {text}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
