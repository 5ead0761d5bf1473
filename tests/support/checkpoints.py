"""Checkpoints as tests of savers make and read them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.base.id import uuid6

from diurna_workflows.checkpointer import KafkaCheckpointSaver

Config = dict[str, Any]


def config_of(thread_id: str, checkpoint_id: str | None = None, ns: str = "") -> Config:
    configurable = {"thread_id": thread_id, "checkpoint_ns": ns}
    if checkpoint_id is not None:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


def new_thread() -> str:
    return f"thread-{uuid.uuid4()}"


def checkpoint_of(values: dict[str, Any], versions: dict[str, Any], checkpoint_id: str | None = None) -> dict[str, Any]:
    return {
        "v": 4,
        "id": checkpoint_id or str(uuid6(clock_seq=1)),
        "ts": datetime.now(UTC).isoformat(),
        "channel_values": values,
        "channel_versions": versions,
        "versions_seen": {"node": dict(versions)},
        "updated_channels": None,
    }


async def put(
    saver: KafkaCheckpointSaver,
    thread_id: str,
    values: dict[str, Any] | None = None,
    *,
    parent: str | None = None,
    ns: str = "",
    checkpoint_id: str | None = None,
    **metadata: Any,
) -> str:
    """Saves a checkpoint all of whose values are new; returns its id."""
    found = checkpoint_of(values or {}, {name: saver.get_next_version(None, None) for name in values or {}})
    if checkpoint_id is not None:
        found["id"] = checkpoint_id
    kept = {"source": "loop", "step": 0, "parents": {}, **metadata}
    await saver.aput(config_of(thread_id, parent, ns), found, kept, found["channel_versions"])  # type: ignore[arg-type]
    return str(found["id"])


async def latest(saver: KafkaCheckpointSaver, thread_id: str, ns: str = "") -> CheckpointTuple:
    found = await saver.aget_tuple(config_of(thread_id, ns=ns))  # type: ignore[arg-type]
    assert found is not None
    return found
