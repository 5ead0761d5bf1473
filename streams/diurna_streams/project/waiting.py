"""Since when the oldest record that is not in the tables has been waiting, as seen by who looks now and then."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from diurna_streams.log.port import TopicPartition
from diurna_streams.project.places import Places

_MARKS_MAX: Final = 600


class _Mark(NamedTuple):
    """Where a partition ended when somebody looked."""

    end: int
    at: float


class Waiting:
    """Remembers where the log ended at which time; a record below such an end is at least as old as that look.

    Exact to the interval of the looks, needs no clock but its own, and asks nobody anything. What was waiting before
    the first look counts from that look on.
    """

    def __init__(self) -> None:
        self._marks: dict[TopicPartition, deque[_Mark]] = {}

    def look(self, places: Places, at: float) -> dict[str, float]:
        """Takes in how things are at a time in seconds, and returns how long each topic's oldest record has waited."""
        oldest: dict[str, float] = {}
        for place, following in places.next.items():
            marks, end = self._marks.setdefault(place, deque()), places.ends[place]
            while marks and marks[0].end <= following:
                marks.popleft()
            if end > following and (not marks or marks[-1].end < end):
                marks.append(_Mark(end, at))
                if len(marks) > _MARKS_MAX:  # the second oldest: the oldest is what is asked for
                    del marks[1]
            waited = at - marks[0].at if marks else 0.0
            oldest[place.topic] = max(oldest.get(place.topic, 0.0), waited)
        return oldest
