"""Forks a thread: a copy up to one of its checkpoints, changed where it is to be different, that goes its own way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from diurna_workflows.checkpointer import KafkaCheckpointSaver


class ChangesState(Protocol):
    """A compiled graph, as far as a fork needs it."""

    async def aupdate_state(
        self, config: RunnableConfig, values: Any, as_node: str | None = None
    ) -> RunnableConfig: ...


async def fork_thread(
    graph: ChangesState,
    saver: KafkaCheckpointSaver,
    source_thread_id: str,
    target_thread_id: str,
    *,
    checkpoint_id: str | None = None,
    updates: Mapping[str, Any] | None = None,
    as_node: str | None = None,
) -> RunnableConfig:
    """Copies a thread up to a checkpoint, the last one unless told otherwise, and returns where to go on from.

    `updates` are given to the graph as if `as_node`, by default the node that ran last, had returned them: so it goes
    on as it would after that. `await graph.ainvoke(None, config)` continues the copy; the original is left as it is.

    Raises `NotFound` where there is no such thread or checkpoint, `Conflict` where the target has content of its own.
    """
    await saver.acopy_until(source_thread_id, target_thread_id, checkpoint_id)
    config: RunnableConfig = {"configurable": {"thread_id": target_thread_id, "checkpoint_ns": ""}}
    if updates:
        return await graph.aupdate_state(config, dict(updates), as_node)
    return config
