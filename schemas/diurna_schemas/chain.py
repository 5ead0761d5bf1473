"""The rule that makes history single: which event of a partition counts, and which does not.

An event is accepted when it links to the last accepted one and its place is larger. A smaller place is a duplicate:
another owner decided the same. Anything else is alien: a zombie's, or damage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from diurna_schemas.envelope import GENESIS, Link, link_of
from diurna_schemas.errors import BrokenChain


class Verdict(Enum):
    """What an acceptor says of an event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    ALIEN = "alien"


@dataclass(frozen=True, slots=True)
class Head:
    """The last accepted event of a partition, and the offset to read next.

    `command_offset` is -1 before the first event.
    """

    next_offset: int = 0
    hash: str = GENESIS
    incarnation: int = 1
    command_offset: int = -1
    index: int = 0

    @property
    def order(self) -> tuple[int, int, int]:
        return (self.incarnation, self.command_offset, self.index)

    def judge(self, link: Link) -> Verdict:
        """Whether an event with this link counts after this head."""
        if link.order <= self.order:
            return Verdict.DUPLICATE
        return Verdict.ACCEPTED if link.previous == self.hash else Verdict.ALIEN

    def after(self, link: Link, offset: int) -> Head:
        """The head once the event with this link, at `offset`, is accepted."""
        return Head(offset + 1, link.hash, link.incarnation, link.command_offset, link.index)

    def past(self, offset: int) -> Head:
        """The head once the record at `offset` was read and does not count."""
        return Head(offset + 1, self.hash, self.incarnation, self.command_offset, self.index)


class Acceptor:
    """Judges the events of one partition in order.

    Without a known `head` the first event is believed: a reader that starts in the middle of the log and can ask
    nobody has no other anchor. Where that anchor was a zombie's, every later event is alien, which `aliens` shows.
    """

    def __init__(self, head: Head | None) -> None:
        self.head = head or Head()
        self._is_anchored = head is not None
        self.duplicates = 0
        self.aliens = 0

    def accept(self, offset: int, headers: Iterable[tuple[str, bytes]]) -> Verdict:
        """Judges the event at `offset` by its headers and moves on."""
        try:
            link = link_of(headers)
        except BrokenChain:
            self.head = self.head.past(offset)
            self.aliens += 1
            return Verdict.ALIEN
        verdict = self.head.judge(link) if self._is_anchored else Verdict.ACCEPTED
        match verdict:
            case Verdict.ACCEPTED:
                self._is_anchored = True
                self.head = self.head.after(link, offset)
            case Verdict.DUPLICATE:
                self.duplicates += 1
                self.head = self.head.past(offset)
            case Verdict.ALIEN:
                self.aliens += 1
                self.head = self.head.past(offset)
        return verdict
