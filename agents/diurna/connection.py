"""One log, one codec, one sender and one tail: what all clients of a process share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Self

from diurna.bootstrap import Heads
from diurna.commands import REFUSED, REPEATED, Answer, Repeated, answers_of, events_of, is_answer, raise_refusal
from diurna.directory import Directory
from diurna.history import History
from diurna.seen import Learn, Seen
from diurna.sender import Sender, wall_clock_ms
from diurna.settings import ClientSettings, wants_traces
from diurna.tail import Tail
from diurna_schemas.codec import Codec
from diurna_schemas.errors import TimedOut, Unreadable
from diurna_schemas.ids import Position
from diurna_schemas.message import Command, Event
from diurna_streams import tracing
from diurna_streams.log import Log

ANSWER_SECONDS: Final = 30.0
"""How long `ask` waits unless told otherwise."""


class Connection:
    """The way to the log. Any `Log` will do; `open` makes one to the Kafka the settings name."""

    def __init__(
        self,
        log: Log,
        codec: Codec,
        *,
        source: str = "/clients/python",
        heads: Heads | None = None,
        directory: Directory | None = None,
        learn: Learn | None = None,
        clock_ms: Callable[[], int] = wall_clock_ms,
        owns_log: bool = False,
    ) -> None:
        self.log = log
        self.codec = codec
        self.clock_ms = clock_ms
        self.directory = directory
        self.learn = learn
        self.sender = Sender(log, codec, source=source, clock_ms=clock_ms)
        self.tail = Tail(log, codec, heads=heads, learn=learn)
        self.undecided: set[asyncio.Future[None]] = set()
        """What was written without waiting for its decision."""
        self._owns_log = owns_log

    @classmethod
    async def open(cls, settings: ClientSettings | None = None, *, source: str = "/clients/python") -> Self:
        """Connects to Kafka, and asks the schema registry once for the ids of all records.

        Raises `Unavailable` where one of them does not answer, or where it is not known where they are.
        """
        from diurna.network import network_parts  # the wires are loaded only where they are used

        if wants_traces():
            tracing.start(f"diurna{source.replace('/', '-')}")
        parts = await network_parts(settings or ClientSettings.load())
        return cls(
            parts.log,
            parts.codec,
            source=source,
            heads=parts.heads,
            directory=parts.directory,
            learn=parts.learn,
            owns_log=True,
        )

    async def send(
        self, command: Command, *, correlation_id: str | None = None, traceparent: str | None = None
    ) -> Position:
        """Writes a command without waiting for its answer, and returns where it stands."""
        return await self.sender.send(command, correlation_id=correlation_id, traceparent=traceparent)

    async def ask(
        self,
        command: Command,
        *,
        timeout: float = ANSWER_SECONDS,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Event:
        """Writes a command and returns the event it became; `answer` says where that stands too.

        The same `command_id` again gives the first answer again. Raises `NotFound`, `VersionConflict`, `Conflict` or
        another `Refused` where the command was refused, `TimedOut` where no answer came: then its effect is unknown.
        """
        answer = await self.answer(command, timeout=timeout, correlation_id=correlation_id, traceparent=traceparent)
        return answer.event

    async def answer(
        self,
        command: Command,
        *,
        timeout: float = ANSWER_SECONDS,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Answer:
        """As `ask`, with the position of the answer."""
        try:
            async with asyncio.timeout(timeout):
                return await self._answer(command, correlation_id, traceparent)
        except TimeoutError as error:
            raise TimedOut(f"{command.type_name} {command.command_id}", timeout) from error

    async def all_decided(self) -> None:
        """Waits for the decisions nobody waited for: who reads what they change is not to find it as it was."""
        if self.undecided:
            await asyncio.wait(self.undecided)

    async def first_answer(self, command: Command, repeated: Seen) -> Answer:
        """What a command became when it was decided for the first time, given the event that says it was repeated."""
        event = repeated.decoded()
        if not isinstance(event, Repeated):
            raise Unreadable(f"{repeated.position} is no answer to a repeated command, but {repeated.type_name}")
        types = answers_of(type(command)) | REFUSED
        history = History(self.log, self.codec, events_of(command))
        found = await history.find(
            event.first_offset,
            lambda seen: seen.command_id == command.command_id and seen.type_name in types and is_answer(command, seen),
        )
        if found is None:
            raise Unreadable(f"{command.command_id} was decided at {event.first_offset}, but no event tells of it")
        return _answered(command, found, event)

    async def close(self) -> None:
        """Stops reading and writing."""
        await self.tail.close()
        await self.sender.close()
        if self.directory is not None:
            await self.directory.close()
        if self._owns_log:
            await self.log.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _answer(self, command: Command, correlation_id: str | None, traceparent: str | None) -> Answer:
        await self.tail.watch([events_of(command)])
        types = answers_of(type(command)) | REFUSED | REPEATED
        expectation = self.tail.expect(
            types,
            command_id=command.command_id,
            subject=command.subject,
            accepts=lambda seen: is_answer(command, seen),
        )
        try:
            with tracing.span(
                f"command {command.type_name}",
                kind="client",
                parent=traceparent or tracing.CURRENT,
                attributes={"diurna.correlation_id": correlation_id or command.correlation or ""},
            ):
                own = tracing.traceparent() or traceparent
                await self.sender.send(command, correlation_id=correlation_id, traceparent=own)
                seen = await expectation.future
        finally:
            self.tail.forget(expectation)
        if seen.type_name in REPEATED:
            return await self.first_answer(command, seen)
        return _answered(command, seen)


def _answered(command: Command, seen: Seen, repetition: Repeated | None = None) -> Answer:
    event = seen.decoded()
    if not isinstance(event, Event):
        raise Unreadable(f"{seen.position} is no event, but a {type(event).__name__}")
    raise_refusal(command, event)
    return Answer(event, seen.position, seen.id, repetition)
