"""What the HTTP routes of locks promise: one holder, places in the queue, and refusals that change nothing."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from diurna.testing import Team, team
from diurna_schemas.envelope import header
from diurna_schemas.ids import Position
from support.teams import eventually


@pytest.fixture(scope="module")
async def memory() -> AsyncIterator[Team]:
    async with team() as found:
        yield found


@pytest.fixture(scope="module")
async def api(memory: Team) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(memory.app), base_url="http://team") as client:
        yield client


@pytest.fixture
def resource() -> str:
    return f"repo:{uuid.uuid4().hex[:8]}/main"


def wish(resource: str, agent_id: str = "agent-1", **fields: Any) -> dict[str, Any]:
    return {"resource_id": resource, "agent_id": agent_id, **fields}


async def granted(api: httpx.AsyncClient, resource: str, agent_id: str = "agent-1", **fields: Any) -> dict[str, Any]:
    answer = await api.post("/locks", json=wish(resource, agent_id, **fields))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_lock_is_granted_shown_renewed_and_given_back(api: httpx.AsyncClient, resource: str) -> None:
    lock = await granted(api, resource, timeout=60, reason="a release", metadata={"pr": 7})
    assert lock["status"] == "granted"
    assert Position.parse(lock["position"]).topic == "locks.events"
    (held,) = (await api.get("/locks", params={"resource_id": resource})).json()
    assert held["lock_id"] == lock["lock_id"]
    assert (held["fencing_token"], held["expires_at"]) == (lock["fencing_token"], lock["expires_at"])
    assert (held["reason"], held["metadata"], held["timeout"]) == ("a release", {"pr": 7}, 60)

    renewed = await api.post(f"/locks/{lock['lock_id']}/renew", json={"timeout": 120})
    assert renewed.status_code == 200
    assert renewed.json()["expires_at"] > lock["expires_at"]
    assert renewed.json()["fencing_token"] == lock["fencing_token"]

    gone = await api.delete(f"/locks/{lock['lock_id']}")
    assert (gone.status_code, gone.json()["status"]) == (200, "released")
    assert (await api.get("/locks", params={"resource_id": resource})).json() == []
    shown = (await api.get(f"/locks/{lock['lock_id']}")).json()
    assert (shown["status"], shown["ended_by"], shown["renewals"]) == ("released", "agent-1", 1)


async def test_a_lock_of_another_is_a_conflict_that_names_the_holder(api: httpx.AsyncClient, resource: str) -> None:
    await granted(api, resource)
    refused = await api.post("/locks", json=wish(resource, "agent-2"))
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert (refused.json()["code"], refused.json()["detail"]) == ("locked", f"Resource {resource} is locked by agent-1")


async def test_who_waits_is_queued_promoted_and_claims(api: httpx.AsyncClient, memory: Team, resource: str) -> None:
    first = await granted(api, resource)
    queued = await api.post("/locks", json=wish(resource, "agent-2", wait_timeout=60))
    assert queued.status_code == 202
    assert (queued.json()["queue_position"], queued.json()["locked_by"]) == (1, "agent-1")
    where = queued.headers["Location"]
    assert (await api.get(where)).json()["status"] == "queued"
    third = await api.post("/locks", json=wish(resource, "agent-3", wait_timeout=60))
    assert third.json()["queue_position"] == 2
    queue = (await api.get("/locks/queue", params={"resource_id": resource})).json()
    assert [(one["agent_id"], one["queue_position"]) for one in queue] == [("agent-2", 1), ("agent-3", 2)]

    await api.delete(f"/locks/{first['lock_id']}", params={"agent_id": "agent-1"})
    held = (await api.get(where)).json()
    assert (held["status"], held["is_provisional"]) == ("held", True)
    claimed = await api.post(f"{where}/renew", json={})
    assert (claimed.status_code, claimed.json()["is_provisional"]) == (200, False)
    assert claimed.json()["fencing_token"] > first["fencing_token"]

    left = await api.delete(third.headers["Location"])
    assert left.json()["status"] == "wait_cancelled"
    assert (await api.get("/locks/queue", params={"resource_id": resource})).json() == []


async def test_the_same_key_is_one_lock_and_tells_where_it_stands(api: httpx.AsyncClient, resource: str) -> None:
    first = await granted(api, resource)
    headers = {"Idempotency-Key": f"wish-{resource}"}
    body = wish(resource, "agent-2", wait_timeout=60)
    queued = await api.post("/locks", json=body, headers=headers)
    again = await api.post("/locks", json=body, headers=headers)
    assert (queued.status_code, again.status_code) == (202, 202)
    assert again.json()["lock_id"] == queued.json()["lock_id"]
    await api.delete(f"/locks/{first['lock_id']}")
    now = await api.post("/locks", json=body, headers=headers)
    assert (now.status_code, now.json()["is_provisional"]) == (200, True)
    await api.post(f"/locks/{now.json()['lock_id']}/renew")
    now = await api.post("/locks", json=body, headers=headers)
    assert (now.status_code, now.json()["is_provisional"]) == (200, False)
    await api.delete(f"/locks/{now.json()['lock_id']}")
    over = await api.post("/locks", json=body, headers=headers)
    assert (over.status_code, over.json()["code"]) == (409, "lock_over")
    statistics = (await api.get("/locks/statistics", params={"resource_id": resource})).json()
    assert (statistics[0]["wishes"], statistics[0]["acquisitions"]) == (2, 2)


async def test_the_same_key_of_another_agent_or_for_another_lock_is_another_wish(
    api: httpx.AsyncClient, resource: str
) -> None:
    headers = {"Idempotency-Key": f"shared-{resource}"}
    first = await api.post("/locks", json=wish(resource, "agent-1"), headers=headers)
    assert (first.status_code, first.json()["agent_id"]) == (200, "agent-1")
    other = await api.post("/locks", json=wish(resource, "agent-2"), headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "locked"), "it was told that it holds another's lock"

    others = [resource, *(f"{resource}/{number}" for number in range(12))]  # some share a partition
    answers = [await api.post("/locks", json=wish(one, "agent-1"), headers=headers) for one in others]
    assert [answer.status_code for answer in answers] == [200] * 13
    assert len({answer.json()["lock_id"] for answer in answers}) == 13
    for one in others:
        body = {"resource_id": one, "admin_agent_id": "admin", "reason": "tidying up"}
        freed = await api.post("/locks/force-release", json=body, headers=headers)
        assert freed.json()["resource_id"] == one
        assert (await api.get("/locks", params={"resource_id": one})).json() == [], "it was told so, and is held still"


async def test_a_key_is_forgotten_after_a_while_even_where_nothing_else_happens(resource: str) -> None:
    """A job that runs once a night under one key, and nobody but it asks for locks."""
    headers = {"Idempotency-Key": "nightly"}
    async with team() as quiet, httpx.AsyncClient(transport=httpx.ASGITransport(quiet.app), base_url="http://x") as api:
        for _ in range(3):
            nightly = await api.post("/locks", json=wish(resource, timeout=60), headers=headers)
            assert nightly.status_code == 200, nightly.text
            again = await api.post("/locks", json=wish(resource, timeout=60), headers=headers)
            assert again.json()["fencing_token"] == nightly.json()["fencing_token"]
            await api.delete(f"/locks/{nightly.json()['lock_id']}")
            quiet.clock.advance(86_400)


async def test_a_denied_key_stays_denied(api: httpx.AsyncClient, resource: str) -> None:
    first = await granted(api, resource)
    headers = {"Idempotency-Key": f"denied-{resource}"}
    for _ in range(2):
        refused = await api.post("/locks", json=wish(resource, "agent-2"), headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (409, "locked")
    await api.delete(f"/locks/{first['lock_id']}")
    refused = await api.post("/locks", json=wish(resource, "agent-2"), headers=headers)
    assert refused.status_code == 409


async def test_an_administrator_takes_a_lock_away(api: httpx.AsyncClient, resource: str) -> None:
    lock = await granted(api, resource)
    body = {"resource_id": resource, "admin_agent_id": "admin-1", "reason": "it hangs", "grace": 30}
    taken = await api.post("/locks/force-release", json=body)
    assert taken.status_code == 200
    assert (taken.json()["lock_id"], taken.json()["released_by"]) == (lock["lock_id"], "admin-1")
    shown = (await api.get(f"/locks/{lock['lock_id']}")).json()
    assert (shown["status"], shown["ended_by"], shown["end_reason"]) == ("force_released", "admin-1", "it hangs")
    again = await api.post("/locks/force-release", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "not_held")
    waiting = await api.post("/locks", json=wish(resource, "agent-2"))
    assert waiting.status_code == 409


async def test_a_lease_that_is_over_is_not_shown_as_held(resource: str) -> None:
    async with (
        team() as own,
        httpx.AsyncClient(transport=httpx.ASGITransport(own.app), base_url="http://team") as api,
    ):
        lock = await granted(api, resource, timeout=5)
        own.clock.advance(6)
        assert (await api.get("/locks", params={"resource_id": resource})).json() == []
        assert (await api.get(f"/locks/{lock['lock_id']}")).json()["status"] == "expired"
        late = await api.post(f"/locks/{lock['lock_id']}/renew")
        assert (late.status_code, late.json()["code"]) == (409, "not_holder")
        await eventually(lambda: own.reads.tables.lock_statistics.get(resource)[6] == 1)  # type: ignore[index]


async def test_the_history_holds_every_wish_and_how_it_ended(api: httpx.AsyncClient, resource: str) -> None:
    lock = await granted(api, resource)
    await api.post("/locks", json=wish(resource, "agent-2"))
    await api.delete(f"/locks/{lock['lock_id']}")
    history = (await api.get("/locks/history", params={"resource_id": resource})).json()
    assert [(one["agent_id"], one["status"]) for one in history] == [("agent-2", "denied"), ("agent-1", "released")]
    assert history[1]["held_seconds"] >= 0
    (statistics,) = (await api.get("/locks/statistics", params={"resource_id": resource})).json()
    assert (statistics["wishes"], statistics["denials"], statistics["contention"]) == (2, 1, 0.5)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/locks", {"agent_id": "a"}, 422, "resource_id"),
        ("POST", "/locks", wish(""), 422, "resource_id"),
        ("POST", "/locks", wish("x" * 201), 422, "resource_id"),
        ("POST", "/locks", wish("x" * 1_048_576), 413, "body"),
        ("POST", "/locks", wish("two words"), 422, "resource_id"),
        ("POST", "/locks", wish("r", ""), 422, "agent_id"),
        ("POST", "/locks", wish("r", timeout=0.5), 422, "timeout"),
        ("POST", "/locks", wish("r", timeout=3601), 422, "timeout"),
        ("POST", "/locks", wish("r", wait_timeout=-1), 422, "wait_timeout"),
        ("POST", "/locks", wish("r", wait_timeout=86_401), 422, "wait_timeout"),
        ("POST", "/locks", wish("r", reason="x" * 8_001), 422, "reason"),
        ("POST", "/locks", wish("r", metadata={"x": "y" * 20_000}), 413, "metadata"),
        ("POST", "/locks", wish("r", colour="red"), 422, "colour"),
        ("POST", "/locks/force-release", {"resource_id": "r", "admin_agent_id": "a"}, 422, "reason"),
        ("POST", "/locks/force-release", {"resource_id": "r", "admin_agent_id": "a", "reason": ""}, 422, "reason"),
        (
            "POST",
            "/locks/force-release",
            {"resource_id": "r", "admin_agent_id": "a", "reason": "x", "grace": -1},
            422,
            "grace",
        ),
        ("POST", "/locks/some-lock/renew", {"timeout": 0}, 422, "timeout"),
        ("POST", "/locks/some-lock/renew", {"timeout": "5"}, 422, "timeout"),
        ("POST", "/locks/some-lock/renew", {"timeout": True}, 422, "timeout"),
        ("POST", "/locks/a%20b/renew", {}, 422, "lock_id"),
        ("DELETE", "/locks/some-lock", {"agent_id": "two words"}, 422, "agent_id"),
    ],
)
async def test_bad_input_is_a_problem_naming_the_field_and_nothing_is_written(
    api: httpx.AsyncClient, memory: Team, method: str, path: str, body: Any, status: int, field: str
) -> None:
    def written() -> int:
        return sum(
            record.key is not None and not record.key.startswith(b"tick-")
            for partition in range(6)
            for record in memory.log.records("locks.commands", partition)
        )

    before = written()
    answer = await api.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == field
    assert len(answer.text) < 1_000
    assert written() == before


async def test_what_is_no_place_in_a_trace_does_not_reach_the_log(
    api: httpx.AsyncClient, memory: Team, resource: str
) -> None:
    """It would stand in the header of every event the command leads to, and of those there may be two hundred."""
    place = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for given, expected in ((place, place), ("x" * 8_000, None), (f"{place}-{'x' * 8_000}", None)):
        lock = await api.post("/locks", json=wish(resource), headers={"traceparent": given})
        position = Position.parse(lock.json()["position"])
        record = memory.log.records(position.topic, position.partition)[position.offset]
        assert header(record.headers, "traceparent") == expected
        await api.delete(f"/locks/{lock.json()['lock_id']}")


async def test_unknown_locks_are_404_and_those_of_others_409(api: httpx.AsyncClient, resource: str) -> None:
    for method, path in (("POST", "/locks/nothing/renew"), ("DELETE", "/locks/nothing"), ("GET", "/locks/nothing")):
        answer = await api.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    lock = await granted(api, resource)
    path = f"/locks/{lock['lock_id']}"
    for method, where in (("POST", f"{path}/renew"), ("DELETE", path)):
        refused = await api.request(method, where, json={"agent_id": "agent-2"})
        assert (refused.status_code, refused.json()["code"]) == (409, "not_holder")
    wrong = await api.delete(path, params={"resource_id": "another"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "resource_id")
    assert (await api.get(path)).json()["status"] == "held"


async def test_a_full_queue_refuses_and_changes_nothing(api: httpx.AsyncClient, resource: str) -> None:
    await granted(api, resource)
    body = wish(resource, "crowd", wait_timeout=60)
    answers = await asyncio.gather(*(api.post("/locks", json=body) for _ in range(203)))
    refused = [answer for answer in answers if answer.status_code != 202]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(409, "queue_full")] * 3
    queue = (await api.get("/locks/queue", params={"resource_id": resource, "limit": 1000})).json()
    assert len(queue) == 200
