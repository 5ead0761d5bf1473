"""What the first and the last steps of a workflow add to its state: the plan, how it ended, and what was made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diurna_workflows.journal import Journal
from diurna_workflows.state import JsonObject, utc_now

Update = dict[str, Any]
"""What a node adds to the state of its workflow."""


def planned(subtasks: Sequence[JsonObject], given: JsonObject, **progress: Any) -> Update:
    """The steps as they are laid out, each of an `id` and an `agent`; `given` is the input as it was understood."""
    return {
        "subtasks": list(subtasks),
        "subtask_status": {str(task["id"]): "pending" for task in subtasks},
        "agent_assignments": {str(task["id"]): str(task["agent"]) for task in subtasks},
        "partial_results": {"input": given, **progress},
        "updated_at": utc_now(),
    }


def ended(
    field: str,
    node: str,
    status: str,
    reason: str,
    *,
    agent: str | None = None,
    result: Mapping[str, Any] | None = None,
    error: str | None = None,
    **progress: Any,
) -> Update:
    """The end, at this node: `field` of the partial results says how it is, and leads to the last node."""
    results: JsonObject = {field: status, "reason": reason, "ended_at": node, **progress}
    if result is not None:
        results[node] = dict(result)
    return {
        "subtask_status": {node: "completed" if error is None else "failed"},
        "agent_status": {} if agent is None else {agent: "success" if error is None else "error"},
        "partial_results": results,
        "error_log": [] if error is None else [f"{node}: {error}"],
        "updated_at": utc_now(),
    }


async def written_down(journal: Journal, final: JsonObject, status: str, *, is_well: bool) -> Update:
    """The last step: the workflow is completed, or has failed for the reason it gives."""
    if is_well:
        await journal.complete(final)
    else:
        await journal.fail(f"{status}: {final['reason']}", final)
    return {"final_result": final, "updated_at": utc_now()}
