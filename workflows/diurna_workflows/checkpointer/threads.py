"""The threads a saver writes to: each held by one writer, opened by looking whether it is still where the run began.

A thread is held from a run's beginning, or from its first write on, and given back once nothing was written for a
moment. So a dead writer is in the way for one lease at most, and a run whose nodes take long holds nothing meanwhile.
What makes that safe is the look: whoever takes a thread up and finds that it moved on since is refused. A run's first
read is that look too, where the log says that nobody else had the thread from before it was read.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from diurna.connection import Connection
from diurna.leases import now_seconds
from diurna_projections.threads import Found, Summary
from diurna_schemas.errors import Conflict
from diurna_schemas.ids import Position
from diurna_schemas.topics import CHECKPOINTS, partition_of
from diurna_workflows.checkpointer.cache import ReadHeads
from diurna_workflows.checkpointer.drafts import CheckpointDraft, Draft
from diurna_workflows.checkpointer.frontier import Frontier
from diurna_workflows.checkpointer.guard import Guard, Hold
from diurna_workflows.checkpointer.late import Addressed, Place, places_of, remember, why_late
from diurna_workflows.checkpointer.open_thread import OpenThread
from diurna_workflows.checkpointer.outbox import Appended, Outbox
from diurna_workflows.checkpointer.reads import ReadsThreads

IDLE_SECONDS: Final = 1.0
"""So long a thread stays held after the last write."""
READ_SECONDS: Final = 30.0
"""How long a read waits for the projection."""
_SWEEP_SECONDS: Final = 0.25

R = TypeVar("R", Found, Summary)


@dataclass(eq=False, slots=True)
class _Opening:
    """A thread that is about to be held, and what is to be appended then."""

    drafts: list[Draft] = field(default_factory=list[Draft])
    task: asyncio.Task[OpenThread] | None = None
    reading: asyncio.Task[Found] | None = None
    """It is read meanwhile, and that was asked for at `asked_at`."""
    asked_at: float = 0.0


class Threads:
    """All threads of one saver."""

    def __init__(
        self, connection: Connection, reads: ReadsThreads, guard: Guard, *, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self.reads = reads
        self.read_heads = ReadHeads()
        self.outbox = Outbox(connection.log, connection.codec, connection.clock_ms, self._settled)
        self._frontier = Frontier(connection.log)
        self._guard = guard
        self._idle_seconds = idle_seconds
        self._open: dict[str, OpenThread] = {}
        self._opening: dict[str, _Opening] = {}
        self._absent: OrderedDict[str, int] = OrderedDict()
        self.addressed = Addressed()
        self._lost: OrderedDict[Place, BaseException] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.Task[None] | None = None

    # --- what is known ----------------------------------------------------------------------------------

    def known(self, thread_id: str) -> OpenThread | None:
        """The thread where it is held, so that nobody else can have written to it."""
        found = self._open.get(thread_id)
        return found if found is not None and found.is_known and found.hold.is_safe else None

    async def get(self, thread_id: str, checkpoint_ns: str, checkpoint_id: str | None) -> Found:
        """A checkpoint, with everything that was written to the thread before this moment, by anybody."""
        found = await self._fresh(thread_id, lambda: self.reads.get(thread_id, checkpoint_ns, checkpoint_id))
        if found.thread is None and found.damage is None:
            remember(self._absent, thread_id, found.next)
        return found

    async def begun(self, thread_id: str, checkpoint_ns: str, checkpoint_id: str | None) -> Found:
        """As `get`, for a run that begins: it will write, so the thread is taken while it is read."""
        if self.known(thread_id) is not None or thread_id in self._opening:
            return await self.get(thread_id, checkpoint_ns, checkpoint_id)
        self._open_for(thread_id, None)  # it begins first: what is read then is read while it listens
        opening = self._opening[thread_id]

        async def read() -> Found:
            opening.asked_at = now_seconds()
            return await self.get(thread_id, checkpoint_ns, checkpoint_id)

        opening.reading = asyncio.create_task(read(), name=f"read {thread_id}")
        return await opening.reading

    async def summary(self, thread_id: str) -> Summary:
        """The thread, with everything that was written to it before this moment, by anybody."""
        absent_until = self._absent.pop(thread_id, None)
        if absent_until is not None and all(one.offset < absent_until for one in await self._needed(thread_id)):
            return Summary(None, None, {}, absent_until)  # it was not there, and nothing was written to it since
        return await self._fresh(thread_id, lambda: self.reads.summary(thread_id))

    async def _fresh(self, thread_id: str, read: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Reads while it is being asked what has to be read, and again where it was not there yet."""
        reading = asyncio.ensure_future(read())
        try:
            needed = await self._needed(thread_id)
        except BaseException:
            reading.cancel()
            raise
        found = await reading
        while any(found.next <= one.offset for one in needed):
            await self.reads.passed(needed, seconds=READ_SECONDS)
            found = await read()
        return found

    async def caught_up(self, thread_id: str) -> None:
        """Waits until reads hold everything that was written to the thread before this moment, by anybody."""
        await self._settled_here(thread_id)
        await self.reads.passed(await self._needed(thread_id), seconds=READ_SECONDS)

    async def _needed(self, thread_id: str) -> list[Position]:
        """The last record of the thread at this moment. Of a thread that is held, that is one of ours."""
        if (found := self.known(thread_id)) is not None:
            return [] if found.position is None else [found.position]
        return await self._frontier.of(thread_id)

    async def all_here(self, thread_id: str) -> None:
        """Waits until everything this saver has for the thread is written, or is refused."""
        opening = self._opening.get(thread_id)
        if opening is not None and opening.task is not None:
            await asyncio.wait({opening.task})
        await self._settled_here(thread_id)

    async def _settled_here(self, thread_id: str) -> None:
        held = self.known(thread_id)
        if held is not None and held.last is not None:
            await asyncio.wait({held.last.done})

    async def all_caught_up(self) -> None:
        """Waits until reads hold everything that was written to any thread before this moment."""
        await self.reads.passed(await self._frontier.of_all(), seconds=READ_SECONDS)

    # --- writing ----------------------------------------------------------------------------------------

    async def appended(self, *drafts: Draft) -> None:
        """Appends drafts, and returns when all are durable."""
        await self.outbox.room()
        for draft in drafts:
            self.append(draft)
        for draft in drafts:
            await draft.done

    def append(self, draft: Draft) -> None:
        """Appends a draft as soon as the thread is held; `draft.done` tells how that ended.

        It fails with `Conflict` where another holds the thread, where it moved on since, or where it was lost before
        the draft was durable.
        """
        thread = self.known(draft.thread_id)
        if thread is not None and draft.thread_id not in self._opening:
            self._send(thread, draft)
        elif not self._is_refused(draft):
            self._open_for(draft.thread_id, draft)

    async def opened(self, thread_id: str) -> OpenThread:
        """The thread, held. Raises `Conflict` where another holds it."""
        found = self.known(thread_id)
        if found is not None and thread_id not in self._opening:
            return found
        return await asyncio.shield(self._open_for(thread_id, None))

    @asynccontextmanager
    async def holding(self, thread_id: str) -> AsyncGenerator[OpenThread]:
        """The thread, held from the beginning of the block to its end, whether it is written to or not."""
        found = await self.opened(thread_id)
        found.is_untouched = False  # whoever holds it reads it first
        found.pins += 1
        keeping = asyncio.create_task(_keep(found), name=f"hold {thread_id}")
        try:
            yield found
        finally:
            keeping.cancel()
            found.pins -= 1
            found.used_at = time.monotonic()

    async def reload(self, thread: OpenThread) -> None:
        """Looks again at a thread that lost checkpoints."""
        summary = await self.summary(thread.thread_id)
        thread.begin_again(summary.heads, is_gone=_is_gone(summary))

    async def close(self) -> None:
        """Writes what is on its way, and gives every thread back."""
        await self.outbox.close()
        tasks = [opening.task for opening in self._opening.values() if opening.task is not None]
        for task in [*tasks, *self._tasks, *([] if self._sweeping is None else [self._sweeping])]:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        threads = list(self._open.values())
        self._open.clear()
        await asyncio.gather(*(thread.hold.release() for thread in threads))
        await self._frontier.close()

    # --- inside -----------------------------------------------------------------------------------------

    def _send(self, thread: OpenThread, draft: Draft) -> None:
        if self._is_refused(draft, thread):
            return
        thread.is_untouched = False
        thread.is_gone = thread.is_gone and not isinstance(draft, CheckpointDraft)
        thread.hold.keep()
        thread.queued += 1
        thread.last = draft
        self.outbox.put(thread, draft)

    def _settled(self, appended: Appended, draft: Draft, outcome: int | BaseException) -> None:
        """What became of a draft that was written."""
        thread = appended
        if not isinstance(thread, OpenThread):
            raise TypeError(f"{thread} is no thread of ours")
        thread.queued -= 1
        thread.used_at = time.monotonic()
        if isinstance(outcome, BaseException):
            thread.is_known = False  # it may be there or not
            self._fail(draft, places_of(draft)[0], outcome)
            return
        thread.took(draft, Position(CHECKPOINTS, partition_of(thread.thread_id), outcome))
        if thread.hold.is_safe:
            draft.succeed()
        else:
            task = asyncio.create_task(self._confirm(thread, draft))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _is_refused(self, draft: Draft, thread: OpenThread | None = None) -> bool:
        """Whether what a draft builds on is not there, or no longer the end of a thread that was just taken."""
        is_checked = thread is not None and (thread.is_untouched or thread.is_gone)
        if not self._lost and not is_checked:
            return False
        place, base = places_of(draft)
        if base is None:
            return False
        error = self._lost.get(base)
        if error is None and thread is not None and is_checked:
            error = why_late(draft, base, thread, self.addressed)
        if error is not None:
            self._fail(draft, place, error)
        return error is not None

    def _fail(self, draft: Draft, place: Place | None, error: BaseException) -> None:
        if place is not None:
            remember(self._lost, place, error)
        draft.fail(error)

    def _open_for(self, thread_id: str, draft: Draft | None) -> asyncio.Task[OpenThread]:
        opening = self._opening.setdefault(thread_id, _Opening())
        if draft is not None:
            opening.drafts.append(draft)
        if opening.task is None:
            opening.task = asyncio.create_task(self._take(thread_id, opening), name=f"open {thread_id}")
            opening.task.add_done_callback(_retrieved)
        return opening.task

    async def _take(self, thread_id: str, opening: _Opening) -> OpenThread:
        """Takes the thread and appends what waited for it; where that fails, all of it fails."""
        try:
            thread = await self._taken(thread_id, opening)
        except BaseException as error:
            del self._opening[thread_id]
            for draft in opening.drafts:
                self._fail(draft, places_of(draft)[0], error)
            raise
        del self._opening[thread_id]
        self._open[thread_id] = thread
        for draft in opening.drafts:
            self._send(thread, draft)
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep(), name="diurna-release-threads")
        return thread

    async def _taken(self, thread_id: str, opening: _Opening) -> OpenThread:
        lost = self._open.pop(thread_id, None)
        if lost is not None:
            await lost.hold.release()
            if lost.pins:
                raise _lost(thread_id)
        hold = await self._guard.hold(thread_id)
        try:
            return await self._looked(thread_id, hold, opening)
        except BaseException:
            await asyncio.shield(hold.release())
            raise

    async def _looked(self, thread_id: str, hold: Hold, opening: _Opening) -> OpenThread:
        """The thread as it is now that nobody else can write to it."""
        summary = await self._read_meanwhile(thread_id, hold, opening) or await self.summary(thread_id)
        token_before = 0 if summary.thread is None else summary.thread.token
        if token_before > hold.token:
            raise Conflict(
                f"thread {thread_id!r} was written to with token {token_before}, ours is {hold.token}: "
                "one of the two writers does not hold the lock",
                code="thread_lost",
            )
        position = Position(CHECKPOINTS, partition_of(thread_id), summary.next - 1) if summary.next else None
        thread = OpenThread(thread_id, hold, summary.heads, position, token_before, is_gone=_is_gone(summary))
        for namespace, newest in summary.heads.items():
            head = self.read_heads.take(thread_id, namespace)
            if head is not None and head.checkpoint_id == newest:
                thread.heads[namespace] = head
        return thread

    async def _read_meanwhile(self, thread_id: str, hold: Hold, opening: _Opening) -> Summary | None:
        """What was read while the thread was taken, where nobody else had it from before that was asked for."""
        if opening.reading is None:
            return None
        await asyncio.wait({opening.reading})
        if opening.reading.cancelled() or opening.reading.exception() is not None:
            return None
        if hold.alone_since is None or hold.alone_since > opening.asked_at:
            return None
        found = opening.reading.result()
        if self._absent.pop(thread_id, None) is not None:
            return Summary(None, None, {}, found.next)
        return await self.reads.summary(thread_id)

    async def _confirm(self, thread: OpenThread, draft: Draft) -> None:
        """The thread may have been lost before the draft was durable: takes it again to see whether it counts."""
        try:
            again = await self.opened(thread.thread_id)
            if again.token_before > thread.token:
                raise _lost(thread.thread_id)
        except BaseException as error:
            self._fail(draft, places_of(draft)[0], error)
            if not isinstance(error, Exception):
                raise
        else:
            draft.succeed()

    async def _sweep(self) -> None:
        while self._open:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = time.monotonic()
            idle = [
                thread
                for thread in self._open.values()
                if not thread.queued and not thread.pins and now - thread.used_at > self._idle_seconds
            ]
            for thread in idle:
                del self._open[thread.thread_id]
            await asyncio.gather(*(thread.hold.release() for thread in idle))


async def _keep(thread: OpenThread) -> None:
    while True:
        thread.hold.keep()
        await asyncio.sleep(_SWEEP_SECONDS)


def _is_gone(summary: Summary) -> bool:
    """Whether the thread was there, and has been deleted."""
    return summary.thread is not None and not summary.heads


def _retrieved(task: asyncio.Task[OpenThread]) -> None:
    """Those whose drafts failed were told; nobody needs to wait for the task itself."""
    if not task.cancelled():
        task.exception()


def _lost(thread_id: str) -> Conflict:
    return Conflict(
        f"thread {thread_id!r} was lost to another writer: what was written here since does not count",
        code="thread_lost",
    )
