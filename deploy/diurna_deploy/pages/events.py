"""Pages about the log itself: what happens now, one event with its causes and effects, and one piece of work."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from diurna.stream import STREAM_TOPICS
from diurna_deploy.pages.asking import path_of
from diurna_deploy.pages.view import Document, Shown, View
from diurna_schemas.catalogue import TYPE_NAMES
from diurna_schemas.topics import EVENT_TOPICS

_PAGE: Final = 50
_MANY: Final = 200
_AROUND: Final = 10
_TYPES: Final = sorted(name for name, message in TYPE_NAMES.items() if message.topic in EVENT_TOPICS)


async def events(view: View) -> Shown:
    """The newest events; without a past, those that come are shown as they come."""
    asked = view.asked("topic", "type", "subject", "correlation_id", "cursor")
    found = await view.answer("/events", order="desc", limit=_PAGE, **asked)
    return "events.html", {
        "events": found.document,
        "cursor": found.cursor,
        "asked": asked,
        "topics": STREAM_TOPICS,
        "types": _TYPES,
        "after": _following(found.positions),
    }


def _following(positions: str) -> str:
    """The cursor of the stream right after what the tables hold: what comes between page and stream is not missed."""
    places = [text.rpartition(":") for text in positions.split(",") if text]
    moved = {place: int(offset) + 1 for place, _, offset in places}
    for topic in STREAM_TOPICS[:2]:  # two places at least, or it would be one event that was seen
        moved.setdefault(f"{topic}:0", 0)
    return ",".join(f"{place}:{offset}" for place, offset in sorted(moved.items()))


async def event(view: View) -> Shown:
    """One event: the command it comes from, what else that caused, and what came before and after in the same work."""
    found = await view.read(path_of("events", view.part("position")))
    siblings, before, after, latest = await asyncio.gather(
        _of_command(view, found), _of_work(view, found, "desc"), _of_work(view, found, "asc"), _of_subject(view, found)
    )
    return "event.html", {
        "event": found,
        "siblings": [one for one in siblings if one["position"] != found["position"]],
        "before": [one for one in reversed(before[:_AROUND]) if not _is_sibling(one, found)],
        "after": [one for one in after[:_AROUND] if not _is_sibling(one, found)],
        "has_more": max(len(before), len(after)) > _AROUND,
        "latest": latest,
    }


async def _of_command(view: View, found: Document) -> list[Any]:
    if found["causation_id"] is None:
        return []
    caused: list[Any] = await view.read("/events", command_id=found["causation_id"], limit=_PAGE)
    return caused


async def _of_work(view: View, found: Document, order: str) -> list[Any]:
    """What follows the event in its work, in this order: backwards, what came before."""
    if found["correlation_id"] is None:
        return []
    wanted = {"correlation_id": found["correlation_id"], "after": found["position"], "order": order}
    work: list[Any] = await view.read("/events", limit=_AROUND + 1, **wanted)
    return work


async def _of_subject(view: View, found: Document) -> list[Any]:
    """What happened to the same thing last, where no correlation tells."""
    if found["correlation_id"] is not None:
        return []
    latest: list[Any] = await view.read("/events", subject=found["subject"], order="desc", limit=_AROUND)
    return latest


def _is_sibling(one: Document, found: Document) -> bool:
    return one["causation_id"] is not None and one["causation_id"] == found["causation_id"]


async def timeline(view: View) -> Shown:
    """Every event of one piece of work, in order of time."""
    correlation_id = view.part("correlation_id")
    found = await view.answer(path_of("timeline", correlation_id), limit=_MANY, **view.asked("cursor"))
    return "timeline.html", {"correlation_id": correlation_id, "events": found.document, "cursor": found.cursor}
