"""Where the tables stand beside where the log ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diurna_projections.records import PROJECTED, WITH_GAPS
from diurna_projections.store import Store
from diurna_schemas.errors import Conflict, Unavailable
from diurna_streams.log.port import Log, TopicPartition


@dataclass(frozen=True, slots=True)
class Places:
    """For each partition where to read on, and where the log ends."""

    next: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]

    @property
    def lag(self) -> int:
        """Records that are not in the tables yet."""
        return sum(self.lag_of(place) for place in self.next)

    def lag_of(self, place: TopicPartition) -> int:
        return max(self.ends[place] - self.next[place], 0)

    def until(self, ends: Mapping[TopicPartition, int]) -> Places:
        """The same with nearer ends."""
        return Places(self.next, {place: min(end, ends[place]) for place, end in self.ends.items()})

    def lag_by_topic(self) -> dict[str, int]:
        lags: dict[str, int] = {}
        for place in self.next:
            lags[place.topic] = lags.get(place.topic, 0) + self.lag_of(place)
        return lags


async def partitions_of(log: Log) -> list[TopicPartition]:
    """Every partition the tables are made of. Raises `Unavailable` where a topic is not there (yet)."""
    found: list[TopicPartition] = []
    for topic in PROJECTED:
        count = await log.partitions(topic)
        if not count:
            raise Unavailable(f"topic {topic} is not there: provision the topics first")
        found += [TopicPartition(topic, partition) for partition in range(count)]
    return found


async def places_of(log: Log, store: Store, partitions: list[TopicPartition]) -> Places:
    """Where to read on and where the log ends.

    On a topic that is compacted or shortened, what is gone is passed over. Raises `Conflict` where the tables know more
    than the log: then one of the two was replaced, and going on would mix two histories.
    """
    heads = await store.heads()
    ends = await log.ends(partitions)
    starts = await log.starts([place for place in partitions if place.topic in WITH_GAPS])
    following: dict[TopicPartition, int] = {}
    for place in partitions:
        head = heads.get(place)
        following[place] = max(0 if head is None else head.next_offset, starts.get(place, 0))
        if following[place] > ends[place]:
            raise Conflict(
                f"the tables are at {following[place]} of {place.topic}:{place.partition}, "
                f"which ends at {ends[place]}: this is another log; drop schema "
                f"{store.database.schema} to project it anew"
            )
    return Places(following, ends)
