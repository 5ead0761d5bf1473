"""What is to be appended to a thread: complete but for the token, which is known once the thread is held."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from diurna_projections.folds.packing import unpack
from diurna_projections.thread_rows import CheckpointWrites
from diurna_projections.threads import Saved
from diurna_schemas.checkpoints import CheckpointRecord
from diurna_schemas.errors import InvalidInput
from diurna_schemas.ids import checked_id
from diurna_workflows.checkpointer.config import Place, check_channels, check_mapping, checked_channel, checked_text
from diurna_workflows.checkpointer.values import Packed, Value, dump, is_small, packed

_VERSION_BYTES_MAX: Final = 200
_TASK_PATH_BYTES_MAX: Final = 4_000

Fields = dict[str, Any]
"""A record as the encoder takes it."""


class Draft:
    """Anything to be appended. `done` is over once it is durable and counts, or never will.

    `can_wait`: its run goes on meanwhile, and what comes next may go to the log with it. `is_of_run`: a run writes it,
    and not somebody who changes a state. `is_branch`: it says itself that it branches off.
    """

    def __init__(self, thread_id: str, chunks: Sequence[tuple[str, list[bytes]]] = (), inline_bytes: int = 0) -> None:
        self.thread_id = thread_id
        self.chunks = chunks
        self.inline_bytes = inline_bytes
        self.can_wait = False
        self.is_of_run = False
        self.is_branch = False
        self.size = inline_bytes + sum(len(part) for _, parts in chunks for part in parts) + 1_000
        """About how many bytes it takes on the log."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def succeed(self) -> None:
        """It counts."""
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, error: BaseException) -> None:
        """It does not, or nobody knows."""
        if not self.done.done():  # who waited may have been cancelled, and the future with it
            self.done.set_exception(error)
            self.done.exception()


class RecordDraft(Draft):
    """A record of its own, without values."""

    def __init__(self, record: CheckpointRecord) -> None:
        super().__init__(record.thread_id)
        self.record = record


class CheckpointDraft(Draft):
    """A checkpoint. `changed` are the channels that have a new version, `values` those of them that are not small."""

    def __init__(
        self, thread_id: str, fields: Fields, found: Packed, values: list[Value], changed: frozenset[str]
    ) -> None:
        super().__init__(thread_id, found.chunks, found.inline_bytes)
        self.fields = fields
        self.checkpoint_ns: str = fields["checkpoint_ns"]
        self.checkpoint_id: str = fields["checkpoint_id"]
        self.parent_checkpoint_id: str | None = fields["parent_checkpoint_id"]
        self.channels: dict[str, str] = fields["channels"]
        self.body, self.metadata = values[:2]
        self.changed = changed
        self.values = {blob["channel"]: value for blob, value in zip(fields["blobs"], values[2:], strict=True)}


class WritesDraft(Draft):
    """What a task wrote after a checkpoint: index, channel and value of each."""

    def __init__(self, thread_id: str, fields: Fields, found: Packed, values: list[Value]) -> None:
        super().__init__(thread_id, found.chunks, found.inline_bytes)
        self.fields = fields
        self.checkpoint_ns: str = fields["checkpoint_ns"]
        self.checkpoint_id: str = fields["checkpoint_id"]
        self.task_id: str = fields["task_id"]
        self.task_path: str = fields["task_path"]
        self.writes = [
            (write["index"], write["channel"], value) for write, value in zip(fields["writes"], values, strict=True)
        ]


def draft_of_checkpoint(
    serde: SerializerProtocol,
    place: Place,
    *,
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
) -> CheckpointDraft:
    """Raises `InvalidInput` naming what is wrong or cannot be serialised, `TooLarge` what is above 16 MiB."""
    check_mapping("checkpoint", checkpoint)
    check_mapping("metadata", metadata)
    check_mapping("new_versions", new_versions)
    given = cast("Mapping[str, Any]", checkpoint)
    values: Mapping[str, Any] = given.get("channel_values") or {}
    versions: Mapping[str, Any] = given.get("channel_versions") or {}
    check_mapping("checkpoint.channel_values", values)
    check_mapping("checkpoint.channel_versions", versions)
    _check_versions(versions)
    _check_versions(new_versions)
    small: dict[str, Any] = {}
    channels: dict[str, str] = {}
    blobs: list[Fields] = []
    dumped: list[Value] = []
    for channel, value in values.items():
        if channel not in versions:
            continue  # a value without a version is none
        if is_small(value):
            small[channel] = value
            channels[channel] = ""
            continue
        channels[channel] = version = _version(channel, versions[channel])
        if channel in new_versions:
            dumped.append(dump(serde, f"channel_values.{channel}", value))
            blobs.append({"channel": channel, "version": version})
    kept = get_checkpoint_metadata(config, metadata)
    body = dump(serde, "checkpoint", {**given, "channel_values": small})
    found = packed(everything := [body, dump(serde, "metadata", kept), *dumped])
    for blob, stored in zip(blobs, found.stored[2:], strict=True):
        blob["value"] = stored
    fields: Fields = {
        "checkpoint_ns": place.checkpoint_ns,
        "checkpoint_id": checked_id("checkpoint.id", _text("checkpoint.id", given.get("id"))),
        "parent_checkpoint_id": place.checkpoint_id,
        "run_id": _run_id(kept),
        "body": found.stored[0],
        "metadata": found.stored[1],
        "channels": channels,
        "blobs": blobs,
    }
    draft = CheckpointDraft(place.thread_id, fields, found, everything, frozenset(new_versions))
    draft.is_branch = kept.get("source") == "fork"
    return draft


