"""Records of LangGraph threads to rows: checkpoints, values once a version, pending writes.

A thread remembers the highest fencing token it saw; whoever writes with a smaller one wrote late, and is passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from diurna_projections.folds.packing import PackedWrite, pack, unpack
from diurna_projections.records import LogRecord
from diurna_projections.tables import Folds, Need, Needs, Tables
from diurna_projections.text import plain
from diurna_projections.thread_rows import (
    Checkpoint,
    CheckpointBlob,
    CheckpointChunk,
    CheckpointDamage,
    CheckpointThread,
    CheckpointWrites,
)
from diurna_schemas.checkpoints import (
    CHUNK_BYTES,
    VALUE_BYTES_MAX,
    CheckpointRecord,
    CheckpointsDropped,
    SavedCheckpoint,
    SavedWrites,
    StoredValue,
    ThreadAdvanced,
    ThreadCopied,
    ThreadDeleted,
    ValueChunk,
)
from diurna_schemas.errors import Unreadable
from diurna_schemas.topics import check_partition, partition_of

CHUNKS_MAX: Final = VALUE_BYTES_MAX // CHUNK_BYTES
_DAMAGE_CHARACTERS_MAX: Final = 500


def _guarded(change: Callable[[Tables, Any, LogRecord], None]) -> Callable[[Tables, Any, LogRecord], None]:
    """Passes over what a late writer wrote; else the thread has this token, and what changes is written."""

    def fold(tables: Tables, content: CheckpointRecord, record: LogRecord) -> None:
        thread_id = content.thread_id
        check_partition(thread_id, record.partition)
        before = tables.checkpoint_threads.get(thread_id)
        refused = 0
        if before is not None:
            refused = before.refused
            if content.token < before.token:
                tables.checkpoint_threads.put(before._replace(refused=refused + 1))
                return
        change(tables, content, record)
        thread = CheckpointThread(thread_id, content.token, refused, record.partition, record.offset)
        tables.checkpoint_threads.put(thread)

    return fold


def note_damage(tables: Tables, record: LogRecord, error: Unreadable) -> None:
    """Remembers that a record of a thread is lost: what is left must not be taken for the whole."""
    try:
        thread_id = (record.key or b"").decode()
    except UnicodeDecodeError:
        return
    if thread_id and "\x00" not in thread_id and partition_of(thread_id) == record.partition:
        damage = plain(str(error)[:_DAMAGE_CHARACTERS_MAX])
        tables.checkpoint_damages.put(CheckpointDamage(thread_id, damage, record.partition, record.offset))


def _advance(tables: Tables, content: ThreadAdvanced, record: LogRecord) -> None:
    """All values first: a record of which one cannot be put together changes nothing."""
    place = (record.partition, record.offset)
    saved = [_checkpoint(tables, content.thread_id, one, record) for one in content.checkpoints]
    written = [
        (one, [_packed(write.index, write.channel, write.value, tables, content.thread_id) for write in one.writes])
        for one in content.writes
    ]
    for checkpoint, blobs in saved:
        tables.checkpoints.put(checkpoint)
        for blob in blobs:
            tables.checkpoint_blobs.put(blob)
    for one, writes in written:
        _write(tables, content.thread_id, one, writes, place)
    for value in _values(content):
        if value.sha256 is not None:
            for index in range(value.chunks):
                tables.checkpoint_chunks.remove(content.thread_id, value.sha256, index)


def _checkpoint(
    tables: Tables, thread_id: str, saved: SavedCheckpoint, record: LogRecord
) -> tuple[Checkpoint, list[CheckpointBlob]]:
    checkpoint_ns = plain(saved.checkpoint_ns)
    place = (record.partition, record.offset)
    channels = {plain(channel): plain(version) for channel, version in saved.channels.items()}
    row = Checkpoint(
        thread_id,
        checkpoint_ns,
        saved.checkpoint_id,
        saved.parent_checkpoint_id,
        saved.run_id,
        orjson.dumps(channels, option=orjson.OPT_SORT_KEYS).decode(),
        plain(saved.body.kind),
        _value(tables, thread_id, saved.body),
        plain(saved.metadata.kind),
        _value(tables, thread_id, saved.metadata),
        max(record.timestamp_ms, 0),
        *place,
    )
    blobs = [
        CheckpointBlob(
            thread_id,
            checkpoint_ns,
            plain(blob.channel),
            plain(blob.version),
            plain(blob.value.kind),
            _value(tables, thread_id, blob.value),
            *place,
        )
        for blob in saved.blobs
    ]
    return row, blobs


def _packed(index: int, channel: str, value: StoredValue, tables: Tables, thread_id: str) -> PackedWrite:
    return PackedWrite(index, plain(channel), plain(value.kind), _value(tables, thread_id, value))


def _write(
    tables: Tables, thread_id: str, saved: SavedWrites, writes: list[PackedWrite], place: tuple[int, int]
) -> None:
    """What a task wrote first stays, as LangGraph wants it; only its special channels are written over."""
    key = (thread_id, plain(saved.checkpoint_ns), saved.checkpoint_id, saved.task_id)
    before = tables.checkpoint_writes.get(*key)
    known = {} if before is None else {write.number: write for write in unpack(before.writes)}
    for write in writes:
        if write.number < 0 or write.number not in known:
            known[write.number] = write
    tables.checkpoint_writes.put(CheckpointWrites(*key, plain(saved.task_path), pack(known.values()), *place))


def _chunk(tables: Tables, content: ValueChunk, record: LogRecord) -> None:
    place = (record.partition, record.offset)
    tables.checkpoint_chunks.put(
        CheckpointChunk(content.thread_id, content.sha256, content.index, content.data, *place)
    )


def _drop(tables: Tables, content: CheckpointsDropped, _: LogRecord) -> None:
    """Who drops them has read the thread and holds it: so all that goes is named, and nothing has to be looked up."""
    thread_id = content.thread_id
    for checkpoint in content.checkpoints:
        tables.checkpoints.erase(thread_id, plain(checkpoint.checkpoint_ns), checkpoint.checkpoint_id)
    for writes in content.writes:
        key = (thread_id, plain(writes.checkpoint_ns), writes.checkpoint_id, writes.task_id)
        tables.checkpoint_writes.erase(*key)
    for blob in content.blobs:
        place = (plain(blob.checkpoint_ns), plain(blob.channel), plain(blob.version))
        tables.checkpoint_blobs.erase(thread_id, *place)


def _delete(tables: Tables, content: ThreadDeleted, _: LogRecord) -> None:
    tables.checkpoint_damages.erase(content.thread_id)
    for chunk in tables.checkpoint_chunks.group(content.thread_id):
        tables.checkpoint_chunks.remove(*chunk[:3])


def _leave(_tables: Tables, _content: ThreadCopied, _record: LogRecord) -> None:
    """The records before say all there is."""


def _value(tables: Tables, thread_id: str, value: StoredValue) -> bytes:
    """The bytes of a value, put together from its chunks where it has any."""
    data = value.data
    if value.sha256 is not None:
        if value.chunks > CHUNKS_MAX:
            raise Unreadable(f"value {value.sha256} has {value.chunks} chunks, at most {CHUNKS_MAX} are allowed")
        parts: list[bytes] = []
        for index in range(value.chunks):
            chunk = tables.checkpoint_chunks.get(thread_id, value.sha256, index)
            if chunk is None:
                raise Unreadable(f"chunk {index} of {value.chunks} of value {value.sha256} is not there")
            parts.append(chunk.value)
        data = b"".join(parts)
        found = hashlib.sha256(data).hexdigest()
        if found != value.sha256:
            raise Unreadable(f"the chunks of value {value.sha256} have the SHA-256 {found}")
    if data is None or len(data) != value.size:
        size = "no" if data is None else str(len(data))
        raise Unreadable(f"a value of {value.size} bytes has {size} bytes")
    return data


def _values(content: ThreadAdvanced) -> Iterator[StoredValue]:
    for saved in content.checkpoints:
        yield saved.body
        yield saved.metadata
        for blob in saved.blobs:
            yield blob.value
    for writes in content.writes:
        for write in writes.writes:
            yield write.value


def _needs_of_advance(content: ThreadAdvanced) -> tuple[Need, ...]:
    thread_id = content.thread_id
    writes: list[Need] = [
        ("checkpoint_writes", thread_id, plain(one.checkpoint_ns), one.checkpoint_id, one.task_id)
        for one in content.writes
    ]
    chunks: list[Need] = [
        ("checkpoint_chunks", thread_id, value.sha256) for value in _values(content) if value.sha256 is not None
    ]
    return (("checkpoint_threads", thread_id), *writes, *chunks)


def _needs_of_thread(content: CheckpointRecord) -> tuple[Need, ...]:
    return (("checkpoint_threads", content.thread_id),)


def _needs_of_deletion(content: ThreadDeleted) -> tuple[Need, ...]:
    return (("checkpoint_threads", content.thread_id), ("checkpoint_chunks", content.thread_id))


FOLDS: Final[Folds] = {
    ThreadAdvanced: _guarded(_advance),
    ValueChunk: _guarded(_chunk),
    CheckpointsDropped: _guarded(_drop),
    ThreadDeleted: _guarded(_delete),
    ThreadCopied: _guarded(_leave),
}
NEEDS: Final[Needs] = {
    ThreadAdvanced: _needs_of_advance,
    ValueChunk: _needs_of_thread,
    CheckpointsDropped: _needs_of_thread,
    ThreadDeleted: _needs_of_deletion,
    ThreadCopied: _needs_of_thread,
}
