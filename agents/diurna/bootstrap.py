"""Where a tail starts in each partition, and what it knows of the chain there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from diurna_schemas.chain import Acceptor, Head, Verdict
from diurna_schemas.envelope import header
from diurna_schemas.errors import DiurnaError
from diurna_schemas.topics import EVENT_TOPICS
from diurna_streams.log import Log, Record, TopicPartition

_log = structlog.get_logger(__name__)

CATCH_UP_RECORDS_MAX: Final = 5_000
"""A longer way from a known head to the end is not worth reading for one answer."""
LOOK_BACK_RECORDS: Final = 200
"""So much is read before the end where no head is known: an anchor with a history behind it."""

Heads = Callable[[], Awaitable[Mapping[TopicPartition, Head]]]
"""The last accepted event of each partition, as the projection knows it."""


@dataclass(slots=True)
class Watched:
    """A partition that is read. What stands before `live_from` is read only to know the chain."""

    next_offset: int
    live_from: int
    acceptor: Acceptor | None
    is_tentative: bool = False
    _accepted: int = 0

    def judge(self, record: Record) -> Verdict:
        """Whether the record counts. Topics without a chain have only records that do."""
        if self.acceptor is None:
            return Verdict.ACCEPTED
        verdict = self.acceptor.accept(record.offset, record.headers)
        if verdict is Verdict.ACCEPTED:
            self._accepted += 1
        elif self.is_tentative and self._accepted == 1 and self._may_be_anchor(record):
            # Only the anchor itself was ever believed, and what follows does not link to it: the anchor was the alien.
            self.acceptor, self._accepted = Acceptor(None), 0
            return self.judge(record)
        return verdict

    def _may_be_anchor(self, record: Record) -> bool:
        """Whether it carries a link, and is not the present anchor written twice."""
        digest = header(record.headers, "chain_hash")
        return digest is not None and self.acceptor is not None and digest != self.acceptor.head.hash


async def resolve(log: Log, partitions: Iterable[TopicPartition], heads: Heads | None) -> dict[TopicPartition, Watched]:
    """Where to start reading so that nothing written from now on is missed.

    A chained partition is anchored at the head the projection has committed, or at the very beginning where that is
    near. Else the tail begins a little before the end and believes the first event it meets. The risk: were that one a
    zombie's, its true successors would look alien; so an anchor that nothing ever linked to is given up for the next
    event, and `LOOK_BACK_RECORDS` lie between it and the first event that matters.
    """
    wanted = list(partitions)
    ends = await log.ends(wanted)
    starts = await log.starts(wanted)
    is_chained = any(place.topic in EVENT_TOPICS for place in wanted)
    known: Mapping[TopicPartition, Head] = await _known(heads) if is_chained else {}
    found: dict[TopicPartition, Watched] = {}
    for place in wanted:
        start, end = starts[place], ends[place]
        if place.topic not in EVENT_TOPICS:
            found[place] = Watched(end, end, None)
            continue
        head = known.get(place) or Head()
        if start <= head.next_offset <= end and end - head.next_offset <= CATCH_UP_RECORDS_MAX:
            found[place] = Watched(head.next_offset, end, Acceptor(head))
        else:
            found[place] = Watched(max(start, end - LOOK_BACK_RECORDS), end, Acceptor(None), is_tentative=True)
    return found


async def _known(heads: Heads | None) -> Mapping[TopicPartition, Head]:
    if heads is None:
        return {}
    try:
        return await heads()
    except DiurnaError as error:
        _log.info("the projection's heads are not to be had", error=str(error))
        return {}
