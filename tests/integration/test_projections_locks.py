"""Locks in a real Postgres: the tables equal the fold of the log, and the routes over them page, filter, tell time."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from diurna_projections.advance import understood
from diurna_projections.api import install_problems, read_router
from diurna_projections.memory import MemoryTables
from diurna_projections.queries import Queries
from diurna_projections.store import Store
from diurna_schemas.ids import Position
from support.locking import Locksmith, busy_locks
from support.projecting import History, batches

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("seed", range(3))
async def test_the_tables_equal_the_fold_of_the_log_whatever_the_batches(
    fresh_database: Callable[[], Awaitable[str]], seed: int
) -> None:
    history = busy_locks(seed, 800)
    whole = MemoryTables(history.codec)
    whole.apply(history.records)
    store = await Store.connect(await fresh_database())
    await store.migrate()
    for batch in batches(history.records, random.Random(seed), 60):
        await store.apply(understood(history.codec, batch))
    found = await store.checksums()
    await store.close()
    assert found.tables == whole.checksums()
    assert len(whole.tables.lock_history) > 100


async def test_a_database_from_before_the_locks_is_filled_with_what_it_missed(
    fresh_database: Callable[[], Awaitable[str]],
) -> None:
    history = busy_locks(9, 100)
    history.broadcast("before", {})
    url = await fresh_database()
    store = await Store.connect(url)
    await store.migrate()
    await store.apply(understood(history.codec, history.records))
    whole = (await store.checksums()).tables
    async with store.database.connection() as connection:
        await connection.execute("drop view lock_queue")
        await connection.execute("drop table locks, lock_waiters, lock_history, lock_statistics")
        await connection.execute("delete from migrations where name = '0002_locks'")
    await store.close()
    store = await Store.connect(url)  # the process of the new version
    assert await store.migrate() == ["0002_locks"]
    assert {topic for topic, _ in await store.heads()} == {"broadcasts"}
    await store.apply(understood(history.codec, history.records))
    assert (await store.checksums()).tables == whole
    await store.close()


class Reads:
    """Routes over a projected history."""

    def __init__(self, smith: Locksmith, store: Store, queries: Queries, client: httpx.AsyncClient) -> None:
        self.smith = smith
        self.queries = queries
        self.client = client
        self._store = store
        self._projected = 0

    async def project(self) -> Position:
        """Projects what is new and returns the last position."""
        records = self.smith.history.records
        new = records[self._projected :]
        self._projected = len(records)
        await self._store.apply(understood(self.smith.history.codec, new))
        return new[-1].position

    async def get(self, path: str, expected: int = 200, /, **parameters: Any) -> Any:
        response = await self.client.get(path, params=parameters)
        assert response.status_code == expected, response.text
        return response.json()


@pytest.fixture(scope="module")
async def reads(database_url: str) -> AsyncIterator[Reads]:
    smith = Locksmith(History(at_ms=int(time.time() * 1000) - 5_000))
    store = await Store.connect(database_url)
    await store.migrate()
    queries = await Queries.connect(database_url, smith.history.codec)
    app = FastAPI()
    app.include_router(read_router(queries))
    install_problems(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://reads") as client:
        found = Reads(smith, store, queries, client)
        for number in range(5):
            smith.acquire(f"repo:{number}", f"lock-{number}", f"agent-{number % 2}", lease_ms=600_000)
            smith.acquire(f"repo:{number}", f"next-{number}", "agent-9", wait_ms=600_000)
            smith.acquire(f"repo:{number}", f"denied-{number}", "agent-8")
        smith.acquire("repo:0", "last-0", "agent-7", wait_ms=600_000, reason="after the next", metadata='{"a":1}')
        smith.acquire("repo:short", "short", lease_ms=1_000)
        smith.release("repo:4", "lock-4", "agent-0", after_ms=250)
        smith.renew("repo:4", "next-4", "agent-9")
        await found.project()
        yield found
    await queries.close()
    await store.close()


async def paged(reads: Reads, path: str, limit: int) -> list[Any]:
    """All pages of a list."""
    found: list[Any] = []
    following: str | None = f"{path}{'&' if '?' in path else '?'}limit={limit}"
    while following is not None:
        response = await reads.client.get(following)
        assert response.status_code == 200, response.text
        assert len(response.json()) <= limit
        found += response.json()
        following = response.links["next"]["url"] if "next" in response.links else None
    return found


async def test_held_locks_are_listed_filtered_and_paged_without_those_whose_time_has_passed(reads: Reads) -> None:
    held = await paged(reads, "/locks", 2)
    assert [one["resource_id"] for one in held] == [f"repo:{number}" for number in range(5)]
    assert [one["agent_id"] for one in await reads.get("/locks", agent_id="agent-1")] == ["agent-1", "agent-1"]
    (one,) = await reads.get("/locks", resource_id="repo:4")
    assert (one["lock_id"], one["is_provisional"], one["waited_seconds"] > 0.2) == ("next-4", False, True)
    assert await reads.get("/locks", resource_id="repo:short") == []
    early = Queries(
        reads.queries.database, reads.smith.history.codec, clock_ms=lambda: reads.smith.history.at_ms - 1_000
    )
    assert (await early.locks.page("held", {"resource_id": "repo:short"})).documents != []


async def test_the_queue_is_in_order_and_numbered(reads: Reads) -> None:
    queue = await reads.get("/locks/queue", resource_id="repo:0")
    assert [(one["lock_id"], one["queue_position"]) for one in queue] == [("next-0", 1), ("last-0", 2)]
    assert (queue[1]["reason"], queue[1]["metadata"]) == ("after the next", {"a": 1})
    assert len(await paged(reads, "/locks/queue", 2)) == 5
    late = Queries(reads.queries.database, reads.smith.history.codec, clock_ms=lambda: int(time.time() * 1000) * 2)
    assert (await late.locks.page("queue", {})).documents == []


async def test_the_history_is_newest_first_filtered_and_paged(reads: Reads) -> None:
    history = await paged(reads, "/locks/history", 4)
    assert len(history) == 17
    assert [one["asked_at"] for one in history] == sorted((one["asked_at"] for one in history), reverse=True)
    assert {one["lock_id"] for one in await reads.get("/locks/history", status="denied")} == {
        f"denied-{number}" for number in range(5)
    }
    (released,) = await reads.get("/locks/history", status="released")
    assert (released["lock_id"], released["held_seconds"] > 0.2) == ("lock-4", True)
    assert [one["lock_id"] for one in await reads.get("/locks/history", status="expired")] == ["short"]
    assert "short" not in {one["lock_id"] for one in await reads.get("/locks/history", status="held")}
    assert len(await reads.get("/locks/history", agent_id="agent-9", resource_id="repo:1")) == 1


async def test_one_lock_is_shown_by_its_id(reads: Reads) -> None:
    lock = await reads.get("/locks/next-0")
    assert (lock["status"], lock["resource_id"], lock["expires_at"]) == ("queued", "repo:0", None)
    assert (await reads.get("/locks/short"))["status"] == "expired"
    assert (await reads.get("/locks/nothing", 404))["code"] == "not_found"


async def test_statistics_tell_how_a_resource_is_fought_for(reads: Reads) -> None:
    (one,) = await reads.get("/locks/statistics", resource_id="repo:0")
    assert (one["wishes"], one["acquisitions"], one["queued"], one["denials"]) == (4, 1, 2, 1)
    assert one["contention"] == 0.75
    assert one["held_seconds_mean"] is None
    (four,) = await reads.get("/locks/statistics", resource_id="repo:4")
    assert four["releases"] == 1
    assert four["held_seconds_mean"] == four["held_seconds_max"] > 0.2
    assert len(await paged(reads, "/locks/statistics", 2)) == 6


async def test_reads_wait_for_a_position_and_say_theirs(reads: Reads) -> None:
    reads.smith.acquire("repo:later", "later", lease_ms=600_000)
    position = await reads.project()
    response = await reads.client.get("/locks", params={"resource_id": "repo:later", "min_position": str(position)})
    assert [one["lock_id"] for one in response.json()] == ["later"]
    assert str(position) in response.headers["Diurna-Positions"].split(",")


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/locks?limit=0", "limit"),
        ("/locks?resource_id=", "resource_id"),
        ("/locks?resource_id=a%00b", "resource_id"),
        ("/locks/queue?cursor=%21", "cursor"),
        ("/locks/history?status=sleepy", "status"),
        ("/locks/a%00b", "lock_id"),
        ("/locks?min_position=here", "min_position"),
    ],
)
async def test_bad_input_is_a_problem_that_names_the_field(reads: Reads, path: str, named: str) -> None:
    response = await reads.client.get(path)
    assert response.status_code == 422, response.text
    assert named in response.json()["detail"]
