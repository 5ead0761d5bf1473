"""Forks a thread: a copy up to one of its checkpoints, changed where it is to be different, that goes its own way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from diurna_workflows.checkpointer import KafkaCheckpointSaver


_GIVEN: Final = "__start__"
_INPUT: Final = "__input__"
"""LangGraph's names: of the channel that holds what a run is given, and of whoever gives it."""


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
    if not updates:
        return config
    found = await saver.aget_tuple(config)
    given = None if found is None else found.checkpoint["channel_values"].get(_GIVEN)
    if given is not None and as_node is None:  # no node has run yet: what is different belongs to what the run is given
        return await graph.aupdate_state(config, _with(given, updates), _INPUT)
    return await graph.aupdate_state(config, dict(updates), as_node)


def _with(given: Any, updates: Mapping[str, Any]) -> Any:
    """What a run is given, and one level down where both are objects: as the states of workflows are merged."""
    changed = dict(given)
    for name, value in updates.items():
        before = changed.get(name)
        changed[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return changed
