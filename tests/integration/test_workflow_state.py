"""The manager of workflows on the whole running stack, reading over HTTP and straight from the tables."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import pytest

from diurna import WorkflowStateManager
from diurna.settings import ClientSettings
from support.workflow_contract import *  # noqa: F403 - the suite itself
from support.workflow_contract import Managers

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stack(diurna: Any) -> dict[str, Any]:
    return diurna.json("status")


@pytest.fixture(scope="module", params=["api", "tables"])
def address(request: pytest.FixtureRequest, stack: dict[str, Any]) -> str:
    """Where a manager reads: the API, or the database, which is what it once took."""
    return str(stack["api_url" if request.param == "api" else "database_url"])


@pytest.fixture(scope="module")
def managers(diurna: Any, address: str) -> Managers:
    settings = ClientSettings.load({"DIURNA_STATE_DIR": str(diurna.state_dir)})
    return lambda: WorkflowStateManager(address, settings=settings)


# --- the tests of the system Diurna replaces, with their names and arguments ------------------------------------


async def test_workflow_state_persistence(managers: Managers, address: str) -> None:
    """Test workflow state persistence and recovery."""
    state_mgr = managers()
    await state_mgr.connect()

    workflow_id = f"test-wf-101-{address[:4]}"

    # Create workflow
    await state_mgr.create_workflow(
        workflow_type="test",
        initial_state={"step": "init"},
        participating_agents=["agent-1"],
        workflow_id=workflow_id,
    )

    # Update state
    await state_mgr.update_state(workflow_id=workflow_id, updates={"step": "processing"}, agent_id="agent-1")

    # Create checkpoint
    checkpoint_id = await state_mgr.checkpoint(
        workflow_id=workflow_id, step_name="processing", agent_id="agent-1", data={"progress": 50}
    )

    # Retrieve workflow
    workflow = await state_mgr.get_workflow(workflow_id)
    assert workflow.state_data["step"] == "processing"
    assert workflow.version == 2  # Initial + 1 update

    # Restore checkpoint
    restored = await state_mgr.restore_checkpoint(workflow_id, checkpoint_id)
    assert restored["progress"] == 50

    await state_mgr.close()


async def test_workflow_recovery_after_agent_crash(managers: Managers, address: str) -> None:
    """Test workflow can recover after agent crashes mid-execution."""
    state_mgr = managers()
    await state_mgr.connect()

    workflow_id = f"test-recovery-wf-{address[:4]}"

    # Start workflow
    await state_mgr.create_workflow(
        workflow_type="pr_deployment",
        initial_state={"pr_number": 123, "step": "review"},
        participating_agents=["code-review", "cicd"],
        workflow_id=workflow_id,
    )

    # Checkpoint at review step
    checkpoint_id = await state_mgr.checkpoint(
        workflow_id=workflow_id, step_name="review", agent_id="code-review", data={"review_status": "approved"}
    )

    # Simulate crash (no cleanup): the first manager is never closed before another takes over.
    successor = managers()

    # New agent instance recovers
    restored_state = await successor.restore_checkpoint(workflow_id, checkpoint_id)
    assert restored_state["review_status"] == "approved"

    # Continue workflow from checkpoint
    await successor.update_step(workflow_id, "testing", agent_id="cicd")

    workflow = await successor.get_workflow(workflow_id)
    assert workflow.current_step == "testing"
    assert workflow.state_data["pr_number"] == 123

    await successor.close()
    await state_mgr.close()


# --- and what only the whole stack shows ------------------------------------------------------------------------

_WORKER = """
import asyncio, os, sys
from diurna import WorkflowStateManager

async def main():
    state = WorkflowStateManager()
    workflow_id = await state.create_workflow("test", {"pr_number": 123}, ["cicd"], workflow_id=sys.argv[1])
    checkpoint_id = await state.checkpoint(workflow_id, "review", "cicd", {"review_status": "approved"})
    await state.update_state(workflow_id, {"half": "done"})
    print(checkpoint_id, flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def test_what_a_worker_wrote_before_it_was_killed_is_there_for_the_next(diurna: Any, managers: Managers) -> None:
    workflow_id = fresh()  # noqa: F405
    environment = {**os.environ, "DIURNA_STATE_DIR": str(diurna.state_dir)}
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WORKER, workflow_id, stdout=-1, stderr=-1, env=environment
    )
    async with asyncio.timeout(60):
        out, problems = await worker.communicate()
    assert worker.returncode == -9, problems.decode()
    async with managers() as successor:
        found = await successor.history(workflow_id)
        assert [event.type for event in found][-1] == "workflow.state_updated"
        assert await successor.restore_checkpoint(workflow_id, out.decode().strip()) == {"review_status": "approved"}
        state = await successor.get_workflow(workflow_id)
    assert state.state_data == {"pr_number": 123, "review_status": "approved"}
