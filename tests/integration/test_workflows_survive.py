"""A workflow outlives the orchestrator that drives it: killed in the middle, its successor asks nothing twice."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from diurna_agents.demo_repository import BASE, HEAD, make_demo_repository

pytestmark = [pytest.mark.stack, pytest.mark.chaos, pytest.mark.timeout(600)]


def until(condition: Any, *, seconds: float) -> None:
    Retrying(retry=retry_if_result(lambda holds: not holds), stop=stop_after_delay(seconds), wait=wait_fixed(0.2))(
        condition
    )


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
