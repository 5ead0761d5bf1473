"""An agent as people run it: a process of its own, with its HTTP port, ended by a signal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from diurna import AgentRequestEvent, AgentResponseStatus, Event
from support.teams import AnyTeam, eventually, kafka_team

pytestmark = pytest.mark.stack
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
async def team(kafka_bootstrap: str) -> AsyncIterator[AnyTeam]:
    async with kafka_team(kafka_bootstrap) as found:
        yield found


@pytest.fixture
async def process(kafka_bootstrap: str, team: AnyTeam) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, str]]:
    """A running agent: its process, id and address."""
    name = f"agent-{uuid.uuid4().hex[:8]}"
    found = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "support.echo_agent", kafka_bootstrap, name,
        stdout=asyncio.subprocess.PIPE, cwd=TESTS, env={**os.environ, "PYTHONPATH": str(TESTS)},
    )  # fmt: skip
    assert found.stdout is not None
    async with asyncio.timeout(60):
        url = (await found.stdout.readline()).decode().strip()
    yield found, name, url
    if found.returncode is None:
        found.kill()
        await found.wait()


async def test_it_serves_health_metrics_and_requests(process: tuple[asyncio.subprocess.Process, str, str]) -> None:
    _, name, url = process
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        health = await client.get("/health")
        assert (health.status_code, health.json()["status"], health.json()["agent_id"]) == (200, "healthy", name)

        asked = {"source_agent": "tester", "request_type": "echo", "payload": {"number": 7}}
        answer = await client.post("/agent-request", json=asked)
        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["result"]) == ("success", {"number": 7})
        assert answer.json()["position"].startswith("agents.events:")

        metrics = (await client.get("/metrics")).text
        labels = f'source_agent="tester",status="success",target_agent="{name}"'
        assert f"agent_request_duration_seconds_count{{{labels}}} 1.0" in metrics
        assert "agent_requests_active 0.0" in metrics

        elsewhere = await client.post("/agent-request", json={**asked, "target_agent": "somebody-else"})
        assert (elsewhere.status_code, elsewhere.json()["errors"][0]["field"]) == (422, "target_agent")
        large = await client.post("/agent-request", json={**asked, "payload": {"x": "y" * 262_144}})
        assert large.status_code == 413
        assert (await client.post("/agent-request", content=b"{")).status_code == 422


async def test_a_signal_lets_running_work_end_and_takes_the_agent_out(
    process: tuple[asyncio.subprocess.Process, str, str], team: AnyTeam
) -> None:
    found, name, _ = process
    async with team.bus() as bus:
        progress: list[Event] = []
        bus.subscribe("task.progress", progress.append)
        request = AgentRequestEvent(source_agent="tester", target_agent=name, request_type="slow")
        asking = asyncio.create_task(bus.request_agent(request))
        await eventually(lambda: any(event.source == name for event in progress))
        found.send_signal(signal.SIGTERM)
        assert (await asking).result == "done"
        async with asyncio.timeout(30):
            assert await found.wait() == 0
        assert (await bus.request_agent(request.model_copy(update={"request_id": uuid.uuid4().hex}))).status is (
            AgentResponseStatus.REJECTED
        )


async def test_a_killed_agent_loses_no_request(
    process: tuple[asyncio.subprocess.Process, str, str], team: AnyTeam
) -> None:
    found, name, _ = process
    async with team.bus() as bus:
        progress: list[Event] = []
        bus.subscribe("task.progress", progress.append)
        request = AgentRequestEvent(
            source_agent="tester", target_agent=name, request_type="slow", timeout_seconds=60, attempt_timeout_seconds=3
        )
        asking = asyncio.create_task(bus.request_agent(request))
        await eventually(lambda: any(event.source == name for event in progress))
        found.kill()
        await found.wait()
        # With more room than the dead one, which the log believes in until it has been silent for 60 seconds.
        other = team.agent(name, concurrency=8)

        @other.on_request("slow")
        async def slow(request: AgentRequestEvent) -> str:
            return "done by another"

        async with other.running():
            response = await asking
    assert (response.status, response.result) == (AgentResponseStatus.SUCCESS, "done by another")
    assert response.metadata["attempt"] >= 2
