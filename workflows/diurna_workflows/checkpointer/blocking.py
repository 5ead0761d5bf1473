"""The twins that block, and calls from other event loops: all are done on the loop the saver was made on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from diurna_schemas.errors import Conflict

T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])


def on_its_loop(work: Method) -> Method:
    """A coroutine method that may be awaited on any event loop, and is done on the saver's own."""

    @wraps(work)
    async def done(self: BlockingTwins, *args: Any, **more: Any) -> Any:
        if asyncio.get_running_loop() is self.loop:
            return await work(self, *args, **more)
        return await self.elsewhere(work(self, *args, **more))

    return cast("Method", done)


def listed_on_its_loop(work: Method) -> Method:
    """As `on_its_loop`, for what is iterated over."""

    @wraps(work)
    async def listed(self: BlockingTwins, *args: Any, **more: Any) -> AsyncIterator[Any]:
        found = work(self, *args, **more)
        if asyncio.get_running_loop() is self.loop:
            async for one in found:
                yield one
            return
        while (one := await self.elsewhere(_next(found))) is not None:
            yield one

    return cast("Method", listed)


class BlockingTwins(BaseCheckpointSaver[str]):
    """Hands every blocking call over to the event loop the saver was made on.

    On that loop's own thread it raises `asyncio.InvalidStateError`, as LangGraph's own savers do: it would wait for
    itself.
    """

    def __init__(self, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        self.loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._wait("aget_tuple", self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's own word
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        found = self.alist(config, filter=filter, before=before, limit=limit)
        while True:
            one = self._wait("alist", _next(found))
            if one is None:
                return
            yield one

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self._wait("aput", self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._wait("aput_writes", self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        self._wait("adelete_thread", self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._wait("adelete_for_runs", self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._wait("acopy_thread", self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self._wait("aprune", self.aprune(thread_ids, strategy=strategy))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self._wait(
            "aget_delta_channel_history", self.aget_delta_channel_history(config=config, channels=channels)
        )

    def _wait(self, twin: str, work: Coroutine[Any, Any, T]) -> T:
        if threading.get_ident() == self._loop_thread:
            work.close()
            raise asyncio.InvalidStateError(
                f"a blocking call on the event loop's own thread would wait for itself: use `await saver.{twin}(...)` "
                "and `await graph.ainvoke(...)`"
            )
        return self._begun(work).result()

    async def elsewhere(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work comes to on the saver's own loop. Raises `Conflict` where that runs no longer."""
        return await asyncio.wrap_future(self._begun(work))

    def _begun(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        if not self.loop.is_running():
            work.close()
            raise Conflict("the event loop this saver was made on does not run any more: make another saver")
        return asyncio.run_coroutine_threadsafe(work, self.loop)


async def _next(found: AsyncIterator[T]) -> T | None:
    """The next one; none at the end, for a StopAsyncIteration does not pass through a future."""
    return await anext(found, None)
