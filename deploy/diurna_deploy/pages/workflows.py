"""Pages about workflows: all of them, and one with its graph, its timeline, and what it waits for."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from diurna_deploy.pages import graph
from diurna_deploy.pages.asking import path_of
from diurna_deploy.pages.view import Document, Shown, View
from diurna_workflows.outlines import OUTLINES

_PAGE: Final = 50
_MANY: Final = 200
_OVER: Final = frozenset({"completed", "failed", "cancelled"})


async def workflows(view: View) -> Shown:
    """Workflows, the newest first, and what waits for somebody's decision."""
    asked = view.asked("status", "workflow_type", "cursor")
    found, approvals = await asyncio.gather(
        view.answer("/workflows", limit=_PAGE, **asked),
        view.read("/approvals", status="pending", limit=_PAGE),
    )
    return "workflows.html", {
        "workflows": found.document,
        "cursor": found.cursor,
        "asked": asked,
        "approvals": approvals,
    }


async def workflow(view: View) -> Shown:
    """One workflow."""
    workflow_id = view.part("workflow_id")
    found = await view.read(path_of("workflows", workflow_id))
    history, checkpoints, approvals = await asyncio.gather(
        view.answer("/events", topic="workflows.events", subject=workflow_id, order="desc", limit=_MANY),
        view.read(path_of("workflows", workflow_id, "checkpoints"), limit=_PAGE),
        view.read("/approvals", workflow_id=workflow_id, limit=_PAGE),
    )
    events = list(reversed(history.document))
    steps = _steps(events)
    waiting = [one for one in approvals if one["status"] == "pending"]
    return "workflow.html", {
        "workflow": found,
        "events": events,
        "has_older": history.cursor is not None,
        "steps": steps,
        "checkpoints": checkpoints,
        "approvals": approvals,
        "waiting": waiting,
        "is_over": found["status"] in _OVER,
        "graph": graph.drawn(
            OUTLINES.get(found["workflow_type"], ()),
            [step["step"] for step in steps],
            status=found["status"],
            is_waiting=bool(waiting),
        ),
        "correlation_id": next((one["correlation_id"] for one in events if one["correlation_id"]), None),
    }


def _steps(events: list[Any]) -> list[Document]:
    """Which steps there were and how long each took, the last one still going on: `until` is None."""
    steps: list[Document] = []
    for event in events:
        data: Document = event["data"] or {}
        if event["type"] in {"workflow.created", "workflow.step_changed"} and data.get("step"):
            if steps:
                steps[-1]["until"] = event["time"]
            steps.append(
                {"step": data["step"], "agent_id": data.get("agent_id"), "since": event["time"], "until": None}
            )
        elif event["type"] in {"workflow.completed", "workflow.failed", "workflow.cancelled"} and steps:
            steps[-1]["until"] = event["time"]
    return steps
