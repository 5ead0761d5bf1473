"""The page about the tables: how far they are behind the log, and making them anew."""

from __future__ import annotations

from typing import Any, Final

from diurna_deploy.pages.asking import Refusal
from diurna_deploy.pages.view import Shown, View

_DEAD_LETTERS: Final = 20


async def projections(view: View) -> Shown:
    """Positions, lag, and checksums where they are asked for: they read every row."""
    with_checksums = bool(view.asked("checksums")["checksums"])
    found = (await view.reading.now("/projections", checksums=with_checksums)).document
    jobs, letters = await _jobs(view), (await view.reading.now("/dead-letters", limit=_DEAD_LETTERS)).document
    shown = [{**one, "by_topic": _by_topic(one["positions"])} for one in found]
    return "projections.html", {
        "projections": shown,
        "jobs": jobs,
        "is_working": any(one["status"] == "running" for one in jobs),
        "with_checksums": with_checksums,
        "dead_letters": letters,
    }


async def _jobs(view: View) -> list[Any]:
    try:
        found: list[Any] = (await view.reading.now("/projections/jobs")).document
    except Refusal:
        return []
    return found


def _by_topic(positions: dict[str, int]) -> dict[str, list[tuple[int, int]]]:
    """Partition and next offset, topic by topic."""
    found: dict[str, list[tuple[int, int]]] = {}
    for place, following in sorted(positions.items()):
        topic, _, partition = place.rpartition(":")
        found.setdefault(topic, []).append((int(partition), following))
    return {topic: sorted(parts) for topic, parts in found.items()}
