"""Fetches Kafka's jars once: in parallel, resumed where it broke off, and no byte used that the lock does not name.

The cache is `jars/` under the user's cache directory. A jar is written to `NAME.part`, held to its sha256 and only
then given its name, so a jar with a name is whole. `verified.json` remembers size and time of what was hashed, so that
later starts need not hash 45 MB again; `damaged()` hashes all of it, for the doctor.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

import httpx
from jgo.constants import MAVEN_CENTRAL_URL
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from diurna_deploy.stack.files import FileLock, private_directory, read_json, require_space, write_json
from diurna_deploy.stack.lock import LOCK_FILE
from diurna_deploy.stack.progress import Silent, Teller
from diurna_schemas.errors import TimedOut, Unavailable

PARALLEL_MAX: Final = 8
ATTEMPTS_MAX: Final = 4
LOCK_WAIT_SECONDS: Final = 600.0
_CHUNK_BYTES: Final = 256 * 1024
_SPARE_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Jar:
    """One jar of the lock. `path` is its place in a Maven repository."""

    path: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class Damaged(Exception):
    """Bytes that are not those the lock names; asking again may help."""


def locked_jars(lock_file: Path = LOCK_FILE) -> tuple[Jar, ...]:
    content = json.loads(lock_file.read_text(encoding="utf-8"))
    return tuple(
        Jar(path=str(jar["path"]), sha256=str(jar["sha256"]), size=int(jar["size"])) for jar in content["jars"]
    )


@dataclass(slots=True)
class JarCache:
    """The jars on this machine. Several fetchers at once are safe: one fetches, the others wait and find all there."""

    folder: Path
    jars: tuple[Jar, ...] = field(default_factory=locked_jars)
    base_url: str = MAVEN_CENTRAL_URL
    teller: Teller = field(default_factory=Silent)
    transport: httpx.AsyncBaseTransport | None = None
    """Where the bytes come from instead of the network."""

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
        return path.is_file() and path.stat().st_size == jar.size and _sha256(path) == jar.sha256

    async def _fetch(self, jars: Sequence[Jar]) -> None:
        total = sum(jar.size for jar in jars)
        require_space(self.folder, total + _SPARE_BYTES, "Kafka's jars")
        done = dict.fromkeys(jars, 0)

        def heard(jar: Jar, size: int) -> None:
            done[jar] = size
            self.teller.download("kafka", sum(done.values()), total)

        # the system's own trust, not certifi's: behind a company's proxy only that one knows the proxy
        context = ssl.create_default_context()
        limits = httpx.Limits(max_connections=PARALLEL_MAX)
        room = asyncio.Semaphore(PARALLEL_MAX)
        async with httpx.AsyncClient(
            verify=context, limits=limits, timeout=30.0, follow_redirects=True, transport=self.transport
        ) as client:

            async def one(jar: Jar) -> None:
                async with room:
                    await self._fetch_one(client, jar, lambda size: heard(jar, size))

            tasks = [asyncio.create_task(one(jar)) for jar in jars]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self.teller.close()
        if still := self._missing():
            raise Unavailable(f"{still[0].name} vanished from {self.folder} while it was fetched")

    async def _fetch_one(self, client: httpx.AsyncClient, jar: Jar, heard: Callable[[int], None]) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((httpx.TransportError, Damaged)),
            stop=stop_after_attempt(ATTEMPTS_MAX),
            wait=wait_exponential_jitter(multiplier=0.2, max=3.0),
            reraise=True,
        )
        try:
            await retrying(self._attempt, client, jar, heard)
        except Damaged as error:
            raise Unavailable(f"{jar.name} cannot be trusted: {error} ({self.base_url})") from error
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{jar.name} cannot be fetched from {self.base_url}: {error or type(error).__name__}: is the network "
                "there? Behind a proxy set HTTPS_PROXY, and SSL_CERT_FILE to its certificate"
            ) from error
        except OSError as error:
            raise Unavailable(f"{jar.name} cannot be written to {self.folder}: {error.strerror}") from error

    async def _attempt(self, client: httpx.AsyncClient, jar: Jar, heard: Callable[[int], None]) -> None:
        part = self.folder / f"{jar.name}.part"
        begun = part.stat().st_size if part.exists() else 0
        if begun >= jar.size:  # whole or too long: nothing to resume, the hash below decides
            begun = 0
        headers = {"Range": f"bytes={begun}-"} if begun else {}
        async with client.stream("GET", f"{self.base_url}/{jar.path}", headers=headers) as answer:
            if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise httpx.RemoteProtocolError(f"answered {answer.status_code}")
            answer.raise_for_status()
            resumed = begun > 0 and answer.status_code == HTTPStatus.PARTIAL_CONTENT
            with part.open("ab" if resumed else "wb") as file:
                size = begun if resumed else 0
                async for chunk in answer.aiter_bytes(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > jar.size:
                        break
                    file.write(chunk)
                    heard(size)
                file.flush()
                os.fsync(file.fileno())
        if size < jar.size:
            raise httpx.ReadError(f"broke off after {size} of {jar.size} bytes")
        if size > jar.size or _sha256(part) != jar.sha256:
            part.unlink(missing_ok=True)
            raise Damaged(f"its bytes are not those with sha256 {jar.sha256[:12]}…")
        part.replace(self.folder / jar.name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