def draft_of_writes(
    serde: SerializerProtocol, place: Place, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
) -> WritesDraft:
    """Raises `InvalidInput` naming what is wrong or cannot be serialised, `TooLarge` what is above 16 MiB."""
    if place.checkpoint_id is None:
        raise InvalidInput("configurable.checkpoint_id", None, "writes belong to a checkpoint: name it")
    dumped = [dump(serde, f"writes.{checked_channel(channel)}", value) for channel, value in writes]
    found = packed(dumped)
    fields: Fields = {
        "checkpoint_ns": place.checkpoint_ns,
        "checkpoint_id": place.checkpoint_id,
        "task_id": checked_id("task_id", _text("task_id", task_id)),
        "task_path": checked_text("task_path", task_path, _TASK_PATH_BYTES_MAX),
        "writes": [
            {"index": WRITES_IDX_MAP.get(channel, number), "channel": channel, "value": stored}
            for number, ((channel, _), stored) in enumerate(zip(writes, found.stored, strict=True))
        ],
    }
    return WritesDraft(place.thread_id, fields, found, dumped)


def drafts_of_copy(saved: Saved, thread_id: str, sent: set[tuple[str, str, str]]) -> list[Draft]:
    """A checkpoint and its writes as another thread's, byte for byte.

    `sent` holds the values (namespace, channel, version) the copy has already, and takes in what this one brings.
    """
    row = saved.row
    brought = [blob for blob in saved.blobs if blob[1:4] not in sent]
    sent.update(blob[1:4] for blob in brought)
    values = [Value(row.kind, row.checkpoint), Value(row.metadata_kind, row.metadata)]
    values += [Value(blob.kind, blob.value) for blob in brought]
    found = packed(values)
    fields: Fields = {
        "checkpoint_ns": row.checkpoint_ns,
        "checkpoint_id": row.checkpoint_id,
        "parent_checkpoint_id": row.parent_checkpoint_id if saved.has_parent else None,
        "run_id": row.run_id,
        "body": found.stored[0],
        "metadata": found.stored[1],
        "channels": orjson.loads(row.channels),
        "blobs": [
            {"channel": blob.channel, "version": blob.version, "value": stored}
            for blob, stored in zip(brought, found.stored[2:], strict=True)
        ],
    }
    drafts: list[Draft] = [CheckpointDraft(thread_id, fields, found, values, frozenset())]
    drafts += [_draft_of_copied_writes(thread_id, written) for written in saved.writes]
    return drafts


def _draft_of_copied_writes(thread_id: str, written: CheckpointWrites) -> WritesDraft:
    writes = unpack(written.writes)
    values = [Value(one.kind, one.value) for one in writes]
    found = packed(values)
    fields: Fields = {
        "checkpoint_ns": written.checkpoint_ns,
        "checkpoint_id": written.checkpoint_id,
        "task_id": written.task_id,
        "task_path": written.task_path,
        "writes": [
            {"index": one.number, "channel": one.channel, "value": stored}
            for one, stored in zip(writes, found.stored, strict=True)
        ],
    }
    return WritesDraft(thread_id, fields, found, values)


def _check_versions(versions: Mapping[str, Any]) -> None:
    check_channels(versions)
    if set(map(type, versions.values())) - {str}:
        for channel, version in versions.items():
            _version(channel, version)


def _version(channel: str, version: object) -> str:
    """Versions are text, or numbers, which are written as they read."""
    if type(version) is not str and (isinstance(version, bool) or not isinstance(version, str | int | float)):
        raise InvalidInput(f"channel_versions.{channel}", version, "text or a number is needed")
    return checked_text(f"channel_versions.{channel}", str(version), _VERSION_BYTES_MAX)


def _run_id(metadata: CheckpointMetadata) -> str | None:
    """The run a checkpoint was made by, as far as an id can be looked for."""
    found = cast("Mapping[str, object]", metadata).get("run_id")
    if not isinstance(found, str):
        return None
    try:
        return checked_id("run_id", found)
    except InvalidInput:
        return None


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(field, value, "a string is needed")
    return value
