"""What happened to locks: what clients did and were told, what the guard let pass, and what stands on the log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal, NamedTuple

from diurna_schemas.chain import Acceptor, Head, Verdict
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import link_of
from diurna_schemas.errors import Unreadable
from diurna_schemas.message import Command, Event
from diurna_schemas.topics import LOCKS, PARTITIONS
from diurna_streams.decide.reading import read_command
from diurna_streams.log import Log, Record, TopicPartition
from support.deciding import read_all

Kind = Literal["acquire", "claim", "renew", "release"]
Outcome = Literal["ok", "no", "unknown"]


@dataclass
class Operation:
    """One thing a client asked for, and what it was told. Times are seconds on one monotonic clock.

    `unknown`: no answer came, so it may have happened, may happen yet, or never.
    """

    client: str
    kind: Kind
    resource_id: str
    lock_id: str
    command_id: str
    lease_s: float
    called_s: float
    wait_s: float = 0.0
    returned_s: float | None = None
    outcome: Outcome = "unknown"
    token: int | None = None
    is_claimed: bool = True
    """False for a grant out of the queue, which lasts three seconds only."""

    def ends(self, at_s: float, outcome: Outcome, token: int | None = None) -> None:
        self.returned_s, self.outcome, self.token = at_s, outcome, token


@dataclass(frozen=True)
class Access:
    """One attempt to touch what a lock protects, in the order in which the guard saw them."""

    resource_id: str
    lock_id: str
    token: int
    is_accepted: bool


class Decided(NamedTuple):
    """An accepted event and the offset of the command it comes from."""

    offset: int
    event: Event


class Sent(NamedTuple):
    """A command on the log, and the time the log gave it."""

    offset: int
    at_ms: int
    command: Command


@dataclass
class Partition:
    """One partition of the locks, as a stranger reads it."""

    number: int
    commands: list[Sent] = field(default_factory=list[Sent])
    events: list[Decided] = field(default_factory=list[Decided])
    duplicates: int = 0
    aliens: int = 0

    def of_commands(self) -> Iterator[tuple[Sent, int, list[Event]]]:
        """Each decided command with the log's time at it, which never goes back, and the events it led to."""
        by_offset: dict[int, list[Event]] = {}
        for offset, event in self.events:
            by_offset.setdefault(offset, []).append(event)
        last = self.events[-1].offset if self.events else -1
        now_ms = 0
        for sent in self.commands:
            if sent.offset > last:
                return
            if found := by_offset.get(sent.offset, []):
                now_ms = max(now_ms, found[0].at_ms)
            yield sent, max(now_ms, sent.at_ms), found


@dataclass
class LockHistory:
    """Everything there is to judge."""

    partitions: list[Partition] = field(default_factory=list[Partition])
    operations: list[Operation] = field(default_factory=list[Operation])
    accesses: list[Access] = field(default_factory=list[Access])

    @property
    def events(self) -> list[Event]:
        return [decided.event for partition in self.partitions for decided in partition.events]


def partition_of_records(number: int, commands: Iterable[Record], events: Iterable[Record], codec: Codec) -> Partition:
    """What the records of a partition say to somebody who goes by the chain."""
    found = Partition(number)
    acceptor = Acceptor(Head())
    for record in events:
        if acceptor.accept(record.offset, record.headers) is Verdict.ACCEPTED:
            event = codec.decode(record.value)
            assert isinstance(event, Event)
            found.events.append(Decided(link_of(record.headers).command_offset, event))
    found.duplicates, found.aliens = acceptor.duplicates, acceptor.aliens
    for record in commands:
        try:
            found.commands.append(Sent(record.offset, record.timestamp_ms, read_command(record, codec)))
        except Unreadable:
            continue
    return found


async def read_history(
    log: Log, codec: Codec, operations: Iterable[Operation] = (), accesses: Iterable[Access] = ()
) -> LockHistory:
    """The whole log of the locks beside what clients and guard wrote down."""
    partitions: list[Partition] = []
    for number in range(PARTITIONS):
        events = await read_all(log, TopicPartition(LOCKS.events, number))
        commands = await read_all(log, TopicPartition(LOCKS.commands, number))
        partitions.append(partition_of_records(number, commands, events, codec))
    return LockHistory(partitions, list(operations), list(accesses))


def to_line(operation: Operation) -> str:
    """One JSON object a line: how processes hand their operations over, each when it begins and when it ends."""
    return f"{json.dumps(asdict(operation))}\n"


def from_lines(text: str) -> list[Operation]:
    """What was written with `to_line`, each operation as it was told last.

    A last line that was cut off, because its process was killed, is left out.
    """
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return list({found["command_id"]: Operation(**found) for found in lines}.values())
