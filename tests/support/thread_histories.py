"""Histories of LangGraph threads: seeded writers at work, large values, late writers, damage, and what was dropped."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from diurna_schemas.checkpoints import (
    ChannelBlob,
    CheckpointRecord,
    CheckpointsDropped,
    NamedBlob,
    NamedCheckpoint,
    NamedWrites,
    SavedCheckpoint,
    SavedWrites,
    StoredValue,
    TaskWrite,
    ThreadAdvanced,
    ThreadCopied,
    ThreadDeleted,
    ValueChunk,
)
from diurna_schemas.codec import Codec
from diurna_schemas.topics import CHECKPOINTS, partition_of
from diurna_streams.log.port import Record
from support.projecting import History


def inline(data: bytes, kind: str = "msgpack") -> StoredValue:
    return StoredValue(kind=kind, data=data, size=len(data))


def chunked(data: bytes, *, size: int = 100) -> tuple[StoredValue, list[bytes]]:
    """A value as its record names it, and its chunks."""
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    digest = hashlib.sha256(data).hexdigest()
    return StoredValue(kind="msgpack", data=None, sha256=digest, size=len(data), chunks=len(parts)), parts


@dataclass
class ThreadHistory:
    """A log of threads in the making."""

    history: History = field(default_factory=History)

    @property
    def records(self) -> list[Record]:
        return self.history.records

    @property
    def codec(self) -> Codec:
        return self.history.codec

    def add(self, content: CheckpointRecord) -> Record:
        key = content.thread_id
        return self.history.append(CHECKPOINTS, partition_of(key), key.encode(), self.codec.encode(content), ())

    def poison(self, thread_id: str, value: bytes = b"broken") -> Record:
        return self.history.append(CHECKPOINTS, partition_of(thread_id), thread_id.encode(), value, ())

    def value(self, thread_id: str, token: int, data: bytes) -> StoredValue:
        """A value whose chunks have been added."""
        value, parts = chunked(data)
        for index, part in enumerate(parts):
            self.add(
                ValueChunk(
                    thread_id=thread_id,
                    token=token,
                    sha256=value.sha256 or "",
                    index=index,
                    count=len(parts),
                    data=part,
                )
            )
        return value

    def saved(
        self,
        thread_id: str,
        checkpoint_id: str,
        *,
        token: int = 0,
        ns: str = "",
        parent: str | None = None,
        run_id: str | None = None,
        channels: dict[str, str] | None = None,
        blobs: dict[str, bytes | StoredValue] | None = None,
    ) -> Record:
        """A checkpoint; `blobs` are at the versions `channels` names."""
        named = channels or {}
        saved = SavedCheckpoint(
            checkpoint_ns=ns,
            checkpoint_id=checkpoint_id,
            parent_checkpoint_id=parent,
            run_id=run_id,
            body=inline(f"body of {checkpoint_id}".encode()),
            metadata=inline(f"metadata of {checkpoint_id}".encode()),
            channels=named,
            blobs=[
                ChannelBlob(
                    channel=channel,
                    version=named[channel],
                    value=value if isinstance(value, StoredValue) else inline(value),
                )
                for channel, value in (blobs or {}).items()
            ],
        )
        return self.add(ThreadAdvanced(thread_id=thread_id, token=token, checkpoints=[saved], writes=[]))

    def wrote(
        self,
        thread_id: str,
        checkpoint_id: str,
        task_id: str,
        *values: bytes | StoredValue,
        token: int = 0,
        ns: str = "",
        path: str = "",
        first: int = 0,
    ) -> Record:
        """What a task wrote, from index `first` on."""
        wrote = SavedWrites(
            checkpoint_ns=ns,
            checkpoint_id=checkpoint_id,
            task_id=task_id,
            task_path=path,
            writes=[
                TaskWrite(
                    index=first + number,
                    channel=f"channel-{number}",
                    value=value if isinstance(value, StoredValue) else inline(value),
                )
                for number, value in enumerate(values)
            ],
        )
        return self.add(ThreadAdvanced(thread_id=thread_id, token=token, checkpoints=[], writes=[wrote]))

    def dropped(
        self,
        thread_id: str,
        *checkpoints: tuple[str, str],
        writes: Iterable[tuple[str, str, str]] = (),
        blobs: Iterable[tuple[str, str, str]] = (),
        token: int = 0,
    ) -> Record:
        record = CheckpointsDropped(
            thread_id=thread_id,
            token=token,
            checkpoints=[NamedCheckpoint(checkpoint_ns=ns, checkpoint_id=name) for ns, name in checkpoints],
            writes=[NamedWrites(checkpoint_ns=ns, checkpoint_id=name, task_id=task) for ns, name, task in writes],
            blobs=[NamedBlob(checkpoint_ns=ns, channel=channel, version=version) for ns, channel, version in blobs],
            reason="tests",
        )
        return self.add(record)

    def deleted(self, thread_id: str, *, token: int = 0) -> Record:
        return self.add(ThreadDeleted(thread_id=thread_id, token=token))


@dataclass
class _Thread:
    token: int = 0
    number: int = 0
    checkpoints: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # type: ignore[type-arg]


def busy_threads(seed: int, steps: int) -> ThreadHistory:
    """A seeded history of threads: everything that can happen to one, in any order."""
    chance = random.Random(seed)
    found = ThreadHistory()
    threads = {f"thread-{number}": _Thread() for number in range(9)}
    for _ in range(steps):
        thread_id = chance.choice(list(threads))
        _one_step(found, chance, thread_id, threads[thread_id])
    return found


def _one_step(found: ThreadHistory, chance: random.Random, thread_id: str, thread: _Thread) -> None:
    data = chance.randbytes(chance.choice([0, 10, 350]))
    match chance.randrange(20):
        case 0:
            thread.token += chance.randint(1, 5)
        case 1:
            found.deleted(thread_id, token=thread.token)
            thread.checkpoints.clear()
        case 2 if thread.checkpoints:
            some = chance.sample(thread.checkpoints, min(2, len(thread.checkpoints)))
            found.dropped(
                thread_id,
                *((ns, name) for ns, name, _ in some),
                writes=[(ns, name, f"task-{chance.randrange(3)}") for ns, name, _ in some],
                blobs=[(ns, channel, version) for ns, _, channels in some for channel, version in channels.items()],
                token=thread.token,
            )
        case 3:
            found.poison(thread_id)
        case 4:
            value, _ = chunked(data + b"never sent")
            found.saved(thread_id, "damaged", token=thread.token, channels={"state": "9"}, blobs={"state": value})
        case 5 if thread.token:
            found.wrote(thread_id, "late", "late", b"late", token=thread.token - 1)
        case 6:
            copied = ThreadCopied(
                thread_id=thread_id, token=thread.token, source_thread_id="x", until_checkpoint_id=None, checkpoints=1
            )
            found.add(copied)
        case 7 | 8 | 9 | 10 if thread.checkpoints:
            ns, name, _ = chance.choice(thread.checkpoints)
            value = found.value(thread_id, thread.token, data) if len(data) > 100 else data
            first = chance.choice([0, 0, 1, -3])
            task = f"task-{chance.randrange(3)}"
            found.wrote(thread_id, name, task, value, b"more", token=thread.token, ns=ns, path=f"~{task}", first=first)
        case _:
            _save(found, chance, thread_id, thread, data)


def _save(found: ThreadHistory, chance: random.Random, thread_id: str, thread: _Thread, data: bytes) -> None:
    thread.number += 1
    ns = chance.choice(["", "", "", "child:1"])
    before = [one for one in thread.checkpoints if one[0] == ns]
    parent = before[-1] if before and chance.random() < 0.9 else None
    name = f"{thread.number:06d}-{chance.randrange(1000)}"
    channels = {**(parent[2] if parent else {}), f"c{chance.randrange(4)}": f"{thread.number}"}
    changed = [channel for channel, version in channels.items() if version == f"{thread.number}"]
    value = found.value(thread_id, thread.token, data) if len(data) > 100 else data
    found.saved(
        thread_id,
        name,
        token=thread.token,
        ns=ns,
        parent=parent[1] if parent else None,
        run_id=chance.choice([None, f"run-{chance.randrange(4)}"]),
        channels=channels,
        blobs=dict.fromkeys(changed, value) if chance.random() < 0.8 else {},
    )
    thread.checkpoints.append((ns, name, channels))
