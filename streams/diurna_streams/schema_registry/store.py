"""The registry on its log: folds what stands there, writes what is decided, and waits until its own record is read.

Several registries may run on one log. None owns it: each decides on what it has folded, writes, and reads its own
records back. `model` says which of two colliding records wins; the loser puts the key right and decides again.
Racing settings, or a deletion beside a registration, simply happen in the order of the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, Self, TypeVar

import structlog

from diurna_schemas.errors import TimedOut, Unavailable, Unreadable
from diurna_streams.schema_registry import refusals
from diurna_streams.schema_registry.decisions import Decision, settle
from diurna_streams.schema_registry.model import Entry, Place, State, Verdict, evolve, place_of

AnswerT = TypeVar("AnswerT")

ATTEMPTS_MAX: Final = 20
WAIT_MS: Final = 10_000
DISPUTE_AGE_MS: Final = 10_000
"""How long a disputed key is left to the writer that lost it."""
BATCH_BYTES_MAX: Final = 900_000
_RETRY_MS: Final = 500
_REJECTIONS_KEPT_MAX: Final = 1_000

_log = structlog.get_logger(__name__)


def _now_ms() -> int:
    return int(time.time() * 1000)


@dataclass(frozen=True, slots=True)
class Written:
    """A record as it stands on the registry's log."""

    offset: int
    timestamp_ms: int
    entry: Entry


class SchemaLog(Protocol):
    """The one partition the registry lives on. One task reads it; writes may come from others."""

    async def start(self) -> int:
        """Goes (back) to the first record and returns its offset."""
        ...

    async def append(self, entries: Sequence[Entry]) -> int:
        """Writes the records as one batch and returns the first one's offset once they are durable.

        Raises `Unavailable` where they were not acknowledged: they may or may not be there.
        """
        ...

    async def read(self, *, wait_ms: int) -> list[Written]:
        """The next records in order; empty where none came within `wait_ms`."""
        ...

    async def end(self) -> int:
        """The offset after the last record."""
        ...

    async def close(self) -> None: ...


