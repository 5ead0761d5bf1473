"""The command line of workflows on the whole running stack: past versions, restores, forks, roles, refusals."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from diurna import WorkflowStateManager
from diurna.settings import ClientSettings
from diurna_agents.demo_repository import make_demo_repository
from support.workflow_contract import Managers

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def managers(diurna: Any) -> Managers:
    settings = ClientSettings.load({"DIURNA_STATE_DIR": str(diurna.state_dir)})
    return lambda: WorkflowStateManager(settings=settings)


def command(diurna: Any, *words: str, code: int = 0) -> Any:
    return diurna.json("workflow", *words, code=code)


async def test_the_command_line_shows_forks_and_restores(diurna: Any, managers: Managers) -> None:
    async with managers() as state:
        workflow_id = await state.create_workflow("test", {"a": {"b": 1}}, ["cicd"])
        first = await state.checkpoint(workflow_id, "plan", "cicd", {"progress": 50})
        await state.update_state(workflow_id, {"a": {"b": 2}})
        assert [one["checkpoint_id"] for one in command(diurna, "checkpoints", workflow_id)] == [first]
        assert command(diurna, "show", workflow_id, "--version", "1")["state_data"] == {"a": {"b": 1}}
        assert command(diurna, "history", workflow_id)[-1]["type"] == "workflow.state_updated"
        restored = command(diurna, "restore", workflow_id, "--checkpoint", first, "--by", "ada")
        assert (restored["version"], restored["data"]) == (3, {"progress": 50})
        await state.complete_workflow(workflow_id)
        forked = command(diurna, "fork", workflow_id, "--set", "a.b=3", "--set", 'name="x=y"', "--set", "list=[1]")
        found = await state.get_workflow(forked["workflow_id"])
        assert found.state_data == {"a": {"b": 3}, "progress": 50, "name": "x=y", "list": [1]}
        assert found.metadata["forked_from"]["checkpoint_id"] == first
        shown = command(diurna, "show", forked["workflow_id"])
        assert shown["state_data"] == found.state_data


def test_a_workflow_the_orchestrator_drives_is_forked_at_a_step(diurna: Any, tmp_path: Path) -> None:
    make_demo_repository(tmp_path / "service", variant="good")
    site, other = tmp_path / "site", tmp_path / "other"
    where = ("--repo", str(tmp_path / "service"), "--site", str(site))
    workflow_id = command(diurna, "start", "parallel_docs", *where)["workflow_id"]
    done = diurna.run("workflow", "fork", workflow_id)
    assert (done.returncode, "--checkpoint STEP" in done.stderr) == (1, True)
    forked_id = f"fork-{uuid.uuid4()}"
    changed = ("--set", f"partial_results.input.site={other}", "--id", forked_id)
    end = command(diurna, "fork", workflow_id, "--checkpoint", "api_docs", *changed)
    assert (end["workflow_id"], end["status"]) == (forked_id, "documented")
    assert command(diurna, "show", forked_id)["status"] == "completed"
    published = {path.relative_to(site) for path in site.rglob("*.md")}
    assert {path.relative_to(other) for path in other.rglob("*.md")} == published != set()
    asked = diurna.json("request", "list", "--correlation-id", forked_id)
    assert sum(one["target_agent"] == "documentation" for one in asked) == 4, "three documents, and their site"
    # After three steps side by side only this is left; their drafts are of the other workflow, and it says so.
    late = diurna.run("workflow", "fork", workflow_id, "--checkpoint", "merge")
    assert (late.returncode, "no draft with id" in late.stdout) == (1, True)
    nowhere = diurna.run("workflow", "fork", workflow_id, "--checkpoint", "cook")
    assert (nowhere.returncode, "'cook'" in nowhere.stdout) == (1, True)


async def test_the_command_line_refuses_what_cannot_be(diurna: Any, managers: Managers) -> None:
    async with managers() as state:
        workflow_id = await state.create_workflow("test", {"a": 1}, ["cicd"])
        taken = await state.checkpoint(workflow_id, "here")
        for words in (
            ("restore", workflow_id, "--checkpoint", "never-taken"),
            ("restore", workflow_id, "--checkpoint", taken, "--expected-version", "7"),
            ("fork", workflow_id, "--set", f"big={'x' * 100_000}", "--set", f"bigger={'y' * 100_000}",
             "--set", f"biggest={'z' * 100_000}"),
            ("show", workflow_id, "--version", "9"),
            ("checkpoints", "nothing"),
        ):  # fmt: skip
            assert diurna.run("workflow", *words, "--json").returncode == 1, words
        await state.complete_workflow(workflow_id)
        done = diurna.run("workflow", "restore", workflow_id, "--checkpoint", taken)
        assert (done.returncode, "fork it instead" in done.stderr) == (1, True)
        assert diurna.run("workflow", "fork", workflow_id, "--set", "no-value").returncode == 2
        assert (await state.get_workflow(workflow_id)).version == 2


async def test_somebody_with_the_role_approves_on_the_command_line(diurna: Any, managers: Managers) -> None:
    url = diurna.json("status")["api_url"]
    async with managers() as state:
        workflow_id = await state.create_workflow("test", {}, [])
    async with httpx.AsyncClient(base_url=url) as client:
        body = {"question": "Ship it?", "roles": ["release"]}
        asked = (await client.post(f"/workflows/{workflow_id}/approvals", json=body)).json()
        where = {"workflow_id": workflow_id, "min_position": asked["position"]}
        assert [one["roles"] for one in (await client.get("/approvals", params=where)).json()] == [["release"]]
    assert diurna.run("workflow", "approve", workflow_id, "--by", "bob").returncode == 1
    assert command(diurna, "approve", workflow_id, "--by", "ada", "--role", "release")["is_approved"] is True
