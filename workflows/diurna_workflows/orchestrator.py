"""The orchestrator agent's work: to drive a workflow from its first step to its last."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from pydantic import Field

from diurna_agents.payload import Payload, validated
from diurna_schemas.ids import Id, Name
from diurna_workflows.manager import WorkflowManager
from diurna_workflows.state import JsonObject

Work = Callable[..., Awaitable[JsonObject]]
"""`async def work(payload, *, manager)`."""


class ExecuteTask(Payload):
    """What `execute_task` takes: which workflow to run, under which id, and on what."""

    workflow_type: Name
    workflow_id: Id = Field(default_factory=lambda: str(uuid.uuid4()))
    input: dict[str, Any] = Field(default_factory=dict[str, Any])


class ContinueFork(Payload):
    """What `continue_fork` takes: which workflow to copy, up to which checkpoint of its thread, under which id to go on
    with the copy, and what is to be different in its state.
    """

    workflow_id: Id
    new_workflow_id: Id
    checkpoint_id: Id | None = None
    updates: dict[str, Any] = Field(default_factory=dict[str, Any])


async def execute_task(payload: Mapping[str, object], *, manager: WorkflowManager) -> JsonObject:
    """Runs a workflow and answers its final result."""
    task = validated(ExecuteTask, payload)
    return await manager.run(task.workflow_type, task.workflow_id, task.input)


async def continue_fork(payload: Mapping[str, object], *, manager: WorkflowManager) -> JsonObject:
    """Goes on with a copy of a workflow, and answers its final result."""
    fork = validated(ContinueFork, payload)
    return await manager.until_end(
        await manager.fork(
            fork.workflow_id, fork.new_workflow_id, checkpoint_id=fork.checkpoint_id, updates=fork.updates
        )
    )


HANDLERS: Final[dict[str, Work]] = {"execute_task": execute_task, "continue_fork": continue_fork}
"""Which work answers which request."""


def running_workflows(manager: WorkflowManager) -> dict[str, object]:
    """What the orchestrator adds to its status."""
    return {
        "workflow_types": manager.types(),
        "running": [
            {"workflow_id": one.workflow_id, "workflow_type": one.workflow_type, "started_at": one.started_at}
            for one in manager.list()
        ],
    }
