"""One partition's accepted history: the chain's head, the state it leads to, and what was written and not yet read."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import structlog

from diurna_schemas.chain import Head, Verdict
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import Link, link_of
from diurna_schemas.errors import BrokenChain
from diurna_streams import metrics
from diurna_streams.deciders.rules import Rules
from diurna_streams.log import Record
from diurna_streams.snapshots import Settled

logger = structlog.get_logger(__name__)


class Expected(NamedTuple):
    """An event this process wrote. After a command's last one the `state` it leads to is known already."""

    hash: str
    state: Any | None


class History:
    """Folds the accepted events of a partition.

    Events this process wrote itself come back with the hash it expects: then the state it computed when it decided
    is taken over, and nothing is decoded twice. Any other accepted event means that another owner was faster.
    """

    def __init__(self, rules: Rules[Any, Any, Any], codec: Codec, partition: int) -> None:
        self._rules = rules
        self._codec = codec
        self.partition = partition
        self.head = Head()
        self.settled = Settled(self.head, rules.initial)
        self.expected: deque[Expected] = deque()
        self.was_overtaken = False
        self.accepted_count = 0

    @property
    def state(self) -> Any:
        """The state after all accepted events up to the last whole command."""
        return self.settled.state

    def restore(self, settled: Settled) -> None:
        """Goes on from a snapshot."""
        self.head = settled.head
        self.settled = settled

    def read(self, record: Record) -> Verdict:
        """Judges the next record of the events' partition and folds it where it counts."""
        topic = self._rules.family.events
        try:
            link = link_of(record.headers)
            verdict = self.head.judge(link)
        except BrokenChain:
            link, verdict = None, Verdict.ALIEN
        if link is None or verdict is Verdict.ALIEN:
            self.head = self.head.past(record.offset)
            if link is not None and any(expected.hash == link.hash for expected in self.expected):
                # Our own event, come out of turn: what we decide from is not what was accepted, and would stay so.
                self.expected.clear()
                self.was_overtaken = True
            metrics.CHAIN_ALARMS.labels(topic=topic).inc()
            logger.error("an event does not link to the last accepted one", position=str(record.position))
            return Verdict.ALIEN
        if verdict is Verdict.DUPLICATE:
            self.head = self.head.past(record.offset)
            if self._is_expected(link):
                self.expected.popleft()  # another owner decided the same before: nothing was overtaken
            metrics.CHAIN_DUPLICATES.labels(topic=topic).inc()
            return verdict
        self._fold(record, link)
        self.accepted_count += 1
        return verdict

    def _fold(self, record: Record, link: Link) -> None:
        head = self.head.after(link, record.offset)
        if self._is_expected(link):
            state = self.expected.popleft().state
            self.head = head
            if state is not None:
                self.settled = Settled(head, state)
            return
        if self.expected:
            self.expected.clear()
            self.was_overtaken = True
        if self.settled.head.hash != link.previous:
            # Overtaken in the middle of one of our own commands, whose states were not kept one by one. A batch is
            # whole or not there, so this is damage; the caller reads again from the last settled head.
            raise BrokenChain(f"{record.position}: the events of a command are torn apart")
        event = self._codec.decode(record.value)
        self.settled = Settled(head, self._rules.evolve(self.settled.state, event, link.command_offset))
        self.head = head

    def _is_expected(self, link: Link) -> bool:
        return bool(self.expected) and self.expected[0].hash == link.hash

    def rewind(self) -> int:
        """Forgets what is not settled, and returns the offset to read on from."""
        self.expected.clear()
        self.head = self.settled.head
        return self.head.next_offset
