"""Pages about locks: who holds what under which token, who waits, and how it went before."""

from __future__ import annotations

import asyncio
from typing import Final

from diurna_deploy.pages.asking import path_of
from diurna_deploy.pages.view import Document, Shown, View

_PAGE: Final = 50
_MANY: Final = 200


async def locks(view: View) -> Shown:
    """Locks that are held, who waits for them, and their history; of one resource where it is named."""
    asked = view.asked("resource_id", "agent_id", "cursor")
    of = {"resource_id": asked["resource_id"], "agent_id": asked["agent_id"]}
    held, queue, history, statistics = await asyncio.gather(
        view.answer("/locks", limit=_MANY, **of),
        view.read("/locks/queue", limit=_MANY, **of),
        view.answer("/locks/history", limit=_PAGE, cursor=asked["cursor"], **of),
        view.read("/locks/statistics", resource_id=asked["resource_id"], limit=_PAGE),
    )
    return "locks.html", {
        "held": held.document,
        "queue": queue,
        "history": history.document,
        "cursor": history.cursor,
        "statistics": statistics,
        "asked": asked,
        "many": _MANY,
    }


async def lock(view: View) -> Shown:
    """One wish for a lock, and what became of it."""
    found = await view.read(path_of("locks", view.part("lock_id")))
    events = await view.read("/events", subject=found["resource_id"], order="desc", limit=_MANY)
    return "lock.html", {"lock": found, "events": [one for one in events if _lock_of(one) == found["lock_id"]]}


def _lock_of(event: Document) -> object:
    said: Document = event["data"] or {}
    return said.get("lock_id")
