"""From what is stored to what LangGraph wants back."""

from __future__ import annotations

from typing import Any, cast

from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, CheckpointTuple, PendingWrite
from langgraph.checkpoint.serde.base import SerializerProtocol

from diurna_projections.threads import Found, Saved
from diurna_schemas.errors import Unreadable
from diurna_schemas.ids import Position
from diurna_schemas.topics import CHECKPOINTS
from diurna_workflows.checkpointer.cache import Head, Write
from diurna_workflows.checkpointer.config import Place
from diurna_workflows.checkpointer.values import load


def tuple_of_head(serde: SerializerProtocol, place: Place, head: Head) -> CheckpointTuple:
    """The checkpoint as LangGraph knows it. Raises `Unreadable` where a value cannot be read."""
    what = f"checkpoint {head.checkpoint_id} of thread {place.thread_id!r}"
    body = load(serde, what, *head.body)
    if not isinstance(body, dict):
        raise Unreadable(f"{what} is no checkpoint, but a {type(body).__name__}")
    values = cast("dict[str, Any]", body).setdefault("channel_values", {})
    for channel, value in head.values.items():
        values[channel] = load(serde, f"channel {channel!r} of {what}", *value)
    return CheckpointTuple(
        config=place.at(head.checkpoint_id),
        checkpoint=cast("Checkpoint", body),
        metadata=cast("CheckpointMetadata", load(serde, f"the metadata of {what}", *head.metadata)),
        parent_config=None if head.parent_checkpoint_id is None else place.at(head.parent_checkpoint_id),
        pending_writes=pending(serde, what, head.in_order()),
    )


def tuple_of(serde: SerializerProtocol, saved: Saved) -> CheckpointTuple:
    """The checkpoint as LangGraph knows it. Raises `Unreadable` where a value cannot be read."""
    place = Place(saved.row.thread_id, saved.row.checkpoint_ns, None)
    return tuple_of_head(serde, place, Head.of(saved))


def pending(serde: SerializerProtocol, what: str, writes: list[Write]) -> list[PendingWrite]:
    """Writes as LangGraph wants them: task, channel, value."""
    return [
        (one.task_id, one.channel, load(serde, f"what task {one.task_id} wrote to {what}", *one.value))
        for one in writes
    ]


def metadata_of(serde: SerializerProtocol, saved_kind: str, data: bytes, what: str) -> dict[str, Any]:
    """The metadata of a checkpoint. Raises `Unreadable`."""
    return cast("dict[str, Any]", load(serde, f"the metadata of {what}", saved_kind, data))


def check_whole(found: Found) -> None:
    """Raises `Unreadable` where something of the thread is lost that came after the checkpoint found."""
    damage = found.damage
    if damage is None or (found.saved is not None and found.saved.row.record_offset > damage.record_offset):
        return
    position = Position(CHECKPOINTS, damage.partition, damage.record_offset)
    raise Unreadable(
        f"thread {damage.thread_id!r} is not whole: the record at {position} cannot be read ({damage.damage}); "
        "it is among the dead letters. Go on from an older checkpoint by naming it, or delete the thread"
    )
