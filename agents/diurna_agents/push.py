"""Pushes one new branch to the URL a repository was cloned from, in a child that can be ended."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from dulwich.client import get_transport_and_path
from dulwich.config import StackedConfig
from dulwich.objects import ObjectID
from dulwich.pack import UnpackedObject
from dulwich.refs import Ref
from dulwich.repo import Repo

from diurna_agents import child_environment, process
from diurna_agents.clone import without_credentials
from diurna_agents.workspace import Workspace
from diurna_schemas.errors import Refused

PUSH_SECONDS_MAX: Final = 300.0


async def pushed(url: str, path: Path, branch: str, commit: str, *, workspace: Workspace) -> str:
    """Makes the branch at `url` where there is none; returns the commit it points at then.

    Raises `Refused` where the remote says no or does not answer: a branch of one commit is there whole or not at all.
    """
    async with workspace.fresh("push") as directory:
        # The URL may hold a token: it goes in by a file of ours, for command lines can be listed.
        request = directory / "request.json"
        request.touch(mode=0o600)
        request.write_text(json.dumps({"url": url, "path": str(path), "branch": branch, "commit": commit}))
        finished = await process.run(
            [sys.executable, "-m", "diurna_agents.push", request],
            cwd=directory,
            environment={
                **child_environment.for_git(workspace.environment),
                "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            },
            timeout_seconds=PUSH_SECONDS_MAX,
        )
    shown_url = without_credentials(url)
    if finished.timed_out:
        raise Refused(f"repo: {shown_url} did not take the branch within {PUSH_SECONDS_MAX:g} s", code="push_refused")
    lines = finished.tail(800).splitlines() or ["no reason given"]
    if not finished.succeeded:
        reason = lines[-1].replace(url, shown_url)
        raise Refused(f"repo: {shown_url} did not take the branch {branch}: {reason}", code="push_refused")
    return lines[-1].strip()


def push(url: str, path: Path, branch: str, commit: str) -> str:
    """Sends the commit and makes the branch, unless there is one; returns what the branch points at."""
    ref, sha = Ref(b"refs/heads/" + os.fsencode(branch)), ObjectID(commit.encode("ascii"))
    standing: list[ObjectID] = []

    def update(refs: Mapping[Ref, ObjectID]) -> dict[Ref, ObjectID]:
        if (there := refs.get(ref)) is not None:
            standing.append(there)
            return {}
        return {ref: sha}

    def pack(
        have: AbstractSet[ObjectID],
        want: AbstractSet[ObjectID],
        *,
        ofs_delta: bool = False,
        progress: Callable[[bytes], None] | None = None,
    ) -> tuple[int, Iterator[UnpackedObject]]:
        return repo.generate_pack_data(set(have), set(want), ofs_delta=ofs_delta)

    with Repo(str(path)) as repo:
        client, remote_path = get_transport_and_path(url, config=StackedConfig.default())
        result = client.send_pack(remote_path.encode(), update, pack)
        if standing and standing[0] not in repo.object_store:
            # Somebody else's commit: fetched, so that it can be compared with ours.
            client.fetch(remote_path, repo, determine_wants=lambda refs, depth=None: [standing[0]])
    if standing:
        return standing[0].decode("ascii")
    refusal = (result.ref_status or {}).get(ref)
    if refusal:
        raise Refused(str(refusal), code="push_refused")
    return commit


def _main(arguments: list[str]) -> int:
    try:
        request = json.loads(Path(arguments[0]).read_text())
        sys.stdout.write(push(request["url"], Path(request["path"]), request["branch"], request["commit"]) + "\n")
    except Exception as error:
        # The door: whatever happened becomes one line for the parent.
        text = " ".join(str(error).split()) or "no details"
        sys.stderr.write(f"{type(error).__name__}: {text}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
