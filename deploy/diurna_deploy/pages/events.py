"""Pages about the log itself: what happens now, one event with its causes and effects, and one piece of work."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from diurna.stream import STREAM_TOPICS
from diurna_deploy.pages.asking import Refusal, path_of
from diurna_deploy.pages.view import Document, Shown, View
from diurna_schemas.catalogue import TYPE_NAMES
from diurna_schemas.topics import EVENT_TOPICS

_PAGE: Final = 50
_ALL: Final = 1_000
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
    siblings, work, subject = await asyncio.gather(
        _of_command(view, found), _timeline(view, found), _of_subject(view, found)
    )
    before, after = _around(found, work)
    return "event.html", {
        "event": found,
        "siblings": [one for one in siblings if one["position"] != found["position"]],
        "before": before[-_AROUND:],
        "after": after[:_AROUND],
        "before_left_out": max(len(before) - _AROUND, 0),
        "after_left_out": max(len(after) - _AROUND, 0),
        "subject_events": subject,
    }


async def _of_command(view: View, found: Document) -> list[Any]:
    if found["causation_id"] is None:
        return []
    caused: list[Any] = await view.read("/events", command_id=found["causation_id"], limit=_PAGE)
    return caused


async def _timeline(view: View, found: Document) -> list[Any]:
    if found["correlation_id"] is None:
        return []
    try:
        work: list[Any] = await view.read(path_of("timeline", found["correlation_id"]), limit=_ALL)
    except Refusal:
        return []
    return work


async def _of_subject(view: View, found: Document) -> list[Any]:
    """What happened to the same thing last, where no correlation tells."""
    if found["correlation_id"] is not None:
        return []
    latest: list[Any] = await view.read("/events", subject=found["subject"], order="desc", limit=_AROUND)
    return latest


def _around(found: Document, work: list[Any]) -> tuple[list[Any], list[Any]]:
    """What stands before and after an event in its work, the events of the same command left out."""
    places = [one["position"] for one in work]
    if found["position"] not in places:
        return [], []
    at = places.index(found["position"])

    def others(some: list[Any]) -> list[Any]:
        return [one for one in some if one["causation_id"] is None or one["causation_id"] != found["causation_id"]]

    return others(work[:at]), others(work[at + 1 :])


async def timeline(view: View) -> Shown:
    """Every event of one piece of work, in order of time."""
    correlation_id = view.part("correlation_id")
    found = await view.answer(path_of("timeline", correlation_id), limit=_ALL, **view.asked("cursor"))
    return "timeline.html", {"correlation_id": correlation_id, "events": found.document, "cursor": found.cursor}
