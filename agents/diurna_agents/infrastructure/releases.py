"""The releases below one directory, and the link that says which one is current.

    DEPLOY_TO/releases/20261123T221500Z-1a2b3c4/    one release, never changed once it is whole
    DEPLOY_TO/releases/…/release.json               what it is, and how far it came
    DEPLOY_TO/current -> releases/…                 switched by one rename, so it is never half

A killed deployment leaves `current` as it was; what it left behind is taken away by the next one.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from diurna_agents.errors import DeploymentBusy
from diurna_agents.workspace import remove_tree
from diurna_schemas.errors import InvalidInput

State = Literal["building", "installed", "switched", "deployed", "failed"]
_RECORD: Final = "release.json"
_POLL_SECONDS: Final = 0.1
_FAILED_KEPT: Final = 1
_NAME: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{7}(?:-\d+)?")
"""The names `new_name` gives: what is called otherwise was put there by somebody else."""


class Release(BaseModel):
    """What `release.json` holds. `state` is deployed once the health was seen through `current`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    head: str
    repository: str
    service: str | None
    kind: Literal["wheel", "tree"]
    distribution: str | None = None
    version: str | None = None
    python: str | None = None
    modules: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    health: dict[str, object] = {}
    state: State
    previous: str | None = None
    created_at: str
    detail: str | None = None

    def at(self, state: State, *, detail: str | None = None, **more: object) -> Release:
        """The same release, one step further."""
        return self.model_copy(update={"state": state, "detail": detail, **more})


class Releases:
    """The directory `deploy_to`, as one deployment at a time may change it."""

    def __init__(self, deploy_to: Path) -> None:
        self.deploy_to = deploy_to
        self.folder = deploy_to / "releases"
        self.link = deploy_to / "current"

    def prepare(self) -> None:
        """Makes the directories. Raises `InvalidInput` where something else is in their place.

        A `current` that somebody else made to lead elsewhere is let be: it could not be switched back to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput("deploy_to", str(self.deploy_to), f"cannot be used: {error.strerror}") from error
        if self.link.exists() and not self.link.is_symlink():
            raise InvalidInput(
                "deploy_to", str(self.deploy_to), "its 'current' is not a link, so nothing can be switched there"
            )
        if self.link.is_symlink() and not self._leads_to_a_release(self.link.readlink()):
            raise InvalidInput(
                "deploy_to",
                str(self.deploy_to),
                f"its 'current' leads to {self.link.readlink()}, which is none of its releases",
            )

    def _leads_to_a_release(self, target: Path) -> bool:
        place = Path(os.path.normpath(self.deploy_to / target))
        return os.path.realpath(place.parent) == os.path.realpath(self.folder)

    @asynccontextmanager
    async def locked(self, holder: str, *, wait_seconds: float) -> AsyncGenerator[None]:
        """Holds the directory alone. Raises `DeploymentBusy` after `wait_seconds`.

        The lock is the operating system's: it ends with its process, whatever way that goes.
        """
        await asyncio.to_thread(self.prepare)
        with (self.deploy_to / ".lock").open("a+", encoding="utf-8") as file:
            await self._take(file, wait_seconds)
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} for {holder}")
            file.flush()
            try:
                yield
            finally:
                file.seek(0)
                file.truncate()

    async def _take(self, file: IO[str], wait_seconds: float) -> None:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    holder = file.read(200) or "another deployment"
                    raise DeploymentBusy(str(self.deploy_to), holder, wait_seconds) from None
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return

    def path(self, name: str) -> Path:
        """Where a release of this name lies."""
        return self.folder / name

    def current(self) -> str | None:
        """The name of the release that is current; None where there is none, or it is gone."""
        try:
            target = self.link.readlink()
        except OSError:
            return None
        return target.name if self.path(target.name).is_dir() else None

    def read(self, name: str) -> Release | None:
        """The record of a release; None where there is no readable one."""
        try:
            return Release.model_validate_json((self.path(name) / _RECORD).read_bytes())
        except (OSError, ValidationError):
            return None

    def write(self, release: Release) -> Release:
        """Writes the record, whole or not at all."""
        path = self.path(release.name) / _RECORD
        partial = path.with_suffix(f".{secrets.token_hex(4)}")
        partial.write_text(json.dumps(release.model_dump(mode="json"), indent=2, sort_keys=True) + "\n", "utf-8")
        partial.replace(path)
        return release

    def new_name(self, head: str, moment: datetime) -> str:
        """A name that sorts by time and is not taken."""
        stem = f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{head[:7]}"
        name, count = stem, 1
        while self.path(name).exists():
            count += 1
            name = f"{stem}-{count}"
        return name

    def switch(self, name: str | None) -> None:
        """Makes `name` current by one rename; with None, nothing is current any more."""
        if name is None:
            self.link.unlink(missing_ok=True)
        else:
            partial = self.deploy_to / f".current-{secrets.token_hex(4)}"
            partial.symlink_to(Path("releases") / name)
            partial.replace(self.link)
        descriptor = os.open(self.deploy_to, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def to_go_back_to(self) -> str | None:
        """The release to return to should the next one fail: the current one, if its health was seen."""
        current = self.current()
        record = self.read(current) if current else None
        if record is None or record.state == "deployed":
            return current
        # The deployment of the current one was killed before its health was seen.
        return self.newest_deployed(but=current) or current

    def newest_deployed(self, *, but: str | None) -> str | None:
        """The newest release whose health was seen, `but` that one."""
        names = [name for name, record in self._records() if record.state == "deployed" and name != but]
        return names[-1] if names else None

    def clean(self) -> list[str]:
        """Takes away what killed deployments left, and nothing of anybody else's; names it. Only with the lock held."""
        current = self.current()
        left = [path for path in self.deploy_to.glob(".current-*") if path.is_symlink()]
        for path in left:
            path.unlink(missing_ok=True)
        gone: list[str] = []
        for path in sorted(self.folder.iterdir()):
            record = self.read(path.name)
            is_left = _NAME.fullmatch(path.name) if record is None else record.state in {"building", "installed"}
            if path.name != current and is_left:
                remove_tree(path)
                gone.append(path.name)
        return gone

    def prune(self, keep: int, *, needed: set[str | None]) -> list[str]:
        """Keeps the newest `keep` deployed releases, the needed ones, and the last failed one to look at."""
        records = self._records()
        good = [name for name, record in records if record.state in {"deployed", "switched"}]
        failed = [name for name, record in records if record.state == "failed"]
        kept = {*good[-keep:], *failed[-_FAILED_KEPT:], *needed, self.current()}
        gone = [name for name, _ in records if name not in kept]
        for name in gone:
            with suppress(OSError):
                remove_tree(self.path(name))
        return gone

    def _records(self) -> list[tuple[str, Release]]:
        found = [(path.name, self.read(path.name)) for path in self.folder.iterdir() if path.is_dir()]
        known = [(name, record) for name, record in found if record is not None]
        return sorted(known, key=lambda item: (item[1].created_at, item[0]))
