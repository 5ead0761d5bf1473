"""What self-healing says of itself: its attempts one by one, and its final result."""

from __future__ import annotations

from typing import Final, cast

from diurna_workflows.state import JsonObject, MultiAgentState

_RESOLVED: Final = frozenset({"healthy", "healed"})


def tried(state: MultiAgentState, outcome: str) -> list[JsonObject]:
    """The attempts so far, and the one that just ended."""
    results = state["partial_results"]
    fix: JsonObject = results.get("fix", {})
    one = {
        "round": results["round"],
        "attempt": int(results["attempt"]) + 1,
        "diagnosis": results.get("diagnosis", {}).get("diagnosis"),
        "remedy": results.get("diagnosis", {}).get("remedy"),
        "fixed": fix.get("done"),
        "error": fix.get("error"),
        "outcome": outcome,
    }
    return [*results["attempts"], one]


def final_result(state: MultiAgentState) -> JsonObject:
    """How it ended."""
    results = state["partial_results"]
    found = results.get("input")
    given = cast("JsonObject", found) if isinstance(found, dict) else {}
    status = results.get("healing_status", "failed")
    fix: JsonObject = results.get("fix", {})
    before: JsonObject = fix.get("before") or {}
    after: JsonObject = fix.get("after") or {}
    return {
        "workflow_id": state["task_id"],
        "workflow_type": state["workflow_type"],
        "status": status,
        "success": status in _RESOLVED,
        "is_resolved": status in _RESOLVED,
        "reason": results.get("reason", ""),
        "ended_at": results.get("ended_at"),
        "service": given.get("service"),
        "issues": results.get("issues", []),
        "diagnosis": results.get("diagnosis"),
        "attempts": results.get("attempts", []),
        "rounds": results.get("round", 0),
        "process_before": before.get("pid"),
        "process_after": after.get("pid"),
        "escalation": results.get("escalation"),
        "errors": state["error_log"],
    }
