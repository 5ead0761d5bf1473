"""The orchestrator is killed with SIGKILL at each node of the PR deployment; its successor ends with the same.

Model. A workflow that nobody disturbs shows what is to come of it. Then each moment of a run is a test: as soon as the
log tells of it, the process that drives the workflow is killed and another is started in its place. The final result
must be the same, each agent must have worked once, and the log must tell of each fact once. That the checker notices
what is done twice is shown in the simulation of all moments, `tests/simulation/test_simulation_workflow_deaths.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from diurna import Event, EventBus
from support.own_kafka import own_kafka
from support.savers import Savers, real_savers
from support.scripted_team import ScriptedTeam, scripted_team
from support.stack import Databases
from support.teams import eventually
from support.workflow_fakes import INPUT

pytestmark = [pytest.mark.chaos, pytest.mark.stack, pytest.mark.timeout(240)]

PROCESS = Path(__file__).parents[1] / "support" / "orchestrator_process.py"
SECONDS = 90.0
FACTS = (
    *("workflow.created", "workflow.step_changed", "workflow.state_updated", "workflow.approval_requested"),
    *("workflow.approval_decided", "workflow.completed"),
    *("request.submitted", "request.dispatched", "request.completed"),
)


def asked(request_type: str) -> Callable[[Event], bool]:
    return lambda event: event.type == "request.dispatched" and event.data["request"]["request_type"] == request_type


def answered(agent_id: str) -> Callable[[Event], bool]:
    return lambda event: event.type == "request.completed" and event.data["agent_id"] == agent_id


def told(event_type: str) -> Callable[[Event], bool]:
    return lambda event: event.type == event_type


MOMENTS: dict[str, Callable[[Event], bool]] = {
    "plan: the workflow is created": told("workflow.created"),
    "review: the agent is at it": asked("review_code"),
    "test: the agent has answered": answered("cicd"),
    "approval: it is decided": told("workflow.approval_decided"),
    "deploy: the agent is at it": asked("deploy_service"),
    "finish: the workflow is completed": told("workflow.completed"),
}


class Orchestrators:
    """Processes that drive workflows, one after the other in the same folder; one is always loaded in reserve."""

    def __init__(self, bootstrap_servers: str, database_url: str, folder: Path) -> None:
        self._arguments = [sys.executable, str(PROCESS), bootstrap_servers, database_url, str(folder)]
        self._reserve = self._loaded()
        self._at_work: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._at_work, self._reserve = self._reserve, self._loaded()
        assert self._at_work.stdin is not None
        self._at_work.stdin.write(b"go\n")
        self._at_work.stdin.flush()

    def succeed(self) -> None:
        """Kills the one at work, and puts another in its place."""
        assert self._at_work is not None
        os.kill(self._at_work.pid, signal.SIGKILL)
        self._at_work.wait()
        self.start()

    async def stop(self) -> None:
        for process in (self._at_work, self._reserve):
            if process is not None:
                process.terminate() if process is self._at_work else process.kill()
                await asyncio.to_thread(process.wait, 60)
                assert process.stdin is not None
                process.stdin.close()

    def _loaded(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._arguments, stdin=subprocess.PIPE)


@dataclass
class Lived:
    """What came of one workflow."""

    result: dict[str, Any]
    attempts: int
    work: Counter[str]
    facts: Counter[str]


@dataclass
class Office:
    """Everything around the orchestrator, and what is heard of it."""

    bus: EventBus
    workers: ScriptedTeam
    orchestrators: Orchestrators
    heard: list[Event] = field(default_factory=list[Event])

    async def live_through(self, moment: Callable[[Event], bool] | None) -> Lived:
        """A workflow whose orchestrator is killed at that moment."""
        workflow_id = f"w-{uuid.uuid4()}"
        killed = asyncio.Event()

        def hear(event: Event) -> None:
            self.heard.append(event)
            if moment is not None and not killed.is_set() and event.correlation_id == workflow_id and moment(event):
                killed.set()
                self.orchestrators.succeed()

        for event_type in FACTS:
            self.bus.subscribe(event_type, hear)
        await self.bus.ready()
        try:
            response = await self.bus.request_agent(
                {
                    "source_agent": "test",
                    "target_agent": "orchestrator",
                    "request_type": "execute_task",
                    "payload": {"workflow_type": "pr_deployment", "workflow_id": workflow_id, "input": INPUT},
                },
                timeout=SECONDS,
            )
        finally:
            for event_type in FACTS:
                self.bus.unsubscribe(event_type, hear)
        assert killed.is_set() == (moment is not None)
        assert response.error is None
        facts = [event for event in self.heard if event.correlation_id == workflow_id]
        dispatched = [event for event in self.heard if event.type == "request.dispatched"]
        attempts = [
            event.data["attempt"] for event in dispatched if event.data["request"]["request_id"] == response.request_id
        ]
        result = {name: value for name, value in response.result.items() if name != "workflow_id"}
        work = Counter(
            request.request_type for request in self.workers.requests if request.correlation_id == workflow_id
        )
        return Lived(result, max(attempts), work, Counter(event.type for event in facts))


@pytest.fixture(scope="module")
async def office(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    database_url = await databases.fresh()
    folder = tmp_path_factory.mktemp("orchestrator")
    async with AsyncExitStack() as stack:
        bootstrap_servers = await stack.enter_async_context(own_kafka())
        savers: Savers = await stack.enter_async_context(real_savers(bootstrap_servers, database_url))
        workers = await stack.enter_async_context(scripted_team(savers.team.agent))
        bus = await stack.enter_async_context(savers.team.bus())
        orchestrators = Orchestrators(bootstrap_servers, database_url, folder)
        stack.push_async_callback(orchestrators.stop)
        registered: list[Event] = []
        bus.subscribe("agent.registered", registered.append)
        await bus.ready()
        orchestrators.start()
        await eventually(lambda: any(event.data["agent_id"] == "orchestrator" for event in registered), 60)
        yield Office(bus, workers, orchestrators)


@pytest.fixture(scope="module")
async def undisturbed(office: Office) -> Lived:
    return await office.live_through(None)


async def test_undisturbed_each_is_asked_once(undisturbed: Lived) -> None:
    assert undisturbed.result["deployment_status"] == "deployed"
    assert undisturbed.attempts == 1
    assert undisturbed.work == {"review_code": 1, "run_pipeline": 1, "deploy_service": 1}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_workflow_whose_orchestrator_is_killed_ends_with_the_same(
    office: Office, undisturbed: Lived, moment: str
) -> None:
    lived = await office.live_through(MOMENTS[moment])
    assert lived.result == undisturbed.result
    assert lived.work == undisturbed.work
    assert lived.facts == undisturbed.facts
