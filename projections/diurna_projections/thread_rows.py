"""The rows of LangGraph's threads. Field order is column order, and the key's columns come first."""

from __future__ import annotations

from typing import NamedTuple


class CheckpointThread(NamedTuple):
    """A LangGraph thread: its highest fencing token, and how many records of late writers were passed over."""

    thread_id: str
    token: int
    refused: int
    partition: int
    record_offset: int


class CheckpointDamage(NamedTuple):
    """The last record of a thread that could not be read, and why."""

    thread_id: str
    damage: str
    partition: int
    record_offset: int


class Checkpoint(NamedTuple):
    """A checkpoint, its body and metadata as LangGraph serialised them.

    `channels` is JSON: the version at which each channel's value is a blob, empty where it is in the body.
    """

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    parent_checkpoint_id: str | None
    run_id: str | None
    channels: str
    kind: str
    checkpoint: bytes
    metadata_kind: str
    metadata: bytes
    saved_at_ms: int
    partition: int
    record_offset: int


class CheckpointBlob(NamedTuple):
    """What a channel held at a version."""

    thread_id: str
    checkpoint_ns: str
    channel: str
    version: str
    kind: str
    value: bytes
    partition: int
    record_offset: int


class CheckpointWrites(NamedTuple):
    """What a task wrote after a checkpoint: `writes` packed as `folds.packing` does."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    task_id: str
    task_path: str
    writes: bytes
    partition: int
    record_offset: int


class CheckpointChunk(NamedTuple):
    """A piece of a value whose record has not come yet."""

    thread_id: str
    sha256: str
    chunk_index: int
    value: bytes
    partition: int
    record_offset: int
