"""Kafka's jars on this machine: what the lock names, fetched once and trusted no further than their sha256.

The cache is `jars/` under the user's cache directory. A jar with its name is whole; `verified.json` remembers size and
time of what was hashed, so that later starts need not hash 45 MB again. `damaged()` hashes all of it, for the doctor.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from diurna_deploy.stack.files import FileLock, private_directory, read_json, require_space, write_json
from diurna_deploy.stack.jar import Jar, sha256_of
from diurna_deploy.stack.lock import LOCK_FILE
from diurna_deploy.stack.progress import Silent, Teller
from diurna_schemas.errors import TimedOut, Unavailable

if TYPE_CHECKING:
    import httpx

LOCK_WAIT_SECONDS: Final = 600.0
_SPARE_BYTES: Final = 64 * 2**20


def locked_jars(lock_file: Path = LOCK_FILE) -> tuple[Jar, ...]:
    content = json.loads(lock_file.read_text(encoding="utf-8"))
    return tuple(
        Jar(path=str(jar["path"]), sha256=str(jar["sha256"]), size=int(jar["size"])) for jar in content["jars"]
    )


@dataclass(slots=True)
class JarCache:
    """The jars in a folder. Several fetchers at once are safe: one fetches, the others wait and find all there."""

    folder: Path
    jars: tuple[Jar, ...] = field(default_factory=locked_jars)
    base_url: str | None = None
    """Where a Maven repository begins; None = where jgo says the central one is."""
    teller: Teller = field(default_factory=Silent)
    transport: httpx.AsyncBaseTransport | None = None

    def class_path(self) -> tuple[Path, ...]:
        return tuple(self.folder / jar.name for jar in self.jars)

    async def ensure(self) -> tuple[Path, ...]:
        """Every jar, whole, in the lock's order. Raises `Unavailable` where one cannot be had."""
        private_directory(self.folder)
        if not self._missing():
            return self.class_path()
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while (lock := FileLock.try_take(self.folder / "fetch.lock")) is None:
            if time.monotonic() > deadline:
                raise TimedOut(f"another process fetches into {self.folder}", LOCK_WAIT_SECONDS)
            await asyncio.sleep(0.1)
        with lock:
            if missing := self._missing():
                await self._fetch(missing)
        return self.class_path()

    def damaged(self) -> list[str]:
        """The names of jars that are absent or do not have the bytes they should; reads them all."""
        return [jar.name for jar in self.jars if not self._is_whole(jar)]

    async def _fetch(self, jars: list[Jar]) -> None:
        # 150 ms of imports that only a first start needs
        from jgo.constants import MAVEN_CENTRAL_URL

        from diurna_deploy.stack.fetch import Fetcher

        total = sum(jar.size for jar in jars)
        require_space(self.folder, total + _SPARE_BYTES, "Kafka's jars")
        fetcher = Fetcher(
            self.folder,
            self.base_url or MAVEN_CENTRAL_URL,
            heard=lambda done: self.teller.download("kafka", done, total),
            transport=self.transport,
        )
        try:
            await fetcher.fetch(jars)
        finally:
            self.teller.close()
        if still := self._missing():
            raise Unavailable(f"{still[0].name} vanished from {self.folder} while it was fetched")

    def _missing(self) -> list[Jar]:
        """What must be fetched. A jar is trusted while size and time are those it had when it was hashed."""
        verified = read_json(self.folder / "verified.json") or {}
        found: dict[str, object] = {}
        missing: list[Jar] = []
        for jar in self.jars:
            mark = self._mark(jar)
            if mark is not None and (verified.get(jar.name) == mark or self._is_whole(jar)):
                found[jar.name] = mark
            else:
                missing.append(jar)
        if any(verified.get(name) != mark for name, mark in found.items()):
            write_json(self.folder / "verified.json", verified | found)
        return missing

    def _mark(self, jar: Jar) -> list[object] | None:
        try:
            details = (self.folder / jar.name).stat()
        except OSError:
            return None
        return [details.st_size, details.st_mtime_ns, jar.sha256] if details.st_size == jar.size else None

    def _is_whole(self, jar: Jar) -> bool:
        path = self.folder / jar.name
        return path.is_file() and path.stat().st_size == jar.size and sha256_of(path) == jar.sha256
