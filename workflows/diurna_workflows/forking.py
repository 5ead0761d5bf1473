"""Forks a thread: a copy up to one of its checkpoints, changed where it is to be different, that goes its own way."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from diurna_schemas.errors import InvalidInput
from diurna_schemas.merge_patch import merged

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from diurna_workflows.checkpointer import KafkaCheckpointSaver


_GIVEN: Final = "__start__"
"""LangGraph's name for the channel that holds what a run is given, until its first step."""


async def fork_thread(
    saver: KafkaCheckpointSaver,
    source_thread_id: str,
    target_thread_id: str,
    *,
    checkpoint_id: str | None = None,
    updates: Mapping[str, Any] | None = None,
) -> RunnableConfig:
    """Copies a thread up to a checkpoint, the last one unless told otherwise, and returns where to go on from.

    `updates` are a JSON Merge Patch of the state there. What comes next is what came next in the original, however many
    nodes had run side by side: a graph that is told of an update asks which of them it should be from.
    `await graph.ainvoke(None, config)` continues the copy; the original is left as it is.

    Raises `NotFound` where there is no such thread or checkpoint, `Conflict` where the target has content of its own,
    `InvalidInput` where a field of the state is to be taken away.
    """
    from langgraph.checkpoint.base import (
        ChannelVersions,
        CheckpointMetadata,
        copy_checkpoint,
    )  # loaded with the first graph
    from langgraph.checkpoint.base.id import uuid6

    await saver.acopy_until(source_thread_id, target_thread_id, checkpoint_id)
    config: RunnableConfig = {"configurable": {"thread_id": target_thread_id, "checkpoint_ns": ""}}
    found = await saver.aget_tuple(config) if updates else None
    if found is None or not updates:
        return config
    checkpoint = copy_checkpoint(found.checkpoint)
    values = checkpoint["channel_values"]
    if _GIVEN in values:  # no node has run yet: what is different belongs to what the run is given
        changed = {_GIVEN: _patched(values[_GIVEN], updates)}
    else:
        after = _patched(values, updates)
        changed = {name: after[name] for name in updates}
    known = cast("dict[str, str]", checkpoint["channel_versions"])  # as this saver gives them
    versions: ChannelVersions = {name: saver.get_next_version(known.get(name), None) for name in changed}
    checkpoint["id"] = str(uuid6())
    checkpoint["ts"] = datetime.now(UTC).isoformat()
    checkpoint["channel_values"] = {**values, **changed}
    checkpoint["channel_versions"] = {**known, **versions}
    metadata: CheckpointMetadata = {"source": "update", "step": found.metadata.get("step", -1) + 1, "parents": {}}
    return await saver.aput(found.config, checkpoint, metadata, versions)


def _patched(state: Mapping[str, Any], updates: Mapping[str, Any]) -> dict[str, Any]:
    after = merged(state, updates)
    gone = next((name for name in updates if name not in after), None)
    if gone is not None:
        raise InvalidInput(f"updates.{gone}", None, "a field of the state cannot be taken away")
    return after
