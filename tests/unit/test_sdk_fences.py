"""Guards of tokens: in memory, in a file that many processes share, and before an HTTP application."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diurna import (
    Conflict,
    FenceMiddleware,
    FileFenceGuard,
    InvalidInput,
    MemoryFenceGuard,
    StaleToken,
    TableFenceGuard,
    Unavailable,
)
from diurna.fences import FenceGuard


@pytest.fixture(params=["memory", "file"])
def guard(request: pytest.FixtureRequest, tmp_path: Path) -> FenceGuard:
    return MemoryFenceGuard() if request.param == "memory" else FileFenceGuard(tmp_path / "deep/down/fence.json")


async def test_a_smaller_token_is_refused_and_an_equal_or_larger_one_is_not(guard: FenceGuard) -> None:
    for token in (5, 5, 7, 2**53 - 1):
        await guard.check("repo:x", token)
    with pytest.raises(StaleToken, match=f"fencing token 7 of 'repo:x' is stale: {2**53 - 1} was seen") as stale:
        await guard.check("repo:x", 7)
    assert (stale.value.token, stale.value.highest, stale.value.code) == (7, 2**53 - 1, "stale_token")
    assert isinstance(stale.value, Conflict)
    await guard.check("repo:y", 1)


@pytest.mark.parametrize("token", [-1, 2**53, 1.5, "7", None, True])
async def test_what_is_no_token_is_refused_and_not_remembered(guard: FenceGuard, token: Any) -> None:
    with pytest.raises(InvalidInput, match="token"):
        await guard.check("repo:x", token)
    with pytest.raises(InvalidInput, match="resource_id"):
        await guard.check("", 1)
    await guard.check("repo:x", 0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20))))
def test_whatever_comes_what_is_let_through_never_goes_back(asked: list[tuple[str, int]]) -> None:
    guard = MemoryFenceGuard()
    passed: dict[str, list[int]] = {"a": [], "b": []}
    for resource, token in asked:
        try:
            guard.check_now(resource, token)
        except StaleToken:
            assert token < max(passed[resource])
        else:
            passed[resource].append(token)
    assert all(tokens == sorted(tokens) for tokens in passed.values())


def test_a_file_remembers_over_processes(tmp_path: Path) -> None:
    path = tmp_path / "fence.json"
    FileFenceGuard(path).check_now("repo:x", 9)
    FileFenceGuard(path).check_now("repo:y", 3)
    with pytest.raises(StaleToken):
        FileFenceGuard(path).check_now("repo:x", 8)
    assert (FileFenceGuard(path).highest("repo:x"), FileFenceGuard(path).highest("nobody")) == (9, None)
    assert json.loads(path.read_text()) == {"repo:x": 9, "repo:y": 3}
    assert {one.name for one in tmp_path.iterdir()} == {"fence.json", "fence.json.lock"}


@pytest.mark.parametrize("content", ["no json", "[1]", '{"repo:x": "7"}'])
def test_a_file_that_cannot_be_understood_lets_nobody_through(tmp_path: Path, content: str) -> None:
    path = tmp_path / "fence.json"
    path.write_text(content)
    with pytest.raises(Unavailable, match=r"fence\.json"):
        FileFenceGuard(path).check_now("repo:x", 9)
    assert path.read_text() == content


def test_a_file_where_none_can_be_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be used"):
        FileFenceGuard(tmp_path / "file" / "fence.json").check_now("repo:x", 9)


HOLDER = """
import sys
from diurna import FileFenceGuard, StaleToken
guard, log = FileFenceGuard(sys.argv[1]), sys.argv[2]
for token in map(int, sys.argv[3:]):
    try:
        with guard.passing("repo:x", token), open(log, "a") as file:
            file.write(f"{token} in\\n"); file.flush(); file.write(f"{token} out\\n")
    except StaleToken:
        pass
