"""One partition decided anew: commands and events go in as they are read, and the first divergence comes out.

Pure: it reads no log and no clock. Whoever reads for it asks `waits_for` which of the two it needs next.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

import orjson

from diurna_schemas.chain import Head, Verdict
from diurna_schemas.codec import Codec, schema_id_of
from diurna_schemas.envelope import Link, chain_hash, event_headers, header, link_of, logic_version_of
from diurna_schemas.errors import BrokenChain, Unreadable
from diurna_schemas.ids import Position
from diurna_schemas.message import Event, Heading
from diurna_streams.audit.findings import Counts, Divergence, Kind, PartitionReport
from diurna_streams.decide.reading import read_command
from diurna_streams.deciders.rules import Rules
from diurna_streams.log import Record
from diurna_streams.snapshots import Settled

RELIED_ON: Final = frozenset(
    {"ce_id", "ce_type", "ce_subject", "ce_time", "correlationid", "causationid", "chain_at", "logicversion"}
)
"""Headers that readers go by and no hash covers: they must be what the event and its command say."""


class Expected(NamedTuple):
    """An event the rules lead to, with the command it comes from."""

    command: Record
    number: int
    event: Event


class Stray(NamedTuple):
    """An event beyond the head that links to nothing accepted."""

    position: Position
    link: Link | None


def state_hash(rules: Rules[Any, Any, Any], state: Any) -> str:
    """The hash of all a decider remembers: 32 hex digits, the same for equal states in every process."""
    dumped = orjson.dumps(rules.dump(state), option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(dumped, digest_size=16).hexdigest()


class Refold:
    """Follows one partition from `start` (its beginning, or a snapshot) on.

    The state comes from folding the accepted events, as whoever takes a partition over does it; the events come from
    deciding the commands with that state, as whoever owns the partition did it. The two must meet at every event.
    Commands before `first_command` are gone, and events decided from an older log or by other rules cannot be decided
    again: these are folded, and counted.
    """

    def __init__(
        self,
        rules: Rules[Any, Any, Any],
        codec: Codec,
        partition: int,
        *,
        first_command: int = 0,
        start: Settled | None = None,
        snapshot: Settled | None = None,
        incarnation: int = 1,
    ) -> None:
        self.rules = rules
        self.codec = codec
        self.partition = partition
        begin = start or Settled(Head(), rules.initial)
        self.head = begin.head
        self.state: Any = begin.state
        self.counts = Counts()
        self.divergence: Divergence | None = None
        self.doubt: Record | None = None
        """A command that leads to events nobody wrote: only its dead letter can tell whether that is right."""
        self.stray: Stray | None = None
        self.logic_versions: dict[int, int] = {}
        self.next_command = first_command
        self.next_event = begin.head.next_offset
        self._first_command = first_command
        self._incarnation = incarnation
        self._snapshot = snapshot
        self._snapshot_verdict: Literal["none", "equal", "not reached"] = "not reached" if snapshot else "none"
        self._commands: deque[Record] = deque()
        self._events: deque[Record] = deque()
        self._expected: deque[Expected] = deque()
        self._is_after_other_rules = False
        if start is not None and start.head.incarnation == incarnation:
            self.next_command = max(first_command, start.head.command_offset + 1)

    # --- what goes in -----------------------------------------------------------------------------------

    def give_commands(self, records: Iterable[Record]) -> None:
        """The next records of the commands topic, in order."""
        self._commands += records

    def give_events(self, records: Iterable[Record]) -> None:
        """The next records of the events topic, in order."""
        self._events += records

    def commands_begin_at(self, offset: int) -> None:
        """Retention was faster than the audit: what lies before can no longer be decided again."""
        self._first_command = self.next_command = max(offset, self.next_command)
        self._commands.clear()
        self._expected.clear()

    @property
    def queued(self) -> tuple[int, int]:
        """Commands and events that were given and not looked at yet."""
        return len(self._commands), len(self._events)

    @property
    def waits_for(self) -> Literal["commands", "events"]:
        """What has to be read before anything more can be said."""
        return "commands" if self._events else "events"

    # --- what comes out ---------------------------------------------------------------------------------

    def advance(self) -> None:
        """Looks at as much as was given. Ends early with a `divergence`, or with a `doubt` that must be settled."""
        while self._events and self.divergence is None and self.doubt is None:
            record = self._events[0]
            if record.offset != self.next_event:
                self._diverge("gap", record.position, f"the record at offset {self.next_event}", "none before this one")
                return
            if not self._look_at(record):
                return
            self._events.popleft()
            self.next_event = record.offset + 1

    def settle(self, *, is_buried: bool) -> None:
        """Says whether the command in `doubt` has a dead letter: then nothing came of it, and rightly."""
        if self.doubt is None:
            return
        self.doubt = None
        if is_buried:
            self.counts.buried += 1
            self._expected.clear()
        else:
            self._miss(self._events[0].position)

    def no_more_commands(self) -> None:
        """The next event names a command beyond the end the topic has now: there is no such command."""
        record = self._events[0]
        self._diverge("surplus", record.position, "an event of a command that exists", self._shown(record))

    def no_more_events(self) -> None:
        """All events there are were given: a command must not be half answered."""
        if self._expected and self._expected[0].number > 0 and self.stray is None:
            self._miss(Position(self.rules.family.events, self.partition, self.next_event))

    def stands_still(self) -> None:
        """Nobody goes on from the head although there are events beyond it: the chain is broken there."""
        if self.stray is not None:
            expected = f"an event that links to {self.head.hash}"
            link = self.stray.link
            found = "an event without a link" if link is None else f"{link.at}, which links to {link.previous}"
            self._diverge("unlinked", self.stray.position, expected, found)

    def report(self, *, commands_end: int | None = None) -> PartitionReport:
        """What was found so far."""
        return PartitionReport(
            self.rules.family.name,
            self.partition,
            self.counts,
            dict(sorted(self.logic_versions.items())),
            self.next_event,
            self.next_command,
            0 if commands_end is None else max(0, commands_end - max(self.next_command, self._first_command)),
            self.head.hash,
            state_hash(self.rules, self.state),
            self._snapshot_verdict,
            self.divergence,
        )

    # --- one event --------------------------------------------------------------------------------------

    def _look_at(self, record: Record) -> bool:
        """Judges and checks an event. False where commands have to be read first, or a doubt is to be settled."""
        try:
            link = link_of(record.headers)
        except BrokenChain:
            return self._pass_over(record, None, Verdict.ALIEN)
        verdict = self.head.judge(link)
        if verdict is not Verdict.ACCEPTED:
            return self._pass_over(record, link, verdict)
        if not self._is_intact(record, link):
            return False
        version = logic_version_of(record.headers)
        if self._may_be_decided_again(link, version):
            is_right = self._decide_up_to(link.command_offset) and self._compare(record, link)
        else:
            is_right = self._fold(record, link)
        if not is_right:
            return False
        self._is_after_other_rules = version != self.rules.logic_version
        self.logic_versions[version] = self.logic_versions.get(version, 0) + 1
        self.head = self.head.after(link, record.offset)
        if self.stray is not None and (self.stray.link is None or link.order >= self.stray.link.order):
            self.stray = None
        self._meet_snapshot()
        return self.divergence is None

    def _pass_over(self, record: Record, link: Link | None, verdict: Verdict) -> bool:
        # What links to the head comes after it, whatever place it claims: as a duplicate it contradicts itself.
        is_stray = verdict is Verdict.ALIEN or (link is not None and link.previous == self.head.hash)
        self.head = self.head.past(record.offset)
        if is_stray:
            self.counts.aliens += 1
            self.stray = self.stray or Stray(record.position, link)
        else:
            self.counts.duplicates += 1
        return True

    def _may_be_decided_again(self, link: Link, version: int) -> bool:
        return (
            version == self.rules.logic_version
            and link.incarnation == self._incarnation
            and link.command_offset >= self._first_command
        )

    def _decide_up_to(self, offset: int) -> bool:
        """Decides commands until one leads to something, the last one at `offset`. False where it is not here yet."""
        while True:
            if self._expected:
                first = self._expected[0]
                if not (self._is_after_other_rules and first.number == 0 and first.command.offset < offset):
                    return True
                self._expected.clear()  # other rules may have decided that nothing comes of it
            if self.next_command > offset:
                return True
            if not self._commands:
                return False
            record = self._commands.popleft()
            if record.offset >= self.next_command:
                self.next_command = record.offset + 1
                self._decide(record)

    def _decide(self, record: Record) -> None:
        heading = Heading(record.offset, record.timestamp_ms, self._incarnation)
        try:
            decision = self.rules.decide(self.state, read_command(record, self.codec), heading)
        except (
            Exception
        ):  # no command, or a fault in the rules: who decided it buried it; if not, its events are surplus
            self.counts.unreadable += 1
            return
        self.counts.commands += 1
        self._expected += [Expected(record, number, event) for number, event in enumerate(decision.events)]

    def _compare(self, record: Record, link: Link) -> bool:
        """Whether an accepted event is the one the rules lead to; folds it where it is."""
        if not self._expected:
            nothing = f"no event, or no further one, of the command at offset {link.command_offset}"
            return self._diverge("surplus", record.position, nothing, self._shown(record), link.command_offset)
        command, number, event = self._expected[0]
        if (command.offset, number) != (link.command_offset, link.index):
            return self._out_of_place(record, link)
        value = self.codec.encode(event)
        if (value != record.value or event.key.encode() != record.key) and not self._means_the_same(
            record, event, schema_id_of(value)
        ):
            return False
        headers = event_headers(
            event,
            link,
            partition=self.partition,
            correlation_id=header(command.headers, "correlationid"),
            traceparent=header(command.headers, "traceparent"),
            logic_version=self.rules.logic_version,
        )
        is_enveloped = record.headers == headers or _relied_on(record.headers) == _relied_on(headers)
        if not is_enveloped or record.timestamp_ms != event.at_ms:
            expected = f"{_relied_on(headers)} at {event.at_ms} ms"
            found = f"{_relied_on(record.headers)} at {record.timestamp_ms} ms"
            return self._diverge("envelope", record.position, expected, found, link.command_offset)
        if not self._evolve(record, event, link):
            return False
        self._expected.popleft()
        self.counts.redecided += 1
        return True

    def _out_of_place(self, record: Record, link: Link) -> bool:
        """The event belongs to another place than the next one the rules fill."""
        expected = self._expected[0]
        if (link.command_offset, link.index) < (expected.command.offset, expected.number):
            shown = self._shown_expected()
            return self._diverge("surplus", record.position, shown, self._shown(record), link.command_offset)
        if expected.number == 0 and expected.command.offset < link.command_offset:
            self.doubt = expected.command
            return False
        return self._miss(record.position)

    def _means_the_same(self, record: Record, event: Event, own_schema_id: int) -> bool:
        """Whether bytes that are not ours say the same, in another version of the schema."""
        position, expected = record.position, self._shown_expected()
        command_offset = self._expected[0].command.offset
        try:
            found = self.codec.decode(record.value)
        except Unreadable as error:
            return self._diverge("unreadable", position, expected, str(error), command_offset)
        if found == event and event.key.encode() == record.key and schema_id_of(record.value) != own_schema_id:
            self.counts.older_schema += 1
            return True
        return self._diverge("differs", position, expected, self._shown(record), command_offset)

    def _fold(self, record: Record, link: Link) -> bool:
        """An event whose command cannot be decided again counts as it is."""
        try:
            event = self.codec.decode(record.value)
        except Unreadable as error:
            return self._diverge("unreadable", record.position, f"an event of {record.topic}", str(error))
        if not self._evolve(record, event, link):
            return False
        self.counts.folded += 1
        if link.incarnation == self._incarnation:
            self._expected.clear()
            while self._commands and self._commands[0].offset <= link.command_offset:
                self._commands.popleft()
            self.next_command = max(self.next_command, link.command_offset + 1)
        return True

    def _evolve(self, record: Record, event: Any, link: Link) -> bool:
        try:
            self.state = self.rules.evolve(self.state, event, link.command_offset)
        except Exception as error:  # such as an event about something that never began
            found = f"{self._shown(record)}: {type(error).__name__}: {error}"
            return self._diverge("unreadable", record.position, "an event that goes on from the ones before", found)
        return True

    def _is_intact(self, record: Record, link: Link) -> bool:
        """Whether the event's bytes are those its hash was made of."""
        type_name = header(record.headers, "ce_type") or ""
        digest = chain_hash(link.previous, link.at, type_name, record.key or b"", record.value or b"")
        if digest == link.hash:
            return True
        expected, found = f"bytes with the hash {link.hash}", f"bytes with the hash {digest}: {self._shown(record)}"
        return self._diverge("edited", record.position, expected, found, link.command_offset)

    # --- what is said -----------------------------------------------------------------------------------

    def _meet_snapshot(self) -> None:
        snapshot = self._snapshot
        if snapshot is None or self.head.next_offset < snapshot.head.next_offset:
            return
        self._snapshot = None
        position = Position(self.rules.family.events, self.partition, snapshot.head.next_offset - 1)
        if self.head != snapshot.head:
            self._diverge("snapshot", position, f"a snapshot at {self.head}", f"one at {snapshot.head}")
            return
        own, theirs = state_hash(self.rules, self.state), state_hash(self.rules, snapshot.state)
        if own != theirs:
            self._diverge("snapshot", position, f"a state with the hash {own}", f"one with the hash {theirs}")
            return
        self._snapshot_verdict = "equal"

    def _miss(self, position: Position) -> bool:
        found = self._shown(self._events[0]) if self._events else "the end of the events"
        return self._diverge("missing", position, self._shown_expected(), found, self._expected[0].command.offset)

    def _diverge(
        self, kind: Kind, position: Position, expected: str, found: str, command_offset: int | None = None
    ) -> bool:
        """Keeps what is wrong first, and returns that something is."""
        topic = self.rules.family.commands
        command = None if command_offset is None else Position(topic, self.partition, command_offset)
        self.divergence = self.divergence or Divergence(kind, position, expected, found, command)
        return False

    def _shown_expected(self) -> str:
        expected = self._expected[0]
        return f"{expected.command.offset}.{expected.number} {_described(expected.event)}"

    def _shown(self, record: Record) -> str:
        at = header(record.headers, "chain_at")
        try:
            return f"{at} {_described(self.codec.decode(record.value))}"
        except Unreadable as error:
            return f"{at} {error}"


def _relied_on(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    return {name: value.decode("utf-8", "replace") for name, value in headers if name in RELIED_ON}


def _described(event: object) -> str:
    text = repr(event)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


_SHOWN_MAX: Final = 400
