"""What the HTTP routes promise: writes reach the log once, what is wrong is named, the stream repeats nothing."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import uvicorn

from diurna.testing import Team, team
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
def name() -> str:
    return f"agent-{uuid.uuid4().hex[:8]}"


def registration(name: str, **fields: Any) -> dict[str, Any]:
    return {"agent_id": name, "agent_name": name, "capabilities": [{"name": "review", "tags": ["code"]}], **fields}


def asked(target: str, request_type: str = "get_status", **fields: Any) -> dict[str, Any]:
    return {"source_agent": "tester", "target_agent": target, "request_type": request_type, **fields}


async def test_a_registered_agent_is_found_and_a_deregistered_one_is_not(api: httpx.AsyncClient, name: str) -> None:
    answer = await api.post("/register", json=registration(name, metadata={"team": "blue"}))
    assert answer.status_code == 200
    assert answer.json()["agent_id"] == name
    assert Position.parse(answer.json()["position"]).topic == "agents.events"
    found = (await api.get(f"/agents/{name}")).json()
    assert (found["status"], found["metadata"]) == ("active", {"team": "blue"})

    changed = await api.patch(f"/agents/{name}/status", json={"status": "busy"})
    assert (changed.status_code, changed.json()["status"]) == (200, "busy")
    assert (await api.get(f"/agents/{name}")).json()["status"] == "busy"

    beat = await api.post(f"/agents/{name}/heartbeat", json={})
    assert beat.json()["position"].startswith("agents.heartbeats:")

    assert (await api.delete(f"/agents/{name}")).status_code == 200
    assert (await api.get(f"/agents/{name}")).status_code == 404


async def test_the_same_key_gives_the_first_answer_and_writes_nothing(
    api: httpx.AsyncClient, memory: Team, name: str
) -> None:
    headers = {"Idempotency-Key": f"key-{name}"}
    first = await api.post("/register", json=registration(name), headers=headers)
    again = await api.post("/register", json=registration(name), headers=headers)
    assert again.json() == first.json()
    registered = [event for event in memory.events() if event["type"] == "agent.registered"]
    assert len([event for event in registered if event["agent_id"] == name]) == 1
    for number in range(8):  # some of them share a partition with the first
        other = await api.post("/register", json=registration(f"{name}-{number}"), headers=headers)
        assert other.json()["agent_id"] == f"{name}-{number}"
        assert (await api.get(f"/agents/{name}-{number}")).status_code == 200, "it was told so, and is not registered"

    event = {"event_type": "test.once", "data": {"name": name}}
    first = await api.post("/events", json=event, headers=headers)
    again = await api.post("/events", json=event, headers=headers)
    assert (first.status_code, again.json()) == (201, first.json())
    told = [event for event in memory.events("broadcasts") if json.dumps(event["data"]).find(name) >= 0]
    assert len(told) == 1


async def test_a_request_over_http_is_answered(api: httpx.AsyncClient, memory: Team, name: str) -> None:
    async with memory.agent(name).running():
        headers = {"Idempotency-Key": f"ask-{name}"}
        answer = await api.post("/agent-request", json=asked(name), headers=headers)
        again = await api.post("/agent-request", json=asked(name), headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    assert answer.json()["result"]["agent_id"] == name
    assert again.json() == answer.json()


async def test_nobody_there_is_an_answer_of_its_own(api: httpx.AsyncClient, name: str) -> None:
    answer = await api.post("/agent-request", json=asked(name))
    assert (answer.status_code, answer.json()["status"]) == (200, "rejected")
    assert answer.json()["error"].startswith(f"agent offline: {name}")
    refused = await api.post("/requests", json=asked(name))
    assert (refused.status_code, refused.json()["code"]) == (409, "agent_offline")
    assert refused.headers["content-type"] == "application/problem+json"
    assert "agent offline" in refused.json()["detail"]


async def test_a_submitted_request_can_be_looked_at_and_cancelled(
    api: httpx.AsyncClient, memory: Team, name: str
) -> None:
    agent = memory.agent(name)

    @agent.on_request("wait")
    async def wait(request: Any) -> None:
        await asyncio.Event().wait()

    async with agent.running():
        submitted = await api.post("/requests", json=asked(name, "wait"))
        assert submitted.status_code == 202
        assert submitted.headers["location"] == f"/requests/{submitted.json()['request_id']}"
        assert (await api.get(submitted.headers["location"])).json()["status"] in {"submitted", "dispatched"}
        await eventually(lambda: agent.in_flight == 1)
        cancelled = await api.post(f"{submitted.headers['location']}/cancel", json={"cancelled_by": "tester"})
        assert cancelled.status_code == 200
        await eventually(lambda: agent.in_flight == 0)
        assert (await api.get(submitted.headers["location"])).json()["status"] == "cancelled"
        again = await api.post(f"{submitted.headers['location']}/cancel")
        assert again.status_code == 409


async def test_the_target_any_goes_to_an_agent_with_the_capability(
    api: httpx.AsyncClient, memory: Team, name: str
) -> None:
    capability = f"skill-{name}"
    async with memory.agent(name, capabilities=[capability]).running():
        answer = await api.post("/agent-request", json=asked("any", payload={"capability": capability}))
    assert answer.json()["source_agent"] == name
    answer = await api.post("/agent-request", json=asked("any", payload={"capability": capability}))
    assert (answer.json()["status"], answer.json()["metadata"]["code"]) == ("rejected", "agent_offline")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/register", {"agent_id": "a b", "agent_name": "x"}, 422, "agent_id"),
        ("POST", "/register", {"agent_id": "a", "agent_name": "x", "colour": 1}, 422, "colour"),
        ("POST", "/register", {"agent_id": "a", "agent_name": "x", "status": "sleepy"}, 422, "status"),
        ("POST", "/register", "text", 422, "body"),
        ("POST", "/agent-request", {**asked("a"), "timeout_seconds": -3}, 422, "timeout_seconds"),
        ("POST", "/agent-request", {**asked("a"), "timeout_seconds": "3"}, 422, "timeout_seconds"),
        ("POST", "/agent-request", {**asked("a"), "attempts_max": True}, 422, "attempts_max"),
        ("POST", "/register", {"agent_id": "a", "agent_name": "x", "concurrency": "2"}, 422, "concurrency"),
        ("POST", "/agent-request", {**asked("a"), "request_id": "a\tb"}, 422, "request_id"),
        ("POST", "/agent-request", {**asked("a"), "request_type": "a\tb"}, 422, "request_type"),
        ("POST", "/agent-request", {**asked("a"), "payload": {"x": "y" * 262_144}}, 413, "payload"),
        ("POST", "/requests", {**asked("a"), "metadata": {"x": "y" * 20_000}}, 413, "metadata"),
        ("POST", "/requests", {"source_agent": "tester"}, 422, "target_agent"),
        ("POST", "/events", {"event_type": "no spaces"}, 422, "event_type"),
        ("POST", "/events", {"event_type": "x", "data": {"x": "y" * 800_000}}, 413, "body"),
        ("POST", "/workflows", {"workflow_type": "x", "timeout_seconds": 0}, 422, "timeout_seconds"),
        ("POST", "/workflows", {"workflow_type": "x", "workflow_id": "a/b"}, 422, "workflow_id"),
        ("PATCH", "/agents/a/status", {"status": "stale"}, 422, "status"),
        ("GET", "/events/stream?topic=agents.commands", None, 422, "topic"),
        ("GET", "/events/stream?after=agents.events:0:99999999", None, 422, "after"),
        ("GET", "/events/stream?after=nonsense", None, 422, "after"),
    ],
)
async def test_bad_input_is_a_problem_naming_the_field_and_nothing_is_written(
    api: httpx.AsyncClient, memory: Team, method: str, path: str, body: Any, status: int, field: str
) -> None:
    before = sum(len(memory.log.records("agents.commands", partition)) for partition in range(6))
    answer = await api.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["errors"][0]["field"] == field
    assert sum(len(memory.log.records("agents.commands", partition)) for partition in range(6)) == before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/agents/nobody", None),
        ("PATCH", "/agents/nobody/status", {"status": "idle"}),
        ("POST", "/agents/nobody/heartbeat", {}),
        ("POST", "/requests/nothing/cancel", {}),
        ("POST", "/workflows/nothing/cancel", {}),
        ("POST", "/approvals/nothing/approve", {}),
    ],
)
async def test_unknown_ids_are_404(api: httpx.AsyncClient, method: str, path: str, body: Any) -> None:
    answer = await api.request(method, path, json=body)
    assert (answer.status_code, answer.json()["status"]) == (404, 404)


@pytest.mark.parametrize("name", ["team/42", "a/cancel", "a%2Fb?c#d"])
async def test_ids_that_hold_what_paths_are_made_of_have_addresses(
    api: httpx.AsyncClient, memory: Team, name: str
) -> None:
    worker = memory.agent("slow-for-odd-ids")

    @worker.on_request("wait")
    async def wait(_: Any) -> None:
        await asyncio.Event().wait()

    async with worker.running():
        request_id = f"{name}-{uuid.uuid4().hex}"
        asking = await api.post("/requests", json={**asked("slow-for-odd-ids", "wait"), "request_id": request_id})
        place = asking.headers["location"]
        assert place == f"/requests/{quote(request_id, safe='')}"
        await eventually(lambda: bool(memory.reads.tables.requests.group(request_id)))
        assert (await api.get(place)).json()["request_id"] == request_id
        cancelled = await api.post(f"{place}/cancel")
        assert (cancelled.status_code, cancelled.json().get("request_id")) == (200, request_id)


async def test_a_workflow_is_a_request_to_the_orchestrator_and_waits_for_approval(
    api: httpx.AsyncClient, memory: Team
) -> None:
    from diurna_schemas.workflows import CreateWorkflow, RequestApproval

    orchestrator = memory.agent("orchestrator")
    seen: list[dict[str, Any]] = []

    @orchestrator.on_request("execute_task")
    async def execute(request: Any) -> str:
        seen.append((request.payload, request.timeout_seconds))
        workflow_id = request.payload["workflow_id"]
        await memory.connection.ask(
            CreateWorkflow(command_id=uuid.uuid4().hex, workflow_id=workflow_id, workflow_type="pr_deployment")
        )
        await memory.connection.ask(
            RequestApproval(
                command_id=uuid.uuid4().hex,
                workflow_id=workflow_id,
                approval_id=f"{workflow_id}-1",
                question="Ship it?",
            )
        )
        return "asked"

    body = {"workflow_type": "pr_deployment", "input": {"repo": "x"}}
    async with orchestrator.running():
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        started = await api.post("/workflows", json=body, headers=headers)
        again = await api.post("/workflows", json=body, headers=headers)
        assert started.status_code == 202
        assert again.json() == started.json()
        workflow_id = started.json()["workflow_id"]
        await eventually(lambda: bool(memory.reads.tables.approvals.group(f"{workflow_id}-1")))
        approved = await api.post(f"/approvals/{workflow_id}-1/approve", json={"decided_by": "anna"})
        assert approved.status_code == 200, approved.text
        assert approved.json()["workflow_id"] == workflow_id
        rejected = await api.post(f"/approvals/{workflow_id}-1/reject", json={"decided_by": "bob"})
        assert rejected.status_code == 409, rejected.text
        assert (await api.post(f"/workflows/{workflow_id}/cancel")).status_code == 200
    payload = {"workflow_type": "pr_deployment", "workflow_id": workflow_id, "input": {"repo": "x"}}
    assert seen == [(payload, 7 * 86_400)], "a person may be asked in between, and take days"


@asynccontextmanager
async def served(memory: Team) -> AsyncIterator[httpx.AsyncClient]:
    """The API on a real socket: a stream that is left halfway needs a connection that breaks."""
    server = uvicorn.Server(uvicorn.Config(memory.app, port=0, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield client
    finally:
        server.should_exit = True
        await task


async def streamed(client: httpx.AsyncClient, count: int, last: str | None, **filters: str) -> list[tuple[str, Any]]:
    """The next `count` events of a stream: each id and event."""
    found: list[tuple[str, Any]] = []
    headers = {"Last-Event-ID": last} if last else {}
    async with client.stream("GET", "/events/stream", params=filters, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        current = ""
        async for line in response.aiter_lines():
            if line.startswith("id: "):
                current = line[4:]
            elif line.startswith("data: "):
                found.append((current, json.loads(line[6:])))
                if len(found) == count:
                    break
    return found


async def test_a_stream_taken_up_again_leaves_out_and_repeats_nothing(memory: Team) -> None:
    correlation_id = f"story-{uuid.uuid4().hex[:8]}"
    async with served(memory) as client, memory.bus() as bus:
        for number in range(3):
            await bus.emit("test.before", {"number": number}, correlation_id=correlation_id)
        position = await bus.emit("test.anchor", {}, correlation_id=correlation_id)

        async def tell(count: int, first: int) -> None:
            for number in range(first, first + count):
                # Types spread over the partitions.
                await bus.emit(f"test.kind-{number % 7}", {"number": number}, correlation_id=correlation_id)

        await tell(40, 0)
        # After one plain position: what came after it. Then always from the id of the last event that was read.
        events: list[Any] = []
        last = str(position)
        for count in (1, 7, 2, 15, 10, 5):
            some = await streamed(client, count, last, correlation_id=correlation_id)
            events += [event for _, event in some]
            last = some[-1][0]
        assert sorted(event["data"]["number"] for event in events) == list(range(40))

        await tell(5, 40)
        rest = await streamed(client, 5, last, correlation_id=correlation_id)
        assert sorted(event["data"]["number"] for _, event in rest) == list(range(40, 45))


async def test_a_stream_is_live_and_filtered(memory: Team, name: str) -> None:
    async with served(memory) as client:
        reading = asyncio.create_task(streamed(client, 1, None, type="agent.registered", subject=name))
        noise = memory.bus()
        async with noise:
            while not reading.done():
                await noise.emit("test.noise", {})
                agent = memory.agent(name)
                async with agent.running():
                    await asyncio.wait([reading], timeout=0.2)
        ((_, event),) = await reading
    assert (event["type"], event["data"]["agent_id"]) == ("agent.registered", name)
    assert event["position"].startswith("agents.events:")
