"""Brings jars over the network: in parallel, resumed where it broke off, named only once their sha256 is right."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from diurna_deploy.stack.jar import Jar, sha256_of
from diurna_schemas.errors import Unavailable

PARALLEL_MAX: Final = 8
ATTEMPTS_MAX: Final = 4
_SILENCE_SECONDS_MAX: Final = 30.0


class Damaged(Exception):
    """Bytes that are not those the lock names; asking again may help."""


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches into a folder that nobody else writes to at the time."""

    folder: Path
    base_url: str
    heard: Callable[[int], None]
    """Told how many bytes of all jars are here."""
    transport: httpx.AsyncBaseTransport | None = None
    """Where the bytes come from instead of the network."""

    async def fetch(self, jars: Sequence[Jar]) -> None:
        """Every jar, or `Unavailable` with the reason and what to do. What came of the others is kept."""
        done = dict.fromkeys(jars, 0)

        def heard(jar: Jar, size: int) -> None:
            done[jar] = size
            self.heard(sum(done.values()))

        # the system's own trust, not certifi's: behind a company's proxy only that one knows the proxy
        context = ssl.create_default_context()
        limits = httpx.Limits(max_connections=PARALLEL_MAX)
        room = asyncio.Semaphore(PARALLEL_MAX)
        async with httpx.AsyncClient(
            verify=context,
            limits=limits,
            timeout=_SILENCE_SECONDS_MAX,
            follow_redirects=True,
            transport=self.transport,
        ) as client:

            async def one(jar: Jar) -> None:
                async with room:
                    await self._one(client, jar, lambda size: heard(jar, size))

            tasks = [asyncio.create_task(one(jar)) for jar in jars]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, client: httpx.AsyncClient, jar: Jar, heard: Callable[[int], None]) -> None:
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
                f"{jar.name} cannot be fetched from {self.base_url}: {str(error) or type(error).__name__}: is the "
                "network there? Behind a proxy set HTTPS_PROXY, and SSL_CERT_FILE to its certificate"
            ) from error
        except OSError as error:
            raise Unavailable(f"{jar.name} cannot be written to {self.folder}: {error.strerror}") from error

    async def _attempt(self, client: httpx.AsyncClient, jar: Jar, heard: Callable[[int], None]) -> None:
        part = self.folder / f"{jar.name}.part"
        begun = _size(part)
        if begun >= jar.size:  # a whole one would have its name: these are other bytes
            begun = 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
        async with client.stream("GET", f"{self.base_url}/{jar.path}", headers=headers) as answer:
            if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise httpx.RemoteProtocolError(f"answered {answer.status_code}")
            answer.raise_for_status()
            size = begun if answer.status_code == HTTPStatus.PARTIAL_CONTENT else 0
            size = await _append(answer, part, size, jar.size, heard)
        if size < jar.size:
            raise httpx.ReadError(f"broke off after {size} of {jar.size} bytes")
        if size > jar.size or sha256_of(part) != jar.sha256:
            part.unlink(missing_ok=True)
            raise Damaged(f"its bytes are not those with sha256 {jar.sha256[:12]}…")
        part.replace(self.folder / jar.name)


async def _append(answer: httpx.Response, part: Path, size: int, size_max: int, heard: Callable[[int], None]) -> int:
    """Writes what comes behind the first `size` bytes; stops at the first byte too many."""
    with part.open("ab" if size else "wb") as file:
        async for chunk in answer.aiter_bytes():
            size += len(chunk)
            file.write(chunk)
            if size > size_max:
                break
            heard(size)
        file.flush()
        os.fsync(file.fileno())
    return size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
