"""The orchestrator in a team: it finds agents, hands them subtasks, says so on the log, and joins what comes back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import diurna.testing
from diurna import AgentRequestEvent, AgentResponseEvent, EventBus, Rejected
from diurna.testing import Team
from diurna_agents import team as members
from diurna_agents.surroundings import Surroundings
from diurna_agents.workspace import Workspace
from support.stack import eventually


class Office:
    """An orchestrator, and agents a test puts beside it."""

    def __init__(self, team: Team, stack: AsyncExitStack, bus: EventBus) -> None:
        self.team, self.bus = team, bus
        self._stack = stack
        self.seen: list[tuple[str, Any]] = []

    async def hire(self, agent_id: str, request_type: str, work: Any, **options: Any) -> Any:
        agent = self.team.agent(agent_id, **options)
        agent.on_request(request_type)(self._noting(agent_id, work))
        return await self._stack.enter_async_context(agent.running())

    def _noting(self, agent_id: str, work: Any) -> Any:
        async def noted(request: AgentRequestEvent) -> Any:
            self.seen.append((agent_id, request.payload))
            return await work(request)

        return noted

    async def ask(self, request_type: str, payload: dict[str, Any], **more: Any) -> AgentResponseEvent:
        request = AgentRequestEvent(
            source_agent="tester", target_agent="orchestrator", request_type=request_type, payload=payload, **more
        )
        return await self.bus.request_agent(request, timeout=30)

    def told(self, task_id: str) -> list[tuple[str, str]]:
        """The broadcasts of one task, as (type, subtask)."""
        events = [event for event in self.team.events("broadcasts") if event["data"].get("task_id") == task_id]
        return [(event["type"], event["data"]["subtask_id"]) for event in events if "subtask_id" in event["data"]]


async def echo(request: AgentRequestEvent) -> Any:
    return {"echo": request.payload}


async def refuse(request: AgentRequestEvent) -> Any:
    raise Rejected("not on Fridays")


async def fail(request: AgentRequestEvent) -> Any:
    raise RuntimeError("it broke: GITHUB_TOKEN=abc123def456")


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with diurna.testing.team() as team, AsyncExitStack() as stack:
        bus = await stack.enter_async_context(team.bus(agent_id="orchestrator"))
        registry = team.registry("orchestrator")
        stack.push_async_callback(registry.close)
        orchestrator = members.build(
            "orchestrator",
            workspace=Workspace(tmp_path, environment=dict(os.environ)),
            surroundings=Surroundings(bus=bus, registry=registry),
            connection=team.connection,
            port=None,
        )
        await stack.enter_async_context(orchestrator.running())
        yield Office(team, stack, bus)


def step(name: str, kind: str, *waits: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "request_type": kind, "depends_on": list(waits), **more}


async def test_capabilities_and_status_are_answered_from_the_registry(office: Office):
    await office.hire("painter", "paint_wall", echo, capabilities=["paint_wall"], concurrency=3)
    found = await office.ask("query_capability", {"capability_keywords": ["paint"], "min_confidence": 0.5})
    assert [(one["agent_id"], one["confidence"]) for one in found.result["matches"]] == [("painter", 0.9)]
    nobody = await office.ask("query_capability", {"capability_keywords": ["paint"], "exclude_agents": ["painter"]})
    assert nobody.result == {"matches": [], "total": 0, "agents": []}
    whole = await office.ask("get_status", {})
    assert {agent["agent_id"] for agent in whole.result["agents"]} == {"orchestrator", "painter"}
    assert sum(whole.result["by_status"].values()) == 2
    one = await office.ask("get_status", {"agent_id": "painter"})
    assert (one.result["concurrency"], one.result["is_healthy"]) == (3, True)
    for request_type, payload, said in (
        ("get_status", {"agent_id": "nobody"}, "no agent with id 'nobody'"),
        ("get_status", {"agent": "painter"}, "agent: no such field"),
        ("query_capability", {"capability_keywords": []}, "capability_keywords"),
        (
            "query_capability",
            {"capability_keywords": ["x"], "min_confidence": 7},
            "min_confidence: a number from 0 to 1",
        ),
    ):
        answer = await office.ask(request_type, payload)
        assert (answer.status, said in str(answer.error)) == ("rejected", True), answer.error


async def test_a_request_is_routed_by_load_and_sent_on(office: Office):
    resting = asyncio.Event()

    async def slow(request: AgentRequestEvent) -> Any:
        await resting.wait()
        return request.payload

    await office.hire("a-busy", "paint", slow, concurrency=1, heartbeat_seconds=0.1)
    working = asyncio.create_task(
        office.bus.request_agent(AgentRequestEvent(source_agent="t", target_agent="a-busy", request_type="paint"))
    )
    await office.hire("b-idle", "paint", echo, concurrency=4)

    async def is_seen_busy() -> bool:
        status = await office.ask("get_status", {"agent_id": "a-busy"})
        return bool(status.result["in_flight"])

    await eventually(is_seen_busy)
    routed = await office.ask("route_request", {"request_type": "paint"})
    assert routed.result["agent_id"] == "b-idle"
    assert [one["agent_id"] for one in routed.result["candidates"]] == ["b-idle", "a-busy"]
    sent = await office.ask("route_request", {"request_type": "paint", "payload": {"colour": "red"}, "forward": True})
    assert sent.result["response"]["result"] == {"echo": {"colour": "red"}}
    nobody = await office.ask("route_request", {"request_type": "paint", "exclude_agents": ["a-busy", "b-idle"]})
    assert nobody.status == "rejected"
    assert "no agent can take 'paint': b-idle: excluded; a-busy: excluded" in str(nobody.error)
    unknown = await office.ask("route_request", {"request_type": "dance"})
    assert "nobody has it" in str(unknown.error)
    resting.set()
    await working


async def test_a_task_is_handed_out_in_order_and_every_step_of_it_is_told(office: Office):
    await office.hire("digger", "dig", echo)
    await office.hire("planter", "plant", echo)
    subtasks = [
        step("hole", "dig", payload={"depth": 2}),
        step("tree", "plant", payload={"in": {"$result": "hole.echo.depth"}}),
        step("water", "plant", "tree", agent="planter", payload={"litres": 5}),
    ]
    answer = await office.ask("execute_task", {"task_id": "garden", "subtasks": subtasks}, correlation_id="c-1")
    assert (answer.status, answer.result["outcome"]) == ("success", "success"), answer.error
    assert answer.result["results"]["tree"] == {"echo": {"in": 2}}
    assert [one["agent"] for one in answer.result["subtasks"]] == ["digger", "planter", "planter"]
    told = office.told("garden")
    for name in ("hole", "tree", "water"):
        kinds = [kind for kind, subtask in told if subtask == name]
        assert sorted(kinds) == ["task.accepted", "task.completed", "task.delegated"]
    delegated = [subtask for kind, subtask in told if kind == "task.delegated"]
    assert delegated == ["hole", "tree", "water"], "one partition holds all of a type, in order"
    assert office.seen == [("digger", {"depth": 2}), ("planter", {"in": 2}), ("planter", {"litres": 5})]
    again = await office.ask("execute_task", {"task_id": "garden", "subtasks": subtasks})
    assert again.result["results"] == answer.result["results"]
    assert len(office.seen) == 3, "a task done twice finds its first answers"


@pytest.mark.parametrize(
    ("policy", "status", "outcome"),
    [("all", "error", "failed"), ("majority", "partial", "partial"), ("best_effort", "partial", "partial")],
)
async def test_what_fails_is_named_and_judged_by_the_policy(office: Office, policy: str, status: str, outcome: str):
    await office.hire("good", "work", echo)
    await office.hire("bad", "break", fail)
    subtasks = [step("one", "work"), step("two", "break"), step("three", "work"), step("after", "work", "two")]
    subtasks += [step(f"more-{n}", "work") for n in range(3)]
    answer = await office.ask("execute_task", {"task_id": "t", "subtasks": subtasks, "policy": policy})
    assert (answer.status, answer.result["outcome"]) == (status, outcome)
    ends = {one["id"]: (one["status"], one["error"]) for one in answer.result["subtasks"]}
    assert ends["two"][0] == "error"
    assert "GITHUB_TOKEN=***" in str(ends["two"][1])
    assert ends["after"] == ("skipped", "it waits for two, which did not succeed")
    assert "after" in answer.result["skipped"]
    assert ("task.failed", "two") in office.told("t")
    assert "abc123def456" not in str(office.team.events("broadcasts")) + str(office.team.events())


async def test_a_subtask_nobody_takes_is_rejected_and_told(office: Office):
    await office.hire("shy", "work", refuse)
    subtasks = [step("a", "work"), step("b", "dance"), step("c", "work", agent="gone")]
    answer = await office.ask("execute_task", {"task_id": "t", "subtasks": subtasks, "policy": "best_effort"})
    assert (answer.status, answer.result["outcome"]) == ("error", "failed")
    ends = {one["id"]: one["error"] for one in answer.result["subtasks"]}
    assert ends["a"] == "not on Fridays"
    assert ends["b"] == "no agent can take dance"
    assert ends["c"].startswith("agent offline: gone")
    assert {subtask for kind, subtask in office.told("t") if kind == "task.rejected"} == {"a", "b", "c"}


async def test_a_task_in_words_is_taken_apart_and_done(office: Office):
    await office.hire("documentation", "generate_docs", echo)
    payload = {"task": "Write the documentation", "parameters": {"repo": "/srv/repo"}}
    answer = await office.ask("execute_task", payload)
    assert answer.status == "success", answer.error
    assert set(answer.result["succeeded"]) == {"api_reference", "user_guide", "deployment_guide"}
    assert len(office.seen) == 3
    planned = await office.ask("decompose_task", payload)
    assert planned.result["waves"] == [["api_reference", "deployment_guide", "user_guide"]]


async def test_large_results_are_cut_so_that_the_answer_fits(office: Office):
    async def large(request: AgentRequestEvent) -> Any:
        return {"small": 1, "log": "x" * 60_000}

    await office.hire("worker", "work", large)
    subtasks = [step(f"s{n}", "work") for n in range(10)]
    answer = await office.ask("execute_task", {"subtasks": subtasks})
    assert answer.status == "success", answer.error
    assert answer.result["results"]["s0"] == {"small": 1, "left_out": ["log"]}


async def test_wrong_payloads_are_rejected_with_field_and_value(office: Office):
    for request_type, payload, said in (
        ("execute_task", {"workflow_type": "pr_deployment"}, "workflow_type: this orchestrator drives no workflows"),
        ("execute_task", {}, "task: the task in words is needed"),
        (
            "execute_task",
            {"subtasks": [step("a", "x", "b")]},
            "subtasks.0.depends_on: there is no such subtask, got 'b'",
        ),
        ("execute_task", {"subtasks": [step("a", "x")], "policy": "some"}, "policy"),
        ("decompose_task", {"task": "x", "planer": "auto"}, "planer: no such field, got 'auto'"),
        ("decompose_task", {"task": "Make coffee"}, "needs a language model and none is configured"),
        ("aggregate_results", {"results": [{"id": "a", "status": "fine"}]}, "results.0.status"),
        ("route_request", {}, "request_type"),
    ):
        answer = await office.ask(request_type, payload)
        assert (answer.status, said in str(answer.error)) == ("rejected", True), answer.error
    answer = await office.ask(
        "aggregate_results",
        {
            "policy": "majority",
            "results": [{"id": "a", "status": "success", "result": {"cause": "disk"}}],
            "vote": "cause",
        },
    )
    assert (answer.status, answer.result["decision"]["value"]) == ("success", "disk")
