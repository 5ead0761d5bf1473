"""LangGraph's checkpointer on the log: threads are appended to `checkpoints.events` and read from what that became."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import groupby
from typing import Any, Final, Self, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from diurna.connection import Connection
from diurna.locks import ResourceLockManager
from diurna.settings import ClientSettings
from diurna.settings import database_url as found_database_url
from diurna_projections.store import StoredThreads
from diurna_projections.thread_rows import Checkpoint as CheckpointRow
from diurna_projections.threads import Wanted
from diurna_schemas.checkpoints import ThreadDeleted
from diurna_schemas.errors import InvalidInput
from diurna_workflows.checkpointer.blocking import BlockingTwins, listed_on_its_loop, on_its_loop
from diurna_workflows.checkpointer.cache import EMPTY, Head
from diurna_workflows.checkpointer.config import (
    Bounds,
    Place,
    before_of,
    begins_to_write,
    check_mapping,
    checked_thread,
    goes_on,
    is_of_run,
)
from diurna_workflows.checkpointer.copying import copy_thread
from diurna_workflows.checkpointer.drafts import (
    RecordDraft,
    draft_of_checkpoint,
    draft_of_writes,
)
from diurna_workflows.checkpointer.guard import AGENT_ID, Guard, LockedThreads
from diurna_workflows.checkpointer.history import delta_history, dropping, emptying, unkept_by_pruning
from diurna_workflows.checkpointer.loop_thread import LoopThread
from diurna_workflows.checkpointer.reading import check_whole, metadata_of, tuple_of, tuple_of_head
from diurna_workflows.checkpointer.reads import FollowedThreads, ReadsThreads
from diurna_workflows.checkpointer.steps import Steps
from diurna_workflows.checkpointer.threads import IDLE_SECONDS, Threads
from diurna_workflows.metrics import CHECKPOINT_SECONDS

PRUNE_STRATEGIES: Final = ("keep_latest", "delete")
_PAGE_CHECKPOINTS: Final = 20
_PUT, _PUT_WRITES, _GET = (CHECKPOINT_SECONDS.labels(operation) for operation in ("put", "put_writes", "get"))


class KafkaCheckpointSaver(BlockingTwins):
    """LangGraph's checkpointer on Diurna's log.

    What `aput` and `aput_writes` return from is durable. One process at a time writes to a thread; a late writer gets
    `Conflict`, and what it wrote does not count. Reads hold everything that was written before they were asked, by any
    process. Values are serialised with msgpack in strict mode: of classes that are not LangGraph's own, name those you
    want back in `serde=JsonPlusSerializer(allowed_msgpack_modules=[...])`.

    `reads` is where threads are read: by default the whole log is folded in this process, which suits tests; `open`
    reads Postgres. `guard` keeps writers apart: by default the lock `thread:…`.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        reads: ReadsThreads | None = None,
        guard: Guard | None = None,
        serde: SerializerProtocol | None = None,
        idle_seconds: float = IDLE_SECONDS,
        owns_connection: bool = False,
    ) -> None:
        super().__init__(serde=_safe(serde))
        self._connection = connection
        self._reads = reads or FollowedThreads(connection.log, connection.codec, learn=connection.learn)
        self._threads = Threads(
            connection,
            self._reads,
            guard or LockedThreads(ResourceLockManager(connection=connection)),
            idle_seconds=idle_seconds,
        )
        self._steps = Steps()
        self._owns_connection = owns_connection

    @classmethod
    async def open(
        cls,
        settings: ClientSettings | None = None,
        *,
        database_url: str | None = None,
        agent_id: str = AGENT_ID,
        serde: SerializerProtocol | None = None,
    ) -> Self:
        """Connects to the log and to Postgres: those the environment names, else those of the stack running here.

        `agent_id` is who holds the threads this saver writes to. Raises `Unavailable` where a part does not answer, or
        where it is not known where it is.
        """
        safe = _safe(serde)
        where = database_url or found_database_url()
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(await Connection.open(settings, source="/checkpointers"))
            reads = await StoredThreads.connect(where)
            guard = LockedThreads(ResourceLockManager(connection=connection), agent_id=agent_id)
            saver = cls(connection, reads=reads, guard=guard, serde=safe, owns_connection=True)
            stack.pop_all()
        return saver

    @classmethod
    @contextmanager
    def background(
        cls,
        settings: ClientSettings | None = None,
        *,
        database_url: str | None = None,
        agent_id: str = AGENT_ID,
        serde: SerializerProtocol | None = None,
    ) -> Generator[Self]:
        """As `open`, for a program without an event loop: the saver works on one in a thread of its own."""
        with LoopThread("diurna-checkpointer") as loop:
            opening = cls.open(settings, database_url=database_url, agent_id=agent_id, serde=serde)
            saver = loop.wait(opening)
            try:
                yield saver
            finally:
                loop.wait(saver.aclose())

    @on_its_loop
    async def aclose(self) -> None:
        """Writes what is queued, and gives every thread back."""
        await self._threads.close()
        await self._reads.close()
        if self._owns_connection:
            await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    @asynccontextmanager
    async def holding(self, thread_id: str) -> AsyncGenerator[int]:
        """Holds the thread while the block lasts, also while nothing is written; yields the fencing token.

        Raises `Conflict` where another holds it. Without this a thread is held from a run's beginning, or from a
        write on, until nothing was written for a second.
        """
        async with self._threads.holding(checked_thread(thread_id)) as thread:
            yield thread.hold.token

    # --- writing ----------------------------------------------------------------------------------------

    @on_its_loop
    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Saves a checkpoint, and returns once it is durable, or once the run has gone on all the same.

        A run that goes on before its checkpoint is durable (durability "async") writes what its next tasks did, and
        waits for that: it is durable only when the checkpoint is. So such a run does not wait for each step's record
        by itself, and still ends only when all of them are durable.

        Raises `InvalidInput` or `TooLarge` where it cannot be saved, `Conflict` where another writer has the thread.
        """
        place = Place.of(config)
        draft = draft_of_checkpoint(
            self.serde, place, config=config, checkpoint=checkpoint, metadata=metadata, new_versions=new_versions
        )
        draft.can_wait, draft.is_of_run = goes_on(config), is_of_run(config)
        with _PUT.time():
            await self._threads.outbox.room()
            await self._steps.save(draft, self._threads.append)
        return place.at(draft.checkpoint_id)

    @on_its_loop
    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Saves what a task wrote after a checkpoint, and returns once it is durable.

        What a task wrote first stays. Raises as `aput` does.
        """
        place = Place.of(config)
        draft = draft_of_writes(self.serde, place, writes, task_id, task_path)
        draft.can_wait, draft.is_of_run = goes_on(config), is_of_run(config)
        with _PUT_WRITES.time():
            await self._threads.outbox.room()
            await self._steps.go_on(draft, self._threads.append)

    @on_its_loop
    async def adelete_thread(self, thread_id: str) -> None:
        """Deletes a thread with all its namespaces. A thread that is not there is no error."""
        await self._threads.all_here(checked_thread(thread_id))
        summary = await self._threads.summary(thread_id)
        if summary.thread is None and summary.damage is None:
            return
        async with self._threads.holding(thread_id) as thread:
            thread.is_gone = True  # from now on nobody goes on with what it has
            await self._threads.caught_up(thread_id)
            keys = await self._reads.keys(thread_id)
            if not (keys.checkpoints or keys.blobs or keys.writes or summary.damage):
                return
            gone = [*emptying(thread_id, keys), ThreadDeleted(thread_id=thread_id, token=0)]
            await self._threads.appended(*(RecordDraft(record) for record in gone))
            await self._threads.reload(thread)

    @on_its_loop
    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Deletes the checkpoints these runs made, with their writes. Runs that made none are no error."""
        _check_sequence("run_ids", run_ids)
        if not run_ids:
            return
        await self._threads.all_caught_up()
        found = sorted(await self._reads.keys_of_runs(run_ids))
        for thread_id, some in groupby(found, key=lambda key: key.thread_id):
            unwanted = {(key.checkpoint_ns, key.checkpoint_id) for key in some}
            async with self._threads.holding(thread_id):
                await self._drop(thread_id, unwanted, f"runs {', '.join(run_ids)}"[:1_000])

    @on_its_loop
    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keeps of each thread the newest checkpoint of each namespace, or nothing.

        Ancestors a `DeltaChannel` is rebuilt from are kept too. Raises `InvalidInput` where there is no such strategy.
        """
        _check_sequence("thread_ids", thread_ids)
        if strategy not in PRUNE_STRATEGIES:
            raise InvalidInput("strategy", strategy, f"known strategies are {', '.join(PRUNE_STRATEGIES)}")
        for thread_id in thread_ids:
            if strategy == "delete":
                await self.adelete_thread(thread_id)
                continue
            checked_thread(thread_id)
            if (await self._threads.summary(thread_id)).thread is None:
                continue
            async with self._threads.holding(thread_id):
                await self._threads.caught_up(thread_id)
                unkept = await unkept_by_pruning(self._reads, self.serde, thread_id)
                await self._drop(thread_id, unkept, "pruned: the latest are kept")

    @on_its_loop
    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copies a whole thread. Raises `NotFound` where there is none, `Conflict` where the target has other content.

        The copy grows from the oldest checkpoint to the newest; interrupted, it can be made again.
        """
        await self.acopy_until(source_thread_id, target_thread_id, None)

    @on_its_loop
    async def acopy_until(self, source_thread_id: str, target_thread_id: str, checkpoint_id: str | None) -> None:
        """Copies a thread up to a checkpoint of its root graph, with what subgraphs did on the way there.

        What was done after the checkpoint is not copied: a run that goes on from it does that again. Without
        `checkpoint_id`, the whole thread.
        """
        checked_thread(source_thread_id, "source_thread_id")
        checked_thread(target_thread_id, "target_thread_id")
        if source_thread_id == target_thread_id:
            raise InvalidInput("target_thread_id", target_thread_id, "a thread cannot be copied onto itself")
        await copy_thread(self._threads, self.serde, source_thread_id, target_thread_id, checkpoint_id)

    # --- reading ----------------------------------------------------------------------------------------

    @on_its_loop
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """A checkpoint: the one the config names, else the newest of its namespace; none where there is none.

        Raises `Unreadable` where a record of the thread is lost, or a value cannot be read.
        """
        place = Place.of(config)
        if place.checkpoint_id is not None:
            named = (place.thread_id, place.checkpoint_ns, place.checkpoint_id)
            self._threads.addressed.note(named, is_run=is_of_run(config))
        thread = self._threads.known(place.thread_id)
        head = None if thread is None else thread.head(place.checkpoint_ns)
        if head is not None and place.checkpoint_id in {None, head.checkpoint_id}:
            return None if head is EMPTY else tuple_of_head(self.serde, place, head)
        read = self._threads.begun if begins_to_write(config) else self._threads.get
        with _GET.time():
            found = await read(place.thread_id, place.checkpoint_ns, place.checkpoint_id)
        if place.checkpoint_id is None:
            check_whole(found)
        if found.saved is None:
            return None
        whole = Head.of(found.saved)
        if place.checkpoint_id is None:
            self._threads.read_heads.remember(place.thread_id, place.checkpoint_ns, whole)
        return tuple_of_head(self.serde, place, whole)

    @listed_on_its_loop
    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's own word
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, newest first: of a thread or of all, whose metadata agree with `filter`, older than `before`."""
        if filter is not None:
            check_mapping("filter", filter)
        bounds = Bounds.of(config)
        wanted = Wanted(bounds.thread_id, bounds.checkpoint_ns, bounds.checkpoint_id, before_of(before))
        left = _limit(limit)
        if bounds.thread_id is None:
            await self._threads.all_caught_up()
        else:
            await self._threads.caught_up(bounds.thread_id)

        def accept(row: CheckpointRow) -> bool:
            what = f"checkpoint {row.checkpoint_id} of thread {row.thread_id!r}"
            metadata = metadata_of(self.serde, row.metadata_kind, row.metadata, what)
            return all(metadata.get(key) == value for key, value in (filter or {}).items())

        while left is None or left > 0:
            size = _PAGE_CHECKPOINTS if left is None else min(_PAGE_CHECKPOINTS, left)
            page = await self._reads.page(wanted, limit=size, accept=accept if filter else None)
            for saved in page:
                yield tuple_of(self.serde, saved)
            if len(page) < size:
                return
            left = None if left is None else left - len(page)
            wanted = Wanted(*_bounds(wanted), page[-1].key)

    @on_its_loop
    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What the ancestors of a checkpoint wrote to channels, back to the nearest that has a value."""
        if not channels:
            return {}
        place = Place.of(config)
        await self._threads.caught_up(place.thread_id)
        return await delta_history(self._reads, self.serde, place, channels)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The next version of a channel: a number, and chance behind it, so that two branches never share a version."""
        number = 0 if current is None else int(str(current).partition(".")[0])
        return f"{number + 1:010d}.{secrets.token_hex(4)}"

    # --- inside -----------------------------------------------------------------------------------------

    async def _drop(self, thread_id: str, unwanted: set[tuple[str, str]], reason: str) -> None:
        """Drops checkpoints of a thread that is held."""
        await self._threads.caught_up(thread_id)
        records = dropping(thread_id, await self._reads.keys(thread_id), unwanted, reason)
        if drafts := [RecordDraft(record) for record in records]:
            await self._threads.appended(*drafts)
            await self._threads.reload(await self._threads.opened(thread_id))


def _safe(serde: SerializerProtocol | None) -> SerializerProtocol:
    """Strict msgpack. Raises `InvalidInput` for a serialiser that would run what it reads."""
    if serde is None:
        return JsonPlusSerializer(allowed_msgpack_modules=None)
    if getattr(serde, "pickle_fallback", False):
        raise InvalidInput("serde", serde, "pickle runs what it reads; a log is read by many")
    return serde


def _bounds(wanted: Wanted) -> tuple[str | None, str | None, str | None, str | None]:
    return wanted.thread_id, wanted.checkpoint_ns, wanted.checkpoint_id, wanted.before


def _limit(limit: object) -> int | None:
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise InvalidInput("limit", limit, "a whole number is needed")
    return limit


def _check_sequence(field: str, values: object) -> None:
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise InvalidInput(field, values, "a sequence of ids is needed")
    for value in cast("Sequence[object]", values):
        if not isinstance(value, str):
            raise InvalidInput(field, value, "ids are strings")
