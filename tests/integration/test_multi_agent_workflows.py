"""The workflows on the whole running stack: the tests of the system Diurna replaces, and a person who is asked."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from diurna import EventBus, ResourceLockManager
from diurna.settings import ClientSettings
from diurna_agents.demo_repository import BASE, HEAD, make_demo_repository
from diurna_workflows import (
    KafkaCheckpointSaver,
    MultiAgentState,
    build_parallel_docs,
    build_pr_deployment,
    build_self_healing,
)
from support.nap_service import NapService
from support.stack import until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
Parts = dict[str, Any]


@pytest.fixture
async def parts(diurna: Any) -> AsyncIterator[tuple[EventBus, Parts]]:
    """A bus on the stack, and what else a graph is made with."""
    settings = ClientSettings.load({"DIURNA_STATE_DIR": str(diurna.state_dir)})
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(EventBus(settings=settings))
        locks = await stack.enter_async_context(ResourceLockManager(settings=settings))
        saver = await KafkaCheckpointSaver.open(
            settings, database_url=diurna.json("status")["database_url"], agent_id="tester"
        )
        yield bus, {"locks": locks, "checkpointer": await stack.enter_async_context(saver)}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_repository(tmp_path_factory.mktemp("subject") / "greeting-service")


@pytest.fixture
def service(diurna: Any, tmp_path: Path) -> Iterator[NapService]:
    found = NapService(tmp_path)
    yield found
    found.ask(diurna, "stop_service")


def state_of(task_id: str, workflow_type: str, given: dict[str, Any]) -> MultiAgentState:
    return {
        "task_id": task_id,
        "workflow_type": workflow_type,
        "subtasks": [],
        "subtask_status": {},
        "agent_assignments": {},
        "agent_status": {},
        "locks": {},
        "checkpoints": [],
        "partial_results": {"input": given},
        "final_result": None,
        "started_at": "2025-11-19T00:00:00",
        "updated_at": "2025-11-19T00:00:00",
        "error_log": [],
    }


# --- the tests of the system Diurna replaces, with their names: what was made up there is real here -----------------


async def test_pr_deployment_workflow(parts: tuple[EventBus, Parts], repository: Path, tmp_path: Path) -> None:
    """Test full PR deployment workflow."""
    bus, more = parts
    deploy_to = str(tmp_path / "releases")
    given = {"repo": str(repository), "base": BASE, "head": HEAD, "deploy_to": deploy_to}
    result = await build_pr_deployment(bus, **more).ainvoke(
        state_of("test-pr-123", "pr_deployment", given), config={"configurable": {"thread_id": "test-pr-123"}}
    )
    assert result["final_result"] is not None
    assert "deployment_status" in result["partial_results"]
    assert result["partial_results"]["deployment_status"] == "deployed"


async def test_parallel_docs_workflow(parts: tuple[EventBus, Parts], repository: Path, tmp_path: Path) -> None:
    """Test parallel documentation generation."""
    bus, more = parts
    site = tmp_path / "site"
    state = state_of("test-docs-456", "parallel_docs", {"repo": str(repository), "head": HEAD, "site": str(site)})
    state["subtasks"] = [{"id": "api_docs", "type": "generate"}, {"id": "user_guide", "type": "generate"}]
    result = await build_parallel_docs(bus, **more).ainvoke(
        state, config={"configurable": {"thread_id": "test-docs-456"}}
    )
    assert len(result["partial_results"]) >= 2
    assert "api_docs" in result["partial_results"]
    assert result["final_result"]["status"] == "documented"
    assert "greet(name: str" in (site / "api_docs" / "greeting_service.greetings.md").read_text()
    index = (site / "index.md").read_text()
    assert "[API reference](api_docs/index.md)" in index
    assert "[User guide](user_guide/user-guide.md)" in index


async def test_self_healing_workflow(parts: tuple[EventBus, Parts], diurna: Any, service: NapService) -> None:
    """Test self-healing infrastructure loop."""
    bus, more = parts
    killed = service.ask(diurna, "start_service")["after"]["pid"]
    os.kill(killed, signal.SIGKILL)
    until(lambda: service.ask(diurna, "service_status")["after"]["state"] == "ended", seconds=30)
    given = {"service": "nap", "services_file": str(service.file)}
    result = await build_self_healing(bus, **more).ainvoke(
        state_of("test-heal-789", "self_healing", given), config={"configurable": {"thread_id": "test-heal-789"}}
    )
    assert result["final_result"]["is_resolved"] is True
    assert result["final_result"]["status"] == "healed"
    assert "killed by signal 9" in str(result["final_result"]["diagnosis"]["votes"]["code-review"])
    alive = service.ask(diurna, "service_status")["after"]
    assert alive["state"] == "running"
    assert alive["pid"] == result["final_result"]["process_after"] != killed


# --- and what is Diurna's own ----------------------------------------------------------------------------------------


def test_a_person_with_the_role_is_asked_though_the_orchestrator_dies_meanwhile(
    diurna: Any, service: NapService
) -> None:
    service.needs_mark()  # a process alone may live for a moment without its program
    program = service.script.read_text()
    service.script.unlink()
    started = diurna.json(
        "workflow", "start", "self_healing", "--service", "nap", "--services-file", str(service.file),
        "--attempts", "1", "--approval-role", "operations", "--no-follow",
    )  # fmt: skip
    workflow_id = started["workflow_id"]
    status = diurna.json("status")
    with httpx.Client(base_url=status["api_url"], trust_env=False) as api:

        def approvals() -> list[dict[str, Any]]:
            return list(api.get("/approvals", params={"workflow_id": workflow_id}).json())

        until(lambda: len(approvals()) == 1, seconds=60)
        (asked,) = approvals()
        assert "nap is ill" in asked["question"]
        os.kill(next(one["pid"] for one in status["processes"] if one["name"] == "orchestrator"), signal.SIGKILL)
        path = f"/approvals/{asked['approval_id']}/approve"
        assert api.post(path, json={"decided_by": "bob"}).status_code == 409
        service.script.write_text(program)
        service.mark.touch()
        assert api.post(path, json={"decided_by": "ada", "roles": ["operations"]}).status_code == 200
        until(lambda: api.get(f"/workflows/{workflow_id}").json()["status"] == "completed", seconds=120)
        assert len(approvals()) == 1
    until(lambda: diurna.json("request", "show", started["request_id"])["status"] == "completed", seconds=60)
    final = diurna.json("request", "show", started["request_id"])["response"]["result"]
    assert (final["status"], final["rounds"], final["escalation"]["decided_by"]) == ("healed", 2, "ada")
    types = [event["type"] for event in diurna.json("event", "trace", workflow_id)]
    assert types.count("workflow.approval_requested") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("parallel_docs", "--repo", "/srv/x", "--site", "/srv/docs", "--document", "poetry"), "poetry"),
        (("self_healing", "--service", "nap", "--input", '{"sevices": {}}'), "sevices: no such field"),
    ],
)
def test_bad_input_is_refused_by_field_and_no_workflow_begins(diurna: Any, words: tuple[str, ...], said: str) -> None:
    refused = diurna.json("workflow", "start", *words, code=1)
    assert said in refused["reason"]
    assert diurna.run("workflow", "show", refused["workflow_id"]).returncode == 1
