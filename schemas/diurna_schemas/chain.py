"""The rule that makes history single: which event of a partition counts, and which does not.

An event is accepted when it links to the last accepted one and its place is larger. A smaller place is a duplicate:
another owner decided the same. Anything else is alien: a zombie's, or damage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from diurna_schemas.envelope import GENESIS, Link, link_parts
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
        start = head or Head()
        self._next_offset = start.next_offset
        self._hash = start.hash.encode()
        self._order = start.order
        self._is_anchored = head is not None
        self.duplicates = 0
        self.aliens = 0

    @property
    def head(self) -> Head:
        """The last accepted event, and the offset to read next."""
        return Head(self._next_offset, self._hash.decode(), *self._order)

    def accept(self, offset: int, headers: Sequence[tuple[str, bytes]]) -> Verdict:
        """Judges the event at `offset` by its headers and moves on."""
        self._next_offset = offset + 1
        try:
            order, previous, digest = link_parts(headers)
        except BrokenChain:
            self.aliens += 1
            return _ALIEN
        if self._is_anchored:
            if order <= self._order:
                self.duplicates += 1
                return _DUPLICATE
            if previous != self._hash:
                self.aliens += 1
                return _ALIEN
        self._is_anchored = True
        self._hash, self._order = digest, order
        return _ACCEPTED


# Looked up once: in Python 3.11 an enumeration's member costs as much as a call.
_ACCEPTED: Final = Verdict.ACCEPTED
_DUPLICATE: Final = Verdict.DUPLICATE
_ALIEN: Final = Verdict.ALIEN
