"""The orchestrator agent's work: to drive a workflow from its first step to its last."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from diurna_agents.payload import Payload, validated
from diurna_schemas.errors import NotFound
from diurna_schemas.ids import Id, Name
from diurna_workflows.manager import WorkflowManager
from diurna_workflows.state import JsonObject

_TO_SAY_SO_SECONDS: Final = 2.0
"""So long before the end a workflow is given up, that the log may be told."""


class ForkOf(Payload):
    """Which workflow is gone on with as a copy, from where, and what is different in it (a JSON Merge Patch).

    `checkpoint` is the name of a step, whose last beginning is meant, or the id of a checkpoint of the graph.
    """

    workflow_id: Id
    checkpoint: Id
    set: dict[str, Any] = Field(default_factory=dict[str, Any])


class ExecuteTask(Payload):
    """What `execute_task` takes: which workflow to run, under which id, and on what, or as a copy of which other."""

    workflow_type: Name
    workflow_id: Id = Field(default_factory=lambda: str(uuid.uuid4()))
    input: dict[str, Any] = Field(default_factory=dict[str, Any])
    fork_of: ForkOf | None = None


async def execute_task(
    payload: Mapping[str, object], *, manager: WorkflowManager, seconds: float | None = None
) -> JsonObject:
    """Runs a workflow, or a fork of one, and answers its final result.

    One that is not done in time fails a moment before nobody waits for it any more: else it would be told of as running
    for ever.
    """
    task = validated(ExecuteTask, payload)
    if seconds is not None:
        seconds -= min(_TO_SAY_SO_SECONDS, seconds / 10)
    if (source := task.fork_of) is None:
        return await manager.run(task.workflow_type, task.workflow_id, task.input, seconds=seconds)
    is_step = manager.has_step(task.workflow_type, source.checkpoint)
    try:
        forked = await manager.fork(
            source.workflow_id,
            task.workflow_id,
            checkpoint_id=None if is_step else source.checkpoint,
            before=source.checkpoint if is_step else None,
            updates=source.set,
        )
    except NotFound as error:
        raise NotFound(f"step or checkpoint of workflow {source.workflow_id}", source.checkpoint) from error
    return await manager.until_end(forked, seconds=seconds)


def running_workflows(manager: WorkflowManager) -> dict[str, object]:
    """What the orchestrator adds to its status."""
    return {
        "workflow_types": manager.types(),
        "running": [
            {"workflow_id": one.workflow_id, "workflow_type": one.workflow_type, "started_at": one.started_at}
            for one in manager.list()
        ],
    }
