"""The records of LangGraph threads: checkpoints, pending writes, and what became of them.

Nobody decides about them: whoever holds the thread appends them, and each carries the fencing token it was given.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field

from diurna_schemas.ids import Id
from diurna_schemas.locks import Token
from diurna_schemas.message import Offset, Part, at_most

INLINE_BYTES_MAX: Final = 512 * 1024
"""What one record carries of values; larger ones go before it in chunks."""
VALUE_BYTES_MAX: Final = 16 * 1024 * 1024
"""The largest value there may be, serialised."""
CHUNK_BYTES: Final = 512 * 1024

NAMESPACE_BYTES_MAX: Final = 1_000
CHANNEL_BYTES_MAX: Final = 500

Namespace = Annotated[str, at_most(NAMESPACE_BYTES_MAX)]
"""A (sub)graph within a thread; the root graph's is empty."""
ChannelName = Annotated[str, at_most(CHANNEL_BYTES_MAX)]
Version = Annotated[str, at_most(256)]
Kind = Annotated[str, at_most(256)]
"""How a value is serialised, as LangGraph's serialisers name it: `msgpack`, `null`, `bytes`."""
TaskPath = Annotated[str, at_most(4_000)]
ByteCount = Annotated[int, Field(ge=0, le=VALUE_BYTES_MAX)]
ChunkCount = Annotated[int, Field(ge=0, le=2**31)]


class StoredValue(Part):
    """A serialised value: its bytes, or the SHA-256 of `chunks` chunks that stand before this record."""

    kind: Kind
    data: bytes | None
    sha256: Id | None = None
    size: ByteCount
    chunks: ChunkCount = 0


class ChannelBlob(Part):
    """What a channel held at a version."""

    channel: ChannelName
    version: Version
    value: StoredValue


class TaskWrite(Part):
    """What a task wrote to a channel. `index` is its place among the task's writes, negative for special channels."""

    index: Annotated[int, Field(ge=-1_000, le=2**31)]
    channel: ChannelName
    value: StoredValue


class SavedCheckpoint(Part):
    """A checkpoint: its body, which holds small values too, and the larger values that are new since its parent.

    `channels` names the version at which a channel's value is kept, once for all checkpoints; empty: it is in the body.
    """

    checkpoint_ns: Namespace
    checkpoint_id: Id
    parent_checkpoint_id: Id | None
    run_id: Id | None
    body: StoredValue
    metadata: StoredValue
    channels: dict[str, str]
    blobs: list[ChannelBlob]


class SavedWrites(Part):
    """What one task wrote after a checkpoint, before the next one: a run that is resumed does not run it again."""

    checkpoint_ns: Namespace
    checkpoint_id: Id
    task_id: Id
    task_path: TaskPath
    writes: list[TaskWrite]


class NamedCheckpoint(Part):
    """One checkpoint of a thread."""

    checkpoint_ns: Namespace
    checkpoint_id: Id


class NamedWrites(Part):
    """What one task wrote after a checkpoint."""

    checkpoint_ns: Namespace
    checkpoint_id: Id
    task_id: Id


class NamedBlob(Part):
    """The value of a channel at a version."""

    checkpoint_ns: Namespace
    channel: ChannelName
    version: Version


class CheckpointRecord(Part):
    """What every record of a thread has: whose it is, and the fencing token of who wrote it; 0 where nobody guards."""

    type_name: ClassVar[str]
    thread_id: Id
    token: Token

    @property
    def key(self) -> str:
        """The record key: whose partition it goes to."""
        return self.thread_id


class ThreadAdvanced(CheckpointRecord):
    """A thread went on: checkpoints and what tasks wrote, as many as were there when the record was written."""

    type_name: ClassVar[str] = "checkpoint.thread_advanced"
    checkpoints: list[SavedCheckpoint]
    writes: list[SavedWrites]


class ValueChunk(CheckpointRecord):
    """A piece of a value too large for one record: number `index` of `count`, of the value with this SHA-256."""

    type_name: ClassVar[str] = "checkpoint.value_chunk"
    sha256: Id
    index: ChunkCount
    count: ChunkCount
    data: bytes


class CheckpointsDropped(CheckpointRecord):
    """These checkpoints are gone, these writes, and these values, which no other checkpoint of the thread names."""

    type_name: ClassVar[str] = "checkpoint.dropped"
    checkpoints: list[NamedCheckpoint]
    writes: list[NamedWrites]
    blobs: list[NamedBlob]
    reason: Annotated[str, at_most(8_000)]


class ThreadDeleted(CheckpointRecord):
    """The thread is gone, as the records before this one say; its token stays, so that nobody late brings it back."""

    type_name: ClassVar[str] = "checkpoint.thread_deleted"


class ThreadCopied(CheckpointRecord):
    """The records before this one are a copy of another thread, whole or up to a checkpoint."""

    type_name: ClassVar[str] = "checkpoint.thread_copied"
    source_thread_id: Id
    until_checkpoint_id: Id | None
    checkpoints: Offset


RECORDS: Final[tuple[type[CheckpointRecord], ...]] = (
    ThreadAdvanced,
    ValueChunk,
    CheckpointsDropped,
    ThreadDeleted,
    ThreadCopied,
)
