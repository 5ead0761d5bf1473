"""Workflows outlive whoever works in them: an orchestrator or an agent is killed in the middle, and they end well."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from diurna_agents.demo_repository import BASE, HEAD, make_demo_repository
from support.nap_service import NapService
from support.stack import until

pytestmark = [pytest.mark.stack, pytest.mark.chaos, pytest.mark.timeout(600)]


def test_a_killed_orchestrator_s_workflow_is_finished_by_its_successor(diurna: Any, tmp_path: Path) -> None:
    repository = make_demo_repository(tmp_path / "repository")
    where = ("--repo", str(repository), "--base", BASE, "--head", HEAD, "--deploy-to", str(tmp_path / "deployed"))
    started = diurna.json("workflow", "start", "pr_deployment", *where, "--no-follow")

    def step() -> str | None:
        done = diurna.run("workflow", "show", started["workflow_id"], "--json")
        return None if done.returncode else json.loads(done.stdout)["current_step"]

    until(lambda: step() == "test", seconds=60)
    processes = {process["name"]: process for process in diurna.json("status")["processes"]}
    os.kill(processes["orchestrator"]["pid"], signal.SIGKILL)
    # The one that is started anew says that it died: nobody waits until a minute of silence is over.
    until(lambda: diurna.json("request", "show", started["request_id"])["status"] == "completed", seconds=300)
    instances = diurna.json("agent", "show", "orchestrator")["instances"]
    assert [instance["status"] for instance in instances] == ["active"]
    request = diurna.json("request", "show", started["request_id"])
    assert request["attempts"] == 2
    assert request["response"]["result"]["deployment_status"] == "deployed"
    types = [event["type"] for event in diurna.json("event", "trace", started["workflow_id"])]
    assert types.count("workflow.created") == 1
    assert types.count("workflow.completed") == 1
    asked = {"request.submitted": 4, "request.completed": 4}
    assert {name: types.count(name) for name in asked} == asked


@pytest.fixture
def stack(diurna: Any) -> dict[str, Any]:
    found: dict[str, Any] = diurna.json("status")
    return found


def kill(stack: dict[str, Any], process: str) -> None:
    os.kill(next(found["pid"] for found in stack["processes"] if found["name"] == process), signal.SIGKILL)


def dispatched(stack: dict[str, Any], started: dict[str, Any], **payload: str) -> int:
    """How often something was given to an agent for a workflow, by some of its payload."""
    answer = httpx.get(f"{stack['api_url']}/timeline/{started['workflow_id']}", trust_env=False)
    events = answer.json() if answer.status_code == 200 else []
    given = [event["data"]["request"]["payload"] for event in events if event["type"] == "request.dispatched"]
    return sum(payload.items() <= one.items() for one in given)


def ended(diurna: Any, started: dict[str, Any]) -> dict[str, Any]:
    until(lambda: diurna.json("request", "show", started["request_id"])["status"] == "completed", seconds=200)
    final: dict[str, Any] = diurna.json("request", "show", started["request_id"])["response"]["result"]
    return final


def test_documents_are_made_though_their_agent_is_killed_in_the_middle(
    diurna: Any, stack: dict[str, Any], tmp_path: Path
) -> None:
    repository = make_demo_repository(tmp_path / "repository")
    where = ("--repo", str(repository), "--head", HEAD, "--site", str(tmp_path / "site"))
    started = diurna.json("workflow", "start", "parallel_docs", *where, "--no-follow")
    until(lambda: dispatched(stack, started, kind="user_guide"), seconds=60)
    kill(stack, "documentation")
    final = ended(diurna, started)
    assert final["status"] == "documented"
    assert {one["status"] for one in final["documents"].values()} == {"made"}
    assert (tmp_path / "site" / "index.md").is_file()
    assert not (tmp_path / "site" / ".diurna-drafts").exists()
    assert dispatched(stack, started, kind="user_guide") == 2


def test_a_service_is_healed_though_its_agent_is_killed_in_the_middle(
    diurna: Any, stack: dict[str, Any], tmp_path: Path
) -> None:
    # It is well once its mark is there: so there is a moment in which it is being started.
    service = NapService(tmp_path, start_seconds=60)
    service.needs_mark()
    where = ("--service", "nap", "--services-file", str(service.file), "--escalate", "never")
    started = diurna.json("workflow", "start", "self_healing", *where, "--no-follow")
    until(lambda: dispatched(stack, started, task="restart_service"), seconds=60)
    kill(stack, "infrastructure")
    until(lambda: dispatched(stack, started, task="restart_service") == 2, seconds=100)
    service.mark.touch()
    final = ended(diurna, started)
    try:
        assert (final["status"], final["is_resolved"], len(final["attempts"])) == ("healed", True, 1)
        assert service.ask(diurna, "service_status")["after"]["pid"] == final["process_after"]
    finally:
        service.ask(diurna, "stop_service")
