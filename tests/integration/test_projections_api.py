"""The read routes over a real Postgres: shapes, filters, pages, positions, and what bad input is answered."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from diurna_projections import paging
from diurna_projections.advance import understood
from diurna_projections.api import HotReads, install_problems, read_router
from diurna_projections.memory import MemoryTables
from diurna_projections.queries import Queries
from diurna_projections.store import Store
from diurna_schemas.records import DeadLetterSettled
from diurna_schemas.topics import AGENTS
from support.projecting import History


class Reads:
    """A projected history and a client of the routes over it."""

    def __init__(self, history: History, store: Store, queries: Queries, client: httpx.AsyncClient) -> None:
        self.history = history
        self.store = store
        self.queries = queries
        self.client = client
        self._projected = 0

    async def project(self) -> str:
        """Projects what is new and returns the last position."""
        new = self.history.records[self._projected :]
        self._projected = len(self.history.records)
        await self.store.apply(understood(self.history.codec, new))
        return str(new[-1].position)

    async def get(self, path: str, expected: int = 200, /, **parameters: Any) -> Any:
        response = await self.client.get(path, params=parameters)
        assert response.status_code == expected, response.text
        if expected >= 400:
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["status"] == expected
        return response.json()


@pytest.fixture(scope="module")
async def reads(database_url: str) -> AsyncIterator[Reads]:
    history = History(at_ms=int(time.time() * 1000) - 5_000)
    store = await Store.connect(database_url)
    await store.migrate()
    queries = await Queries.connect(database_url, history.codec)
    app = FastAPI()
    app.add_middleware(HotReads, queries=queries)
    app.include_router(read_router(queries))
    install_problems(app)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://reads") as client:
        found = Reads(history, store, queries, client)
        for number in range(5):
            history.registered(f"agent-{number}", f"agent-{number}:one", "review_code" if number else "deploy_service")
        history.heartbeat("agent-1", "agent-1:one")
        request = history.request("request-1", "agent-1", "work-1")
        history.submitted(request)
        history.completed(request, '{"approved":true}')
        history.rejected(history.request("request-2", "agent-2", "work-1"))
        history.submitted(history.request("request-3", "agent-3", "work-2"))
        history.workflow_created("workflow-1")
        history.workflow_updated("workflow-1", 2, '{"a":1}')
        history.workflow_step("workflow-1", 3, "testing")
        history.approval_requested("workflow-1", "approval-1")
        history.workflow_created("workflow-2", '{"a":{"b":1}}')
        for version in range(2, 8):
            history.workflow_updated("workflow-2", version, f'{{"a":{{"v{version}":{version}}}}}')
            history.workflow_checkpoint("workflow-2", version, f"checkpoint-{version}", f'{{"at":{version}}}')
        history.workflow_restored("workflow-2", 8, "checkpoint-3", '{"a":{"b":1,"v2":2,"v3":3},"at":3}')
        history.workflow_completed("workflow-2", 9)
        history.broadcast("task.progress", {"percent": 50}, "work-1")
        history.poison("agents.events", 0)
        await found.project()
        yield found
    await queries.close()
    await store.close()


async def test_an_agent_is_shown_as_the_registry_promises(reads: Reads) -> None:
    agent = await reads.get("/agents/agent-1")
    assert agent["agent_name"] == "Agent-1"
    assert agent["status"] == "active"
    assert agent["capabilities"][0]["name"] == "review_code"
    assert agent["capabilities"][0]["parameters"] == {}
    assert agent["metadata"] == {"zone": "a"}
    assert agent["last_heartbeat"].endswith("Z")
    assert agent["instances"][0]["instance_id"] == "agent-1:one"
    assert agent["instances"][0]["in_flight"] == 1


async def test_the_short_way_and_the_routed_one_answer_the_same(reads: Reads) -> None:
    for path in ("/agents/agent-1", "/agents/nobody", "/agents/a%00b", "/health/nobody"):
        short, routed = await reads.client.get(path), await reads.client.get(path, params={"routed": "1"})
        assert (short.status_code, short.text) == (routed.status_code, routed.text)
        assert short.headers["content-type"] == routed.headers["content-type"]
        assert short.headers.get("Diurna-Positions") == routed.headers.get("Diurna-Positions")


async def test_agents_are_listed_filtered_and_paged(reads: Reads) -> None:
    assert [agent["agent_id"] for agent in await reads.get("/agents")] == [f"agent-{n}" for n in range(5)]
    assert len(await reads.get("/agents", capability="deploy_service")) == 1
    assert await reads.get("/agents", status="offline") == []
    seen: list[str] = []
    path: str | None = "/agents?limit=2"
    while path is not None:
        response = await reads.client.get(path)
        seen += [agent["agent_id"] for agent in response.json()]
        path = response.links["next"]["url"] if "next" in response.links else None
    assert seen == [f"agent-{n}" for n in range(5)]


async def test_health_is_computed_from_the_last_heartbeat_when_it_is_read(reads: Reads) -> None:
    healthy = await reads.get("/health/agent-1")
    assert healthy["is_healthy"] is True
    assert 0 <= healthy["seconds_since_heartbeat"] < 60
    late = Queries(reads.queries.database, reads.history.codec, clock_ms=lambda: int(time.time() * 1000) + 120_000)
    assert b'"is_healthy" : false' in (await late.agent_health("agent-1")).body
    assert b'"status" : "stale"' in (await late.agent_health("agent-1")).body
    assert await late.able("review_code") == []


async def test_able_agents_come_with_their_load_the_least_loaded_first(reads: Reads) -> None:
    able = await reads.queries.able("review_code")
    assert {agent.agent_id: agent.open_requests for agent in able} == {
        "agent-1": 0,
        "agent-2": 0,
        "agent-3": 1,
        "agent-4": 0,
    }
    assert able[-1].agent_id == "agent-3"
    assert able[0].concurrency == 2


async def test_capabilities_are_found_by_words(reads: Reads) -> None:
    found = await reads.get("/capabilities/search", q="REVIEW python")
    assert [match["agent_id"] for match in found] == [f"agent-{n}" for n in range(1, 5)]
    assert found[0]["capability"] == "review_code"
    assert found[0]["tags"] == ["python"]
    assert await reads.get("/capabilities/search", q="100%_") == []
    page = await reads.client.get("/capabilities/search", params={"q": "REVIEW python", "limit": 3})
    following = await reads.client.get(page.links["next"]["url"])
    assert page.json() + following.json() == found


async def test_a_request_is_shown_with_the_answer_its_requester_got(reads: Reads) -> None:
    request = await reads.get("/requests/request-1")
    assert request["status"] == "completed"
    assert request["payload"] == {"path": "a.py"}
    assert request["response"]["status"] == "success"
    assert request["response"]["result"] == {"approved": True}
    assert request["response"]["target_agent"] == "tester"
    assert (await reads.get("/requests/request-2"))["response"]["error"] == "agent offline: x"
    assert (await reads.get("/requests/request-3"))["response"] is None


async def test_requests_are_filtered(reads: Reads) -> None:
    assert [one["request_id"] for one in await reads.get("/requests", status="rejected")] == ["request-2"]
    assert [one["request_id"] for one in await reads.get("/requests", correlation_id="work-2")] == ["request-3"]
    assert [one["request_id"] for one in await reads.get("/requests")] == ["request-3", "request-2", "request-1"]
    request = await reads.get("/requests/request-3")
    assert await reads.queries.agent_of_request("request-3") == "agent-3"
    by_command = await reads.queries.request_of_command(request["command_id"])
    assert by_command is not None
    assert by_command["request_id"] == "request-3"


async def test_a_workflow_its_history_and_its_approvals_are_shown(reads: Reads) -> None:
    workflow = await reads.get("/workflows/workflow-1")
    assert workflow["version"] == 3
    assert workflow["state_data"] == {"step": 0, "a": 1}
    assert workflow["current_step"] == "testing"
    history = await reads.get("/workflows/workflow-1/history")
    assert [event["type"] for event in history][:3] == [
        "workflow.created",
        "workflow.state_updated",
        "workflow.step_changed",
    ]
    assert history[1]["data"]["updates"] == {"a": 1}
    assert (await reads.get("/approvals", status="pending"))[0]["approval_id"] == "approval-1"
    assert await reads.queries.workflow_of_approval("approval-1") == "workflow-1"


async def test_any_version_of_a_workflow_is_folded_from_its_events(reads: Reads) -> None:
    response = await reads.client.get("/workflows/workflow-2")
    assert response.headers["ETag"] == '"9"'
    newest = response.json()
    assert newest["state_data"] == {"a": {"b": 1, "v2": 2, "v3": 3}, "at": 3, "last": {"word": True}}
    assert await reads.get("/workflows/workflow-2", version=9) == newest
    expected: dict[str, int] = {"b": 1}
    for version in range(1, 8):
        expected |= {f"v{version}": version} if version > 1 else {}
        found = await reads.get("/workflows/workflow-2", version=version)
        assert (found["version"], found["state_data"], found["status"]) == (version, {"a": expected}, "running")
        assert set(found) == set(newest)
    restored = await reads.get("/workflows/workflow-2", version=8)
    assert (restored["state_data"], restored["current_step"]) == ({"a": {"b": 1, "v2": 2, "v3": 3}, "at": 3}, "testing")
    assert "version 10" in (await reads.get("/workflows/workflow-2", 404, version=10))["detail"]


async def test_the_versions_of_a_workflow_begin_anew_where_its_id_is_used_again(reads: Reads) -> None:
    history = reads.history
    history.workflow_created("workflow-3", '{"life":1}')
    history.workflow_updated("workflow-3", 2, '{"old":true}')
    history.workflow_completed("workflow-3", 3)
    history.workflow_removed("workflow-3", 3)
    await reads.project()
    await reads.get("/workflows/workflow-3", 404)
    await reads.get("/workflows/workflow-3", 404, version=2)
    history.workflow_created("workflow-3", '{"life":2}')
    history.workflow_updated("workflow-3", 2, '{"new":true}')
    history.workflow_updated("workflow-3", 3, '{"newer":true}')
    await reads.project()
    assert (await reads.get("/workflows/workflow-3", version=2))["state_data"] == {"life": 2, "new": True}
    assert len(await reads.get("/workflows/workflow-3/history")) == 7, "the record of the first life stays"


async def test_checkpoints_are_listed_the_newest_first_and_shown_with_their_states(reads: Reads) -> None:
    found = await reads.get("/workflows/workflow-2/checkpoints")
    assert [one["checkpoint_id"] for one in found] == [f"checkpoint-{version}" for version in range(7, 1, -1)]
    assert (found[0]["data"], found[0]["step_name"], found[0]["version"]) == ({"at": 7}, "testing", 7)
    page = await reads.client.get("/workflows/workflow-2/checkpoints", params={"limit": 4})
    following = (await reads.client.get(page.links["next"]["url"])).json()
    assert page.json() + following == found
    whole = await reads.get("/workflows/workflow-2/checkpoints/checkpoint-3")
    assert whole["state_data"] == {"a": {"b": 1, "v2": 2, "v3": 3}}
    assert await reads.get("/workflows/workflow-1/checkpoints") == []


async def test_workflows_are_counted_by_type_and_status(reads: Reads) -> None:
    (found,) = [one for one in await reads.get("/workflow-statistics") if one["workflow_type"] == "pr_deployment"]
    assert (found["total"], found["completed"], found["failed"]) == (found["running"] + 1, 1, 0)
    assert found["average_seconds"] > 0


async def test_what_was_over_by_a_time_is_found(reads: Reads) -> None:
    ended = (await reads.get("/workflows/workflow-2"))["completed_at"]
    assert [one["workflow_id"] for one in await reads.get("/workflows", ended_before=ended)] == ["workflow-2"]
    assert await reads.get("/workflows", ended_before="2020-01-01T00:00:00Z") == []


async def test_a_timeline_holds_every_event_of_a_piece_of_work_in_order(reads: Reads) -> None:
    timeline = await reads.get("/timeline/work-1")
    assert [event["type"] for event in timeline] == [
        "request.submitted",
        "request.dispatched",
        "request.completed",
        "request.rejected",
        "task.progress",
    ]
    assert timeline[-1]["data"] == {"percent": 50}
    assert timeline[0]["data"]["request"]["payload"] == {"path": "a.py"}
    assert [event["time"] for event in timeline] == sorted(event["time"] for event in timeline)


async def test_events_are_filtered_and_continue_after_a_position(reads: Reads) -> None:
    events = await reads.get("/events")
    counted = MemoryTables(reads.history.codec)
    counted.apply(reads.history.records)
    assert {event["position"] for event in events} == {
        f"{row.topic}:{row.partition}:{row.record_offset}" for row in counted.tables.events
    }
    after = await reads.get("/events", after=events[9]["position"])
    assert [event["position"] for event in after] == [event["position"] for event in events[10:]]
    backwards = await reads.client.get("/events", params={"after": events[9]["position"], "order": "desc", "limit": 3})
    assert [event["position"] for event in backwards.json()] == [event["position"] for event in events[:-4:-1]]
    while "next" in backwards.links:
        backwards = await reads.client.get(backwards.links["next"]["url"])
    assert backwards.json()[-1]["position"] == events[10]["position"], "it goes back to that position, and not beyond"
    newest = await reads.get("/events", order="desc", limit=1)
    assert newest[0]["position"] == events[-1]["position"]
    completed = await reads.get("/events", type="request.completed")
    assert (await reads.queries.answer_to(completed[0]["causation_id"])) == completed[0]
    assert await reads.get("/events", command_id=completed[0]["causation_id"]) == completed


async def test_dead_letters_show_what_was_wrong_and_the_bytes(reads: Reads) -> None:
    (letter,) = await reads.get("/dead-letters")
    assert letter["id"].startswith("agents.events:0:")
    assert letter["error_type"] == "Unreadable"
    assert letter["value_base64"] == "bm8gYXZybyBhdCBhbGw="
    assert (letter["value_bytes"], letter["is_cut"]) == (14, False)
    assert await reads.get(f"/dead-letters/{letter['id']}") == letter
    settled = DeadLetterSettled(
        topic=AGENTS.commands, partition=0, offset=7, verdict="discarded", settled_by="ada", reason="", at_ms=1
    )
    record = reads.history.append(AGENTS.dead_letters, 1, b"x", reads.history.codec.encode(settled), ())
    await reads.project()
    shown = await reads.client.get("/dead-letters", params={"min_position": str(record.position)})
    assert shown.headers["Diurna-Positions"] == str(record.position)


async def test_a_read_waits_for_the_position_it_was_given(reads: Reads) -> None:
    record = reads.history.registered("late-agent", "late-agent:one")
    waiting = asyncio.create_task(reads.client.get("/agents/late-agent", params={"min_position": str(record.position)}))
    while not reads.queries._waiting._waiters:  # noqa: ASYNC110 - the read must be waiting before the write
        await asyncio.sleep(0)
    await reads.project()
    response = await waiting
    assert response.status_code == 200
    assert response.headers["Diurna-Positions"] == str(record.position)
    await reads.get("/agents", min_position=response.headers["Diurna-Positions"])


async def test_a_position_that_never_comes_is_a_timeout_that_says_so(
    reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diurna_projections.api.answers.WAIT_SECONDS_MAX", 0.05)
    problem = await reads.get("/agents", 504, min_position="agents.events:0:999999")
    assert "agents.events:0:999999" in problem["detail"]


async def test_projections_tell_positions_checksums_and_heads(reads: Reads) -> None:
    (projection,) = await reads.get("/projections")
    assert projection["dead_letters"] == 1
    assert set(projection["checksums"]) >= {"agents", "requests", "events"}
    heads = await reads.get("/projections/heads")
    by_place = {(head["topic"], head["partition"]): head for head in heads}
    for place, head in (await reads.store.heads()).items():
        if place[0].endswith(".events"):
            assert by_place[place]["hash"] == head.hash
            assert by_place[place]["next"] == head.next_offset
    assert (await reads.get("/health"))["status"] == "healthy"
    assert (await reads.get("/readyz"))["status"] == "ready"
    assert (await reads.client.get("/metrics")).status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "named"),
    [
        ("/agents/nobody", 404, "nobody"),
        ("/health/nobody", 404, "nobody"),
        ("/requests/nothing", 404, "nothing"),
        ("/workflows/nothing", 404, "nothing"),
        ("/workflows/nothing/history", 404, "nothing"),
        ("/workflows/nothing/checkpoints", 404, "nothing"),
        ("/workflows/workflow-2/checkpoints/nothing", 404, "nothing"),
        ("/workflows/workflow-2?version=0", 422, "version"),
        ("/workflows/workflow-2?version=two", 422, "version"),
        ("/workflows?ended_before=yesterday", 422, "ended_before"),
        ("/timeline/nothing", 404, "nothing"),
        ("/no/such/route", 404, "Not Found"),
        ("/agents/a%00b", 422, "agent_id"),
        ("/requests/a%0ab", 422, "request_id"),
        ("/requests?limit=0", 422, "limit"),
        ("/agents?limit=-1", 422, "limit"),
        ("/agents?limit=1001", 422, "limit"),
        ("/agents?status=sleepy", 422, "status"),
        ("/agents?capability=a%00", 422, "capability"),
        ("/requests?status=sleepy", 422, "status"),
        ("/requests?source_agent=a%00b", 422, "source_agent"),
        ("/requests?cursor=%21%21", 422, "cursor"),
        ("/requests?cursor=bnVsbA", 422, "cursor"),
        ("/locks?cursor=" + paging.cursor_of(["a\x00"]), 422, "cursor"),
        ("/capabilities/search?cursor=" + paging.cursor_of(["a\x00", "b"]), 422, "cursor"),
        (f"/events?cursor={paging.cursor_of([1, 'locks.events', 2**31, 1])}", 422, "cursor"),
        ("/events?after=here", 422, "after"),
        ("/events?after=locks.events:9999999999:0", 422, "after"),
        ("/events?min_position=agents.events:x:1", 422, "min_position"),
        ("/events?min_position=agents.commands:0:1", 422, "min_position"),
        ("/events?min_position=agents.events:6:1", 422, "min_position"),
    ],
)
async def test_bad_input_and_unknown_ids_are_problems_that_name_what_was_wrong(
    reads: Reads, path: str, status: int, named: str
) -> None:
    response = await reads.client.get(path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert named in response.json()["detail"]


async def test_every_hot_route_stands_in_the_openapi_once(reads: Reads) -> None:
    paths = (await reads.client.get("/openapi.json")).json()["paths"]
    assert all(list(paths[path]) == ["get"] for path in ("/agents", "/agents/{agent_id}", "/health/{agent_id}"))


async def test_a_question_is_closed_with_its_workflow_and_asked_again_in_another(reads: Reads) -> None:
    history = reads.history
    for workflow_id in ("workflow-8", "workflow-9"):
        history.workflow_created(workflow_id)
        history.approval_requested(workflow_id, "approval-9")
    history.workflow_completed("workflow-8", 2)
    await reads.project()
    for workflow_id, status in (("workflow-8", "closed"), ("workflow-9", "pending")):
        assert [one["status"] for one in await reads.get("/approvals", workflow_id=workflow_id)] == [status]
    assert await reads.get("/approvals", workflow_id="workflow-8", status="pending") == []
    assert await reads.queries.workflow_of_approval("approval-9") == "workflow-9"
    history.workflow_removed("workflow-8", 2)
    history.workflow_created("workflow-8")  # another one of the same id, which asks nothing
    await reads.project()
    assert [one["status"] for one in await reads.get("/approvals", workflow_id="workflow-8")] == ["closed"]


async def test_a_list_shows_the_beginning_of_a_large_dead_letter_and_its_own_address_all_of_it(reads: Reads) -> None:
    large = reads.history.append("broadcasts", 0, b"k" * 5_000, b"v" * 600_000, (("h", b"h" * 200_000),))
    await reads.project()
    listed = next(one for one in await reads.get("/dead-letters") if one["id"] == str(large.position))
    assert (listed["value_bytes"], listed["is_cut"], listed["headers"]) == (600_000, True, {})
    assert (len(listed["key"]), len(base64.b64decode(listed["value_base64"]))) == (1_024, 1_024)
    whole = await reads.get(f"/dead-letters/{large.position}")
    assert base64.b64decode(whole["value_base64"]) == b"v" * 600_000
    assert (whole["is_cut"], len(whole["headers"]["h"])) == (False, 200_000)
    assert (await reads.client.get("/dead-letters/broadcasts:0:99")).status_code == 404
    assert (await reads.client.get("/dead-letters/nonsense")).status_code == 422
