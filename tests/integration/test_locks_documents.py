"""Runs what RESOURCE_LOCKING.md shows, and holds its words to the code: limits, codes, metrics, routes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest

from diurna import FenceMiddleware, metrics
from diurna_schemas import locks
from diurna_streams.deciders.locks.decide import CLAIM_MS, QUEUE_DEPTH_MAX
from support.documents import ROOT, Block, blocks, run_python

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
DOCUMENT = "docs/RESOURCE_LOCKING.md"
PYTHON = blocks(DOCUMENT, "python")
TEXT = " ".join((ROOT / DOCUMENT).read_text(encoding="utf-8").split())


@pytest.mark.parametrize("block", [one for one in PYTHON if one.notes != "postgres"], ids=lambda one: one.name)
async def test_the_examples_run(diurna: Any, block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DIURNA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DIURNA_STATE_DIR", str(diurna.state_dir))
    async with asyncio.timeout(60):
        space = await run_python(block)
    if "guarded" in space:
        guarded: FenceMiddleware = space["guarded"]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://guarded") as client:
            assert (await client.put("/config")).status_code == 428
            assert (await client.put("/anything")).status_code == 204


async def test_the_example_in_postgres_runs(fresh_database: Callable[[], Awaitable[str]]) -> None:
    (block,) = [one for one in PYTHON if one.notes == "postgres"]
    connection = await asyncpg.connect(await fresh_database())
    try:
        await connection.execute("create table releases (version text)")
        await run_python(block, {"connection": connection, "token": 17})
        assert [row["version"] for row in await connection.fetch("select version from releases")] == ["1.1"]
    finally:
        await connection.close()


def test_the_limits_are_those_of_the_code() -> None:
    for words in (
        f"{locks.LEASE_MS_MIN // 1000} to {locks.LEASE_MS_MAX // 1000:,} s",
        f"up to {locks.WAIT_MS_MAX // 1000:,} s",
        f"| {QUEUE_DEPTH_MAX}; one more",
    ):
        assert words in TEXT, words
    assert CLAIM_MS == 3_000
    assert "It lasts three seconds" in TEXT


def test_the_codes_and_metrics_are_those_of_the_code() -> None:
    sources = "".join(
        (ROOT / path).read_text(encoding="utf-8")
        for path in (
            "agents/diurna/wishes.py",
            "agents/diurna/locks.py",
            "agents/diurna/gateway/locks.py",
            "streams/diurna_streams/deciders/locks/decide.py",
        )
    )
    for code in ("locked", "queue_full", "wait_timed_out", "wait_cancelled", "not_claimed", "not_holder", "not_held"):
        assert f'"{code}"' in sources
        assert f"`{code}`" in TEXT
    for metric in ("LOCK_ACQUISITIONS", "LOCK_WAIT_SECONDS", "LOCKS_ACTIVE", "LOCK_CONTENTIONS"):
        (family,) = getattr(metrics, metric).describe()
        assert f"`{family.name}" in TEXT


def test_every_route_of_locks_is_told(diurna: Any) -> None:
    paths = httpx.get(f"{diurna.json('status')['api_url']}/openapi.json").json()["paths"]
    for path in [path for path in paths if path.startswith("/locks")]:
        assert f"{path}`" in TEXT, path
