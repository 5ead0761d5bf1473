"""Reads of the past: what was answered then is answered again, whatever has happened since."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote, unquote

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from diurna_projections.advance import understood
from diurna_projections.api import AsOf, HotReads, install_problems, read_router
from diurna_projections.past import PASTS_MAX, Pasts
from diurna_projections.queries import Queries
from diurna_projections.store import Database, Store
from diurna_schemas.topics import partition_of
from support.projecting import START_MS, History, busy_team

READS = (
    "/agents",
    "/agents/agent-1",
    "/capabilities/search?q=review",
    "/requests?limit=7",
    "/requests?status=completed",
    "/workflows",
    "/workflows/workflow-1",
    "/workflows/workflow-1/history",
    "/approvals",
    "/workflow-statistics",
    "/locks",
    "/locks/queue",
    "/locks/history",
    "/locks/statistics",
    "/events?limit=9",
    "/events?subject=workflow-1",
)

pytestmark = pytest.mark.stack


class Clock:
    """The time at which reads of today are answered."""

    now_ms = START_MS


class Served:
    """A history, projected little by little, and the routes over it."""

    def __init__(self, history: History, store: Store, client: httpx.AsyncClient, clock: Clock) -> None:
        self.history = history
        self.store = store
        self.client = client
        self.clock = clock

    async def answers(self, **parameters: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path in READS:
            response = await self.client.get(path, params={**httpx.URL(path).params, **parameters})
            assert response.status_code in {200, 404}, response.text
            found[path] = (response.status_code, _timeless(response.json()))
        return found


def _timeless(document: Any) -> Any:
    """Without what heartbeats say, which are not kept, and what only names the request."""
    match document:
        case dict():
            return {
                key: _timeless(value)
                for key, value in document.items()
                if key not in {"last_heartbeat", "in_flight", "instance"}
            }
        case list():
            return [_timeless(item) for item in document]
        case _:
            return document


@pytest.fixture(scope="module")
async def served(database_url: str) -> AsyncIterator[Served]:
    async with serving(busy_team(41, 500), database_url) as found:
        yield found


@asynccontextmanager
async def serving(history: History, database_url: str) -> AsyncGenerator[Served]:
    clock = Clock()
    store = await Store.connect(database_url)
    await store.migrate()
    await store.index_search()
    queries = Queries(await Database.connect(database_url), history.codec, clock_ms=lambda: clock.now_ms)
    pasts = Pasts(queries, database_url, history.codec)
    app = FastAPI()
    app.add_middleware(HotReads, queries=queries)
    app.include_router(read_router(queries))
    install_problems(app)
    app.add_middleware(AsOf, pasts=pasts)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://reads") as client:
        yield Served(history, store, client, clock)
    await pasts.close()
    await queries.close()
    await store.close()


async def test_what_was_answered_then_is_answered_again(served: Served) -> None:
    """Projects the history in steps, asks everything after each, and asks again when all is over."""
    chance = random.Random(7)
    records = served.history.records
    cuts = sorted({chance.randrange(20, len(records)) for _ in range(6)})
    # A moment is a time: what happened in the same millisecond happened before it.
    cuts = [cut for cut in cuts if records[cut].timestamp_ms > records[cut - 1].timestamp_ms]
    then: dict[int, dict[str, Any]] = {}
    done = 0
    for cut in [*cuts, len(records)]:
        await served.store.apply(understood(served.history.codec, records[done:cut]))
        done = cut
        served.clock.now_ms = records[cut - 1].timestamp_ms
        then[served.clock.now_ms] = await served.answers()
    assert len(then) >= 4
    for at_ms, expected in then.items():
        assert await served.answers(as_of=str(at_ms)) == expected
    assert len({str(answers["/requests?limit=7"]) for answers in then.values()}) == len(then), "nothing changed"


async def test_a_position_is_a_moment_and_pages_stay_in_it(served: Served) -> None:
    all_events = (await served.client.get("/events", params={"limit": 1000})).json()
    chosen = all_events[len(all_events) // 2]
    found: list[Any] = []
    url = httpx.URL("/events", params={"as_of": chosen["position"], "limit": "50"})
    while True:
        response = await served.client.get(url)
        found += response.json()
        if "next" not in response.links:
            break
        url = httpx.URL(response.links["next"]["url"])
        assert "as_of" in url.params
    assert chosen["position"] in {event["position"] for event in found}
    assert all(event["time"] <= chosen["time"] for event in found)
    assert len(found) < len(all_events)


async def test_an_iso_time_with_and_without_a_zone_is_the_same_moment(served: Served) -> None:
    events = (await served.client.get("/events", params={"limit": 5})).json()
    at = events[-1]["time"]
    answers = [
        (await served.client.get("/events", params={"as_of": text, "limit": 1000})).json()
        for text in (at, at.removesuffix("Z"), at.replace("Z", "+00:00"), _in_a_zone(at, 10).replace("+", " "))
    ]
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert answers[0]


def _in_a_zone(at: str, hours: int) -> str:
    return datetime.fromisoformat(at).astimezone(timezone(timedelta(hours=hours))).isoformat()


async def test_the_future_is_now_and_before_the_log_there_is_nothing(served: Served) -> None:
    now = (await served.client.get("/requests")).json()
    assert (await served.client.get("/requests", params={"as_of": "2990-01-01T00:00:00Z"})).json() == now
    assert (await served.client.get("/requests", params={"as_of": "1970-01-02T00:00:00Z"})).json() == []
    assert (await served.client.get("/agents/agent-1", params={"as_of": "1"})).status_code == 404


@pytest.mark.parametrize(
    ("path", "as_of", "status"),
    [
        ("/agents", "yesterday", 422),
        ("/agents", "", 422),
        ("/agents", "2026-13-41", 422),
        ("/agents", "workflows.events:0:99999999", 404),
        ("/agents", "x'; drop table events; --:0:1", 422),
        ("/health/agent-1", "2026-11-23T22:12:49Z", 422),
        ("/dead-letters", "2026-11-23T22:12:49Z", 422),
    ],
)
async def test_what_is_no_moment_is_a_problem_that_names_it(served: Served, path: str, as_of: str, status: int) -> None:
    response = await served.client.get(path, params={"as_of": as_of})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    if status == 422:
        assert response.json()["detail"].startswith("as_of: ")


@pytest.mark.parametrize("workflow_id", ["release/%41", "release/2026%2F11"])
async def test_an_id_that_must_be_escaped_has_a_past_as_well(served: Served, workflow_id: str) -> None:
    assert partition_of(workflow_id) != partition_of(unquote(workflow_id)), "the test could not tell them apart"
    record = served.history.workflow_created(workflow_id)
    await served.store.apply(understood(served.history.codec, [record]))
    path = f"/workflows/{quote(workflow_id, safe='')}"
    for moment in ({}, {"as_of": str(record.position)}):
        response = await served.client.get(path, params=moment)
        assert (response.status_code, response.json().get("workflow_id")) == (200, workflow_id)


async def test_a_piece_of_work_may_have_a_name_with_slashes(served: Served) -> None:
    record = served.history.broadcast("task.progress", {}, "feature/login%2F2")
    await served.store.apply(understood(served.history.codec, [record]))
    (event,) = (await served.client.get("/timeline/feature%2Flogin%252F2")).json()
    assert event["position"] == str(record.position)
    assert (await served.client.get("/timeline/feature/login")).status_code == 404


async def test_more_pasts_at_once_than_are_kept_wait_for_one_another(served: Served) -> None:
    events = (await served.client.get("/events", params={"limit": 1000})).json()
    moments = [event["position"] for event in events[:: len(events) // (3 * PASTS_MAX)]]
    asked = [served.client.get("/requests", params={"as_of": moment}) for moment in moments]
    assert {response.status_code for response in await asyncio.gather(*asked)} == {200}


async def test_a_past_whose_connection_was_lost_never_shows_the_present(served: Served, database_url: str) -> None:
    events = (await served.client.get("/events", params={"limit": 200})).json()
    moment = {"as_of": events[100]["position"], "limit": "1000"}
    before = (await served.client.get("/requests", params=moment)).json()
    killer = await asyncpg.connect(database_url)
    await killer.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'diurna-past'"
    )
    await killer.close()
    first = await served.client.get("/requests", params=moment)
    assert first.status_code == 503 or first.json() == before
    assert (await served.client.get("/requests", params=moment)).json() == before


async def test_what_is_not_projected_yet_is_waited_for_and_then_belongs_to_its_moment(
    fresh_database: Callable[[], Awaitable[str]],
) -> None:
    """Asks while half of the history is in the tables, and again when all of it is."""
    history = busy_team(43, 200)
    codec, records = history.codec, history.records
    half, last = len(records) // 2, next(one for one in reversed(records) if one.topic == "workflows.events")
    position, at_ms = f"{last.topic}:{last.partition}:{last.offset}", str(records[-1].timestamp_ms)
    async with serving(history, await fresh_database()) as served:
        await served.store.apply(understood(codec, records[:half]))

        def ask(**moment: str) -> Awaitable[httpx.Response]:
            return served.client.get("/events", params={"limit": "1000", **moment})

        early = (await ask(as_of=at_ms)).json()
        asked = [
            asyncio.create_task(ask(as_of=position)),  # type: ignore[arg-type]
            asyncio.create_task(ask(as_of=at_ms, min_position=position)),  # type: ignore[arg-type]
        ]
        await asyncio.wait(asked, timeout=0.2)
        await served.store.apply(understood(codec, records[half:]))
        for answer in [await one for one in asked]:
            assert position in {event["position"] for event in answer.json()}, answer.text
        whole = (await ask()).json()
        assert len(early) < len(whole)
        assert (await ask(as_of=at_ms)).json() == whole


async def test_a_past_outlives_the_tables_it_was_folded_from(fresh_database: Callable[[], Awaitable[str]]) -> None:
    """Generations are exchanged: the tables of the past are dropped, and those of today are not shown for them."""
    history = busy_team(44, 100)
    database_url = await fresh_database()
    async with serving(history, database_url) as served:
        await served.store.apply(understood(history.codec, history.records))
        events = (await served.client.get("/events", params={"limit": "1000"})).json()
        moment = {"as_of": events[len(events) // 2]["position"], "limit": "1000"}
        before = (await served.client.get("/events", params=moment)).json()
        assert len(before) < len(events)
        await served.store.drop()
        again = await Store.connect(database_url)
        await again.migrate()
        await again.apply(understood(history.codec, history.records))
        await again.close()
        assert (await served.client.get("/events", params=moment)).json() == before
