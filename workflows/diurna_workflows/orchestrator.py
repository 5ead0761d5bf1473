"""The orchestrator agent's work: to drive a workflow from its first step to its last."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from diurna_agents.payload import Payload, validated
from diurna_schemas.ids import Id, Name
from diurna_workflows.manager import WorkflowManager
from diurna_workflows.state import JsonObject


class ExecuteTask(Payload):
    """What `execute_task` takes: which workflow to run, under which id, and on what."""

    workflow_type: Name
    workflow_id: Id = Field(default_factory=lambda: str(uuid.uuid4()))
    input: dict[str, Any] = Field(default_factory=dict[str, Any])


async def execute_task(payload: Mapping[str, object], *, manager: WorkflowManager) -> JsonObject:
    """Runs a workflow and answers its final result."""
    task = validated(ExecuteTask, payload)
    return await manager.run(task.workflow_type, task.workflow_id, task.input)


def running_workflows(manager: WorkflowManager) -> dict[str, object]:
    """What the orchestrator adds to its status."""
    return {
        "workflow_types": manager.types(),
        "running": [
            {"workflow_id": one.workflow_id, "workflow_type": one.workflow_type, "started_at": one.started_at}
            for one in manager.list()
        ],
    }