class SchemaRegistry:
    """What the routes ask: `state` as far as it is folded, `refresh` up to now, and `write`."""

    def __init__(self, log: SchemaLog, *, clock_ms: Callable[[], int] = _now_ms) -> None:
        self._log = log
        self._clock_ms = clock_ms
        self._state = State()
        self._next = 0
        self._rejections: dict[int, Place] = {}
        self._moved = asyncio.Condition()
        self._writing = asyncio.Lock()
        self._follower: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, log: SchemaLog, *, clock_ms: Callable[[], int] = _now_ms) -> AsyncGenerator[Self]:
        """A registry that has folded its log, follows it, and is closed in the end."""
        registry = cls(log, clock_ms=clock_ms)
        await registry.start()
        try:
            yield registry
        finally:
            await registry.close()

    @property
    def state(self) -> State:
        """What is folded so far; another registry's newest write may be missing."""
        return self._state

    async def start(self) -> None:
        """Folds the whole log. Raises `Unavailable` where it cannot be read."""
        self._next = await self._log.start()
        self._follower = asyncio.create_task(self._follow(), name="schema-registry-follower")
        try:
            await self.refresh()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Follows no longer and lets go of the log."""
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
            self._follower = None
        await self._log.close()

    async def refresh(self) -> State:
        """The state with everything that stood on the log when this was called."""
        return await self._until(await self._log.end())

    async def write(self, decide: Callable[[State], Decision[AnswerT]]) -> AnswerT:
        """Decides, writes, and returns the answer when the records were read back as accepted.

        Raises what `decide` refuses, and `Unavailable` where it is unknown whether the records were written: asking
        again is safe, for a registration that happened is found.
        """
        async with self._writing:
            lost: set[Place] = set()
            for _ in range(ATTEMPTS_MAX):
                state = await self.refresh()
                lost = {place for place in lost if place in state.disputed} | self._abandoned(state)
                decision, refusal = _decided(decide, state)
                entries = (*_settling(state, lost, decision), *(decision.entries if decision else ()))
                rejected = await self._append(entries) if entries else set[Place]()
                if not rejected:
                    if decision is None:
                        raise refusal or AssertionError("a decision is made or refused")
                    return decision.answer
                lost |= rejected
            raise Unavailable(f"other writers were first {ATTEMPTS_MAX} times")

    async def _append(self, entries: Sequence[Entry]) -> set[Place]:
        """Writes the records, reads them back, and returns the places of those that were rejected."""
        rejected: set[Place] = set()
        for batch in _batches(entries):
            first = await self._log.append(batch)
            await self._until(first + len(batch))
            offsets = range(first, first + len(batch))
            rejected |= {self._rejections[offset] for offset in offsets if offset in self._rejections}
        return rejected

    def _abandoned(self, state: State) -> set[Place]:
        """Disputed keys whose loser had its time and did not put them right."""
        before_ms = self._clock_ms() - DISPUTE_AGE_MS
        return {place for place, (at_ms, _) in state.disputed.items() if at_ms < before_ms}

    async def _until(self, offset: int) -> State:
        try:
            async with asyncio.timeout(WAIT_MS / 1000), self._moved:
                await self._moved.wait_for(lambda: self._next >= offset or self._stopped())
        except TimeoutError as error:
            raise TimedOut(f"reading the schemas up to offset {offset}", WAIT_MS / 1000) from error
        if self._next < offset:
            raise Unavailable("the schema registry was closed")
        return self._state

    def _stopped(self) -> bool:
        return self._follower is None or self._follower.done()

    async def _follow(self) -> None:
        """Reads on for ever; what cannot be read now is read later."""
        try:
            while True:
                try:
                    written = await self._log.read(wait_ms=_RETRY_MS)
                except Unavailable as error:
                    _log.warning("schemas cannot be read", error=str(error))
                    await asyncio.sleep(_RETRY_MS / 1000)
                    continue
                except Unreadable as error:
                    # The log was cut or made anew: what is known no longer counts.
                    _log.error("schemas are gone, starting again", error=str(error))
                    await self._restart()
                    continue
                if written:
                    await self._fold(written)
        finally:
            async with self._moved:
                self._moved.notify_all()

    async def _restart(self) -> None:
        try:
            first = await self._log.start()
        except Unavailable as error:
            _log.warning("schemas cannot be read", error=str(error))
            await asyncio.sleep(_RETRY_MS / 1000)
            return
        self._state, self._next = State(), first
        self._rejections.clear()

    async def _fold(self, written: Sequence[Written]) -> None:
        for one in written:
            self._state, verdict = evolve(self._state, one.entry, at_ms=one.timestamp_ms)
            self._next = one.offset + 1
            if verdict is Verdict.REJECTED:
                self._remember_rejection(one)
            elif verdict is Verdict.UNREADABLE:
                _log.warning("a record of the schemas means nothing", offset=one.offset, key=one.entry.key[:200])
        async with self._moved:
            self._moved.notify_all()

    def _remember_rejection(self, one: Written) -> None:
        place = place_of(one.entry)
        self._rejections[one.offset] = place
        while len(self._rejections) > _REJECTIONS_KEPT_MAX:
            del self._rejections[next(iter(self._rejections))]
        _log.info("another writer was first", subject=place.subject, version=place.version, offset=one.offset)


def _decided(
    decide: Callable[[State], Decision[AnswerT]], state: State
) -> tuple[Decision[AnswerT] | None, refusals.RegistryRefusal | None]:
    try:
        return decide(state), None
    except refusals.RegistryRefusal as refusal:
        return None, refusal  # what was lost must be put right first


def _settling(state: State, lost: set[Place], decision: Decision[AnswerT] | None) -> list[Entry]:
    """The records that put lost keys right, those excepted that the decision itself overwrites."""
    overwritten = {entry.key for entry in decision.entries} if decision else set[bytes]()
    settling = [settle(state, place) for place in sorted(lost)]
    return [entry for entry in settling if entry.key not in overwritten]


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Parts that fit into one record batch each: a subject may have more versions to delete than one can hold."""
    start, size = 0, 0
    for index, entry in enumerate(entries):
        entry_size = len(entry.key) + len(entry.value or b"")
        if index > start and size + entry_size > BATCH_BYTES_MAX:
            yield entries[start:index]
            start, size = index, 0
        size += entry_size
    yield entries[start:]