"""


def test_many_processes_pass_one_by_one_and_in_the_order_of_their_tokens(tmp_path: Path) -> None:
    log = tmp_path / "log"
    shares = [[str(token) for token in range(first, 400, 4)] for first in range(4)]
    running = [
        subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "fence.json"), str(log), *share])
        for share in shares
    ]
    assert [process.wait(60) for process in running] == [0] * 4
    lines = [line.split() for line in log.read_text().splitlines()]
    entered, left = lines[::2], lines[1::2]
    assert [token for token, _ in entered] == [token for token, _ in left], "two were inside at once"
    passed = [int(token) for token, _ in entered]
    assert passed == sorted(passed)
    assert passed[-1] == 399


async def served(guard: FenceGuard, **options: Any) -> httpx.AsyncClient:
    changed: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        changed.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(FenceMiddleware(app, guard, **options)), base_url="http://guarded"
    )
    client.changed = changed  # type: ignore[attr-defined]
    return client


def shown(resource: str, token: object) -> dict[str, str]:
    return {"Diurna-Lock-Resource": resource, "Diurna-Lock-Token": str(token)}


async def test_a_request_shows_its_token_or_is_refused_before_the_application(guard: FenceGuard) -> None:
    async with await served(guard) as client:
        assert (await client.get("/config")).status_code == 204
        missing = await client.put("/config")
        assert (missing.status_code, missing.json()["code"]) == (428, "token_required")
        assert (await client.put("/config", headers=shown("config:x", 10))).status_code == 204
        assert (await client.put("/config", headers=shown("config:x", 11))).status_code == 204
        stale = await client.put("/config", headers=shown("config:x", 10))
        assert (stale.status_code, stale.json()["code"]) == (409, "stale_token")
        assert stale.headers["content-type"] == "application/problem+json"
        for token in ("-1", "1e3", "x", "9" * 400, "²"):
            wrong = await client.put("/config", headers={**shown("config:x", 0), "Diurna-Lock-Token": token.encode()})  # type: ignore[dict-item]
            assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "Diurna-Lock-Token")
        assert client.changed == ["/config"] * 3  # type: ignore[attr-defined]


async def test_a_token_of_another_resource_opens_nothing() -> None:
    def resource_of(scope: Any) -> str | None:
        return f"config:{scope['path'].strip('/')}" if scope["path"] != "/open" else None

    async with await served(MemoryFenceGuard(), resource_of=resource_of, methods=["PUT"]) as client:
        assert (await client.put("/open")).status_code == 204
        assert (await client.post("/x")).status_code == 204
        assert (await client.put("/x", headers=shown("config:x", 5))).status_code == 204
        other = await client.put("/y", headers=shown("config:x", 5))
        assert (other.status_code, "config:y" in other.json()["detail"]) == (422, True)
        assert "config:y" in (await client.put("/y")).json()["detail"]


@pytest.mark.parametrize("method", ["put", "PUT"])
async def test_a_method_in_small_letters_is_guarded_as_well(method: str) -> None:
    """ASGI wants capital letters, and not every server sees to it."""
    passed: list[str] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["method"])

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    for guarded in (
        FenceMiddleware(app, MemoryFenceGuard()),
        FenceMiddleware(app, MemoryFenceGuard(), methods=["put"]),
    ):
        await guarded({"type": "http", "method": method, "path": "/x", "headers": []}, receive, send)
    assert passed == []
    assert [message["status"] for message in sent if message["type"] == "http.response.start"] == [428, 428]


def test_a_table_guard_takes_no_name_that_is_none() -> None:
    with pytest.raises(InvalidInput, match="table"):
        TableFenceGuard("fences; drop table users")
    assert "%s" in TableFenceGuard("mine.fences").statement("%s")


async def test_a_check_in_a_file_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    guard = FileFenceGuard(tmp_path / "fence.json")
    with guard.passing("repo:x", 1):
        waiting = asyncio.create_task(guard.check("repo:x", 2))
        await asyncio.sleep(0.05)
        assert not waiting.done()
    await waiting
