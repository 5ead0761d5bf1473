"""The jar cache against a repository that breaks off, lies, is away, or is asked by two at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from diurna_deploy.stack.files import FileLock
from diurna_deploy.stack.jar import Jar
from diurna_deploy.stack.jars import JarCache, locked_jars
from diurna_schemas.errors import Unavailable

CONTENT = {
    f"org/example/part-{number}/1.0/part-{number}-1.0.jar": bytes([number]) * (1000 + number) for number in range(5)
}
JARS = tuple(Jar(path, hashlib.sha256(data).hexdigest(), len(data)) for path, data in CONTENT.items())


class Repository(httpx.AsyncBaseTransport):
    """Serves CONTENT, resumes where asked to, and does what a test tells it to a request."""

    def __init__(
        self, spoil: Callable[[httpx.Request, int], httpx.Response | None] = lambda _request, _number: None
    ) -> None:
        self.requests: list[httpx.Request] = []
        self.spoil = spoil

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if (spoilt := self.spoil(request, len(self.requests))) is not None:
            return spoilt
        data = CONTENT[request.url.path.removeprefix("/")]
        if (wanted := request.headers.get("Range")) is not None:
            begun = int(wanted.removeprefix("bytes=").removesuffix("-"))
            return httpx.Response(206, content=data[begun:])
        return httpx.Response(200, content=data)


class BrokenOff(httpx.AsyncByteStream):
    def __init__(self, data: bytes) -> None:
        self.data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data
        raise httpx.ReadError("connection reset")


def cache_of(folder: Path, repository: Repository) -> JarCache:
    return JarCache(folder, JARS, base_url="http://repository.test", transport=repository)


def is_whole(folder: Path) -> bool:
    return all((folder / jar.name).read_bytes() == CONTENT[jar.path] for jar in JARS)


async def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    repository = Repository()
    assert await cache_of(tmp_path, repository).ensure() == tuple(tmp_path / jar.name for jar in JARS)
    assert is_whole(tmp_path)
    assert len(repository.requests) == len(JARS)
    await cache_of(tmp_path, repository).ensure()
    assert len(repository.requests) == len(JARS)
    assert cache_of(tmp_path, repository).damaged() == []


async def test_a_truncated_jar_is_fetched_again(tmp_path: Path) -> None:
    repository = Repository()
    await cache_of(tmp_path, repository).ensure()
    victim = tmp_path / JARS[2].name
    victim.write_bytes(victim.read_bytes()[:100])
    assert cache_of(tmp_path, repository).damaged() == [JARS[2].name]
    await cache_of(tmp_path, repository).ensure()
    assert is_whole(tmp_path)
    assert len(repository.requests) == len(JARS) + 1


async def test_a_jar_with_other_bytes_of_the_same_size_is_fetched_again(tmp_path: Path) -> None:
    repository = Repository()
    await cache_of(tmp_path, repository).ensure()
    (tmp_path / JARS[1].name).write_bytes(b"x" * JARS[1].size)
    await cache_of(tmp_path, repository).ensure()
    assert is_whole(tmp_path)


async def test_a_download_that_breaks_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def break_the_first(request: httpx.Request, number: int) -> httpx.Response | None:
        data = CONTENT[request.url.path.removeprefix("/")]
        return httpx.Response(200, stream=BrokenOff(data[:400])) if number == 1 else None

    repository = Repository(break_the_first)
    await cache_of(tmp_path, repository).ensure()
    assert is_whole(tmp_path)
    assert [request.headers["Range"] for request in repository.requests if "Range" in request.headers] == ["bytes=400-"]


async def test_a_half_of_another_jar_is_not_completed_but_thrown_away(tmp_path: Path) -> None:
    (tmp_path / f"{JARS[0].name}.part").write_bytes(b"something else")
    await cache_of(tmp_path, Repository()).ensure()
    assert is_whole(tmp_path)


async def test_a_repository_that_ignores_the_range_is_understood(tmp_path: Path) -> None:
    (tmp_path / f"{JARS[0].name}.part").write_bytes(CONTENT[JARS[0].path][:300])

    def whole(request: httpx.Request, _number: int) -> httpx.Response:
        return httpx.Response(200, content=CONTENT[request.url.path.removeprefix("/")])

    await cache_of(tmp_path, Repository(whole)).ensure()
    assert is_whole(tmp_path)


async def test_bytes_the_lock_does_not_name_are_never_given_a_name(tmp_path: Path) -> None:
    def lie(request: httpx.Request, _number: int) -> httpx.Response | None:
        if request.url.path.endswith(JARS[3].name):
            return httpx.Response(200, content=b"y" * JARS[3].size)
        return None

    with pytest.raises(Unavailable, match=rf"{JARS[3].name} cannot be trusted"):
        await cache_of(tmp_path, Repository(lie)).ensure()
    assert not (tmp_path / JARS[3].name).exists()
    assert not (tmp_path / f"{JARS[3].name}.part").exists()


async def test_a_repository_that_is_away_is_named_with_what_to_do(tmp_path: Path) -> None:
    def away(request: httpx.Request, _number: int) -> httpx.Response:
        raise httpx.ConnectError("name resolution failed", request=request)

    with pytest.raises(Unavailable, match=r"http://repository\.test.*name resolution failed.*SSL_CERT_FILE"):
        await cache_of(tmp_path, Repository(away)).ensure()


async def test_a_jar_the_repository_does_not_have_is_an_error_at_once(tmp_path: Path) -> None:
    repository = Repository(lambda _request, _number: httpx.Response(404))
    with pytest.raises(Unavailable, match="404"):
        await cache_of(tmp_path, repository).ensure()
    assert len(repository.requests) <= len(JARS)


async def test_two_fetchers_at_once_fetch_each_jar_once(tmp_path: Path) -> None:
    repository = Repository()
    await asyncio.gather(*(cache_of(tmp_path, repository).ensure() for _ in range(3)))
    assert is_whole(tmp_path)
    assert len(repository.requests) == len(JARS)


async def test_a_second_fetcher_waits_for_the_first(tmp_path: Path) -> None:
    repository = Repository()
    lock = FileLock.try_take(tmp_path / "fetch.lock")
    assert lock is not None
    waiting = asyncio.create_task(cache_of(tmp_path, repository).ensure())
    await asyncio.sleep(0)
    assert repository.requests == []
    lock.release()
    await waiting
    assert is_whole(tmp_path)


def test_the_lock_names_every_jar_of_one_kafka_and_a_binding_for_its_log() -> None:
    names = {jar.name for jar in locked_jars()}
    assert len(names) == len(locked_jars()) == 45
    assert {"kafka_2.13-4.4.0.jar", "kafka-clients-4.4.0.jar", "log4j-slf4j-impl-2.25.5.jar"} <= names
    assert [name for name in names if name.startswith("kafka-clients")] == ["kafka-clients-4.4.0.jar"]
