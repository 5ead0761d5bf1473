"""Follows the partitions somebody waits on: one reader a process, each event judged by its chain, then told on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from diurna.bootstrap import Heads, Watched, resolve
from diurna.seen import Learn, Seen
from diurna_schemas.chain import Verdict
from diurna_schemas.codec import Codec
from diurna_schemas.errors import DiurnaError, Unavailable
from diurna_streams.log import Log, Reader, Record, TopicPartition

_log = structlog.get_logger(__name__)

READ_WAIT_MS: Final = 1_000
RETRY_SECONDS: Final = 0.5

Callback = Callable[[Seen], None]
Accepts = Callable[[Seen], bool]


@dataclass(eq=False, slots=True)
class Expectation:
    """Somebody waits for the first event of certain types that a command caused, or that speaks about a subject.

    `accepts` looks more closely, where the headers do not say enough.
    """

    types: frozenset[str]
    future: asyncio.Future[Seen]
    subject: str | None = None
    command_id: str | None = None
    accepts: Accepts | None = None

    def offer(self, seen: Seen) -> None:
        """Takes the event where it is the one that was waited for."""
        if (
            seen.type_name in self.types
            and (self.subject is None or seen.subject == self.subject)
            and (self.command_id is None or seen.command_id == self.command_id)
            and not self.future.done()
        ):
            try:
                if self.accepts is None or self.accepts(seen):
                    self.future.set_result(seen)
            except DiurnaError as error:
                self.future.set_exception(error)


@dataclass(eq=False, slots=True)
class Listener:
    """A callback for the events of some partitions, or of one key in them; `types` empty: of any type."""

    partitions: frozenset[TopicPartition]
    types: frozenset[str]
    callback: Callback
    key: bytes | None = None
    on_close: Callable[[], None] | None = None

    def offer(self, seen: Seen) -> None:
        """Tells the callback where the event is of a type it asked for."""
        if not self.types or seen.type_name in self.types:
            try:
                self.callback(seen)
            except Exception:
                _log.exception("a listener failed", position=str(seen.record.position), type=seen.type_name)


_Place = tuple[TopicPartition, bytes | None]
"""A partition, and a key where the others do not matter."""


@dataclass(slots=True)
class _Listeners:
    by_command: dict[str, list[Expectation]] = field(default_factory=dict[str, list[Expectation]])
    by_subject: dict[str, list[Expectation]] = field(default_factory=dict[str, list[Expectation]])
    by_place: dict[_Place, list[Listener]] = field(default_factory=dict[_Place, list[Listener]])


class Tail:
    """The one reader of a process over the partitions it waits on.

    Call `watch` and await it *before* producing: what is written afterwards is then seen. Events that are not part of
    the chain's single history are dropped and counted.
    """

    def __init__(self, log: Log, codec: Codec, *, heads: Heads | None = None, learn: Learn | None = None) -> None:
        self._log = log
        self._codec = codec
        self._heads = heads
        self._learn = learn
        self._watched: dict[TopicPartition, Watched] = {}
        self._watching = asyncio.Lock()
        self._listeners = _Listeners()
        self._reader: Reader | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def aliens(self) -> int:
        """How many events were dropped because they belong to no history."""
        return sum(watched.acceptor.aliens for watched in self._watched.values() if watched.acceptor)

    async def watch(self, partitions: Iterable[TopicPartition]) -> None:
        """Returns once everything written to these partitions from now on will be seen."""
        new = [partition for partition in partitions if partition not in self._watched]
        if not new:
            return
        async with self._watching:
            new = [partition for partition in new if partition not in self._watched]
            if new:
                resolved = await resolve(self._log, new, self._heads)
                if self._reader is None:
                    self._reader = await self._log.reader()
                # Before the reader starts: what it reads at once must not be taken for somebody else's.
                self._watched.update(resolved)
                try:
                    await self._reader.start_at({place: watched.next_offset for place, watched in resolved.items()})
                except BaseException:
                    for place in resolved:
                        self._watched.pop(place, None)
                    raise
                if self._task is None:
                    self._task = asyncio.create_task(self._run(), name="diurna-tail")

    def expect(
        self,
        types: frozenset[str],
        *,
        command_id: str | None = None,
        subject: str | None = None,
        future: asyncio.Future[Seen] | None = None,
        accepts: Accepts | None = None,
    ) -> Expectation:
        """Waits for the first event of these types caused by the command, or about the subject, or both.

        Several expectations may share a `future`: the first that is met counts.
        """
        if future is None:
            future = asyncio.get_running_loop().create_future()
        expectation = Expectation(types, future, subject, command_id, accepts)
        index, key = self._place_of(expectation)
        index.setdefault(key, []).append(expectation)
        return expectation

    def forget(self, expectation: Expectation) -> None:
        """Waits no longer."""
        index, key = self._place_of(expectation)
        found = index.get(key, [])
        if expectation in found:
            found.remove(expectation)
        if not found:
            index.pop(key, None)
        expectation.future.cancel()

    def listen(
        self,
        partitions: Iterable[TopicPartition],
        callback: Callback,
        *,
        types: Iterable[str] = (),
        key: str | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> Listener:
        """Calls `callback` for each event of these partitions, in order, from the moment they are watched.

        The callback must not block: it hands over to a queue or a task. `on_close` is called when nothing comes any
        more, because the tail was closed.
        """
        wanted = None if key is None else key.encode()
        listener = Listener(frozenset(partitions), frozenset(types), callback, wanted, on_close)
        for partition in listener.partitions:
            self._listeners.by_place.setdefault((partition, listener.key), []).append(listener)
        return listener

    def unlisten(self, listener: Listener) -> None:
        """Calls it no longer."""
        for partition in listener.partitions:
            place = (partition, listener.key)
            listeners = self._listeners.by_place.get(place, [])
            if listener in listeners:
                listeners.remove(listener)
            if not listeners:
                self._listeners.by_place.pop(place, None)

    async def close(self) -> None:
        """Stops reading; who still waits is told that nothing will come."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._reader is not None:
            await self._reader.close()
            self._reader = None
        for index in (self._listeners.by_command, self._listeners.by_subject):
            for expectation in [expectation for found in index.values() for expectation in found]:
                if not expectation.future.done():
                    expectation.future.set_exception(Unavailable("the connection was closed while waiting"))
        for listener in {id(one): one for found in self._listeners.by_place.values() for one in found}.values():
            if listener.on_close is not None:
                listener.on_close()
        self._watched.clear()

    def _place_of(self, expectation: Expectation) -> tuple[dict[str, list[Expectation]], str]:
        if expectation.command_id is not None:
            return self._listeners.by_command, expectation.command_id
        if expectation.subject is None:
            raise ValueError("an expectation needs a command or a subject")
        return self._listeners.by_subject, expectation.subject

    async def _run(self) -> None:
        while True:
            try:
                if self._reader is None:
                    await self._reopen()
                    continue
                for record in await self._reader.read(wait_ms=READ_WAIT_MS):
                    await self._take(record)
            except DiurnaError as error:
                _log.warning("the tail starts again", error=str(error))
                await self._drop_reader()
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                # A fault of ours must not leave everybody waiting in silence.
                _log.exception("the tail failed and starts again")
                await self._drop_reader()
                await asyncio.sleep(RETRY_SECONDS)

    async def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with suppress(DiurnaError):
                await reader.close()

    async def _reopen(self) -> None:
        """Reads on where the tail stood; a partition whose records are gone from the log is resolved anew."""
        async with self._watching:
            starts = await self._log.starts(self._watched)
            ends = await self._log.ends(self._watched)
            gone = [
                place
                for place, watched in self._watched.items()
                if not starts[place] <= watched.next_offset <= ends[place]
            ]
            if gone:
                self._watched.update(await resolve(self._log, gone, None))
            reader = await self._log.reader()
            await reader.start_at({place: watched.next_offset for place, watched in self._watched.items()})
            self._reader = reader

    async def _take(self, record: Record) -> None:
        place = TopicPartition(record.topic, record.partition)
        watched = self._watched.get(place)
        if watched is None or record.offset < watched.next_offset:
            return
        watched.next_offset = record.offset + 1
        if watched.judge(record) is not Verdict.ACCEPTED or record.offset < watched.live_from:
            return
        seen = Seen(record, self._codec)
        by_command, by_subject = self._listeners.by_command, self._listeners.by_subject
        waiting = [
            *(by_command.get(seen.command_id or "", ()) if by_command else ()),
            *(by_subject.get(seen.subject, ()) if by_subject else ()),
        ]
        listeners = list(self._listeners.by_place.get((place, None), ()))
        if record.key is not None:
            listeners += self._listeners.by_place.get((place, record.key), ())
        if (waiting or listeners) and self._learn is not None:
            await seen.learned(self._learn)
        for expectation in waiting:
            expectation.offer(seen)
        for listener in listeners:
            listener.offer(seen)
