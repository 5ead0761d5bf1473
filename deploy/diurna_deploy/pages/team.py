"""Pages about the team: who is there, what everybody can do, and what they are asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from diurna_deploy.pages.asking import Refusal, path_of
from diurna_deploy.pages.view import Document, Shown, View

_PAGE: Final = 50
_MANY: Final = 200
"""So many documents are read at once at most: each may be large."""
_RECENT: Final = 20
_LIVE: Final = frozenset({"active", "busy", "idle"})


async def overview(view: View) -> Shown:
    """How everything stands, and what happened last."""
    agents, queued, dispatched, workflows, approvals, locks, recent, lag = await asyncio.gather(
        view.read("/agents", limit=_MANY),
        view.read("/requests", status="queued", limit=_MANY),
        view.read("/requests", status="dispatched", limit=_MANY),
        view.read("/workflows", status="running", limit=_MANY),
        view.read("/approvals", status="pending", limit=_PAGE),
        view.read("/locks", limit=_MANY),
        view.read("/events", order="desc", limit=_RECENT),
        _lag(view),
    )
    return "overview.html", {
        "agents": agents,
        "live": [one for one in agents if one["status"] in _LIVE],
        "stale": [one for one in agents if one["status"] == "stale"],
        "queued": queued,
        "dispatched": dispatched,
        "workflows": workflows,
        "approvals": approvals,
        "locks": locks,
        "events": recent,
        "lag": lag,
        "many": _MANY,
    }


async def _lag(view: View) -> int | None:
    if view.is_past:
        return None
    try:
        found: int | None = (await view.reading.now("/health")).document["lag_records"]
    except Refusal:
        return None
    return found


async def agents(view: View) -> Shown:
    """The agents, their health, their capabilities, and the requests that wait for them."""
    asked = view.asked("status", "capability", "cursor")
    found, queued, dispatched = await asyncio.gather(
        view.answer("/agents", limit=_PAGE, **asked),
        view.read("/requests", status="queued", limit=_MANY),
        view.read("/requests", status="dispatched", limit=_MANY),
    )
    return "agents.html", {
        "agents": found.document,
        "cursor": found.cursor,
        "asked": asked,
        "queued_at": Counter(one["agent_id"] for one in queued),
        "working_at": Counter(one["agent_id"] for one in dispatched),
        "queue": sorted([*queued, *dispatched], key=lambda one: (one["agent_id"], one["submitted_at"]))[:_PAGE],
        "queue_length": len(queued) + len(dispatched),
        "many": _MANY,
    }


async def agent(view: View) -> Shown:
    """One agent: its instances, what it can do, its queue, what it was asked lately, and what was said of it."""
    agent_id = view.part("agent_id")
    # First alone: where there is no such agent, nothing else is worth asking.
    found = await view.read(path_of("agents", agent_id))
    health, requests, events = await asyncio.gather(
        _health(view, agent_id),
        view.read("/requests", target_agent=agent_id, limit=_PAGE),
        view.read("/events", subject=agent_id, order="desc", limit=_RECENT),
    )
    return "agent.html", {"agent": found, "health": health, "requests": requests, "events": events}


async def _health(view: View, agent_id: str) -> Document | None:
    """Heartbeats are not kept for ever: there is no health of the past."""
    if view.is_past:
        return None
    found: Document = (await view.reading.now(path_of("health", agent_id))).document
    return found


async def capabilities(view: View) -> Shown:
    """Who can do what."""
    asked = view.asked("q")
    found = await view.read("/capabilities/search", q=asked["q"], limit=_PAGE)
    return "capabilities.html", {"found": found, "asked": asked}


async def requests(view: View) -> Shown:
    """What agents were asked, the newest first."""
    asked = view.asked("status", "source_agent", "target_agent", "correlation_id", "cursor")
    found = await view.answer("/requests", limit=_PAGE, **asked)
    return "requests.html", {"requests": found.document, "cursor": found.cursor, "asked": asked}


async def request(view: View) -> Shown:
    """One request, its answer, and every event of it."""
    request_id = view.part("request_id")
    found = await view.read(path_of("requests", request_id))
    events = await view.read("/events", subject=request_id, topic="agents.events", limit=_PAGE)
    is_open = found["status"] in {"queued", "dispatched"}
    return "request.html", {"request": found, "events": events, "is_open": is_open}
