"""PR deployments of real repositories by the real agents: each variant ends truthfully, and leaves what it should."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from diurna_agents.demo_repository import BASE, HEAD, Variant, make_demo_repository
from support.memory_team import MemoryTeam, memory_team

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
async def team(tmp_path_factory: pytest.TempPathFactory) -> Any:
    async with memory_team(tmp_path_factory.mktemp("work")) as found:
        yield found


async def deploy(team: MemoryTeam, tmp_path: Path, variant: Variant, **given: Any) -> dict[str, Any]:
    repository = tmp_path / "repository"
    make_demo_repository(repository, variant=variant)
    inputs = {"repo": str(repository), "base": BASE, "head": HEAD, "deploy_to": str(tmp_path / "deployed"), **given}
    return await team.manager.run("pr_deployment", f"wf-{tmp_path.name}", inputs)


async def test_a_good_change_is_deployed_and_runs(team: MemoryTeam, tmp_path: Path) -> None:
    final = await deploy(team, tmp_path, "good")
    assert (final["deployment_status"], final["errors"]) == ("deployed", [])
    current = tmp_path / "deployed" / "current"
    assert current.resolve().name == final["release"]
    program = next(current.glob("**/bin/greeting-service"))
    said = await asyncio.to_thread(subprocess.run, [program, "Ada"], capture_output=True, text=True, check=True)
    assert "Ada" in said.stdout
    release = json.loads((current / "release.json").read_text())
    assert release["head"] == final["commit"]
    types = team.types_of(final["workflow_id"])
    assert types.count("request.completed") == 3
    assert types.count("workflow.completed") == 1
    assert "task.progress" in types


async def test_a_bad_change_is_rejected_by_the_review_and_nothing_is_run(team: MemoryTeam, tmp_path: Path) -> None:
    final = await deploy(team, tmp_path, "bad_review")
    assert final["deployment_status"] == "rejected_by_review"
    assert final["test"] is None
    assert not (tmp_path / "deployed" / "current").exists()


async def test_failing_tests_stop_the_deployment(team: MemoryTeam, tmp_path: Path) -> None:
    final = await deploy(team, tmp_path, "failing_tests")
    assert final["deployment_status"] == "tests_failed"
    assert final["test"].startswith("failed: ")
    assert not (tmp_path / "deployed" / "current").exists()


async def test_a_release_that_is_not_healthy_never_stays_current(team: MemoryTeam, tmp_path: Path) -> None:
    final = await deploy(team, tmp_path, "broken_health")
    assert final["deployment_status"] in {"failed", "rolled_back"}
    assert final["success"] is False
    assert "health" in final["reason"]
    assert not (tmp_path / "deployed" / "current").exists()


async def test_a_release_found_ill_once_it_is_current_is_rolled_back(team: MemoryTeam, tmp_path: Path) -> None:
    good = await deploy(team, tmp_path, "good")
    # This address answers nobody, and is asked only through `current`.
    unserved = {"url": "http://127.0.0.1:9/health", "attempts": 1, "timeout_seconds": 2}
    inputs = {
        "repo": str(tmp_path / "repository"),
        "base": BASE,
        "head": HEAD,
        "deploy_to": str(tmp_path / "deployed"),
        "health": unserved,
    }
    final = await team.manager.run("pr_deployment", f"wf-again-{tmp_path.name}", inputs)
    assert final["deployment_status"] == "rolled_back"
    assert (tmp_path / "deployed" / "current").resolve().name == good["release"]


async def test_an_unknown_ref_fails_with_the_field_and_the_value(team: MemoryTeam, tmp_path: Path) -> None:
    final = await deploy(team, tmp_path, "good", head="no-such-branch")
    assert final["deployment_status"] == "failed"
    assert "head: no commit 'no-such-branch'" in final["reason"]


async def test_a_repository_that_is_not_there_fails_with_its_path(team: MemoryTeam, tmp_path: Path) -> None:
    final = await deploy(team, tmp_path, "good", repo=str(tmp_path / "nowhere"))
    assert final["deployment_status"] == "failed"
    assert "nowhere" in final["reason"]
