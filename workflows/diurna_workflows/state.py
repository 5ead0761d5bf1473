"""What the agents of one workflow know together: the state that LangGraph hands from node to node."""

from __future__ import annotations

import operator
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol, TypedDict

JsonObject = dict[str, Any]


def merged(before: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """A node says what it adds; what others said stays."""
    return {**before, **update}


def later(before: str, update: str) -> str:
    """Of two moments as the state writes them: nodes side by side both say when they were done."""
    return max(before, update)


class MultiAgentState(TypedDict):
    """One workflow under way. Times are ISO 8601 UTC; nodes that run side by side add to the same fields."""

    task_id: str
    workflow_type: str
    subtasks: list[JsonObject]
    subtask_status: Annotated[dict[str, str], merged]
    agent_assignments: Annotated[dict[str, str], merged]
    agent_status: Annotated[dict[str, str], merged]
    locks: Annotated[dict[str, Any], merged]
    checkpoints: Annotated[list[Any], operator.add]
    partial_results: Annotated[JsonObject, merged]
    final_result: JsonObject | None
    started_at: str
    updated_at: Annotated[str, later]
    error_log: Annotated[list[str], operator.add]


class Node(Protocol):
    """A step of a graph: what it adds to the state."""

    async def __call__(self, state: MultiAgentState) -> dict[str, Any]: ...


def utc_now() -> str:
    """The present, as the state writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def initial_state(workflow_type: str, task_id: str, given: JsonObject) -> MultiAgentState:
    """The state a workflow begins with: nothing done, and what it was given under `partial_results["input"]`."""
    moment = utc_now()
    return MultiAgentState(
        task_id=task_id,
        workflow_type=workflow_type,
        subtasks=[],
        subtask_status={},
        agent_assignments={},
        agent_status={},
        locks={},
        checkpoints=[],
        partial_results={"input": given},
        final_result=None,
        started_at=moment,
        updated_at=moment,
        error_log=[],
    )
