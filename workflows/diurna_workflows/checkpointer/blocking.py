"""The twins that block: the same methods for graphs that run without an event loop of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

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

T = TypeVar("T")


class BlockingTwins(BaseCheckpointSaver[str]):
    """Hands every blocking call over to the event loop the saver was made on.

    On that loop's own thread it raises `asyncio.InvalidStateError`, as LangGraph's own savers do: it would wait for
    itself.
    """

    def __init__(self, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        self._loop = asyncio.get_running_loop()
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
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _next(found: AsyncIterator[CheckpointTuple]) -> CheckpointTuple | None:
    """The next one; none at the end, for a StopAsyncIteration does not pass through a future."""
    return await anext(found, None)
