"""Walks along a thread's checkpoints: what a `DeltaChannel` is rebuilt from, what pruning keeps, what a copy takes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import orjson
from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite
from langgraph.checkpoint.serde.base import SerializerProtocol

from diurna_projections.folds.packing import unpack
from diurna_projections.threads import Ancestor, Key, Keys, Saved, Wanted
from diurna_schemas.checkpoints import CheckpointsDropped, NamedBlob, NamedCheckpoint, NamedWrites
from diurna_schemas.errors import NotFound
from diurna_workflows.checkpointer.config import Place
from diurna_workflows.checkpointer.reading import metadata_of, tuple_of
from diurna_workflows.checkpointer.reads import ReadsThreads
from diurna_workflows.checkpointer.values import load

_STEPS_A_LOOK: Final = 50
_PAGE_CHECKPOINTS: Final = 20
_NAMED_MAX: Final = 400
"""So many names fit into a record, long as they may be."""
_COUNTERS: Final = "counters_since_delta_snapshot"
"""Where LangGraph names the delta channels of a checkpoint that are not snapshot in it."""


async def delta_history(
    reads: ReadsThreads, serde: SerializerProtocol, place: Place, channels: Sequence[str]
) -> Mapping[str, DeltaChannelHistory]:
    """Of each channel, what the ancestors wrote since the nearest that has a value, oldest first, and that value."""
    found = (await reads.get(place.thread_id, place.checkpoint_ns, place.checkpoint_id)).saved
    chain = [] if found is None else await reads.chain(found.key)
    walk = _Walk(reads, serde, place, channels)
    for start in range(0, len(chain), _STEPS_A_LOOK):
        if not await walk.along(chain[start : start + _STEPS_A_LOOK]):
            break
    return walk.histories()


class _Walk:
    """A walk from the nearest ancestor to the furthest that any of the channels needs."""

    def __init__(self, reads: ReadsThreads, serde: SerializerProtocol, place: Place, channels: Sequence[str]) -> None:
        self._reads = reads
        self._serde = serde
        self._place = place
        self._seeds: dict[str, Any] = {}
        self._newest_first: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}

    async def along(self, chain: Sequence[Ancestor]) -> bool:
        """Takes in a stretch of ancestors; false once no channel needs more.

        A value is what its checkpoint began with, so that one's own writes come after it.
        """
        channels = [channel for channel in self._newest_first if channel not in self._seeds]
        if not channels:
            return False
        thread_id, checkpoint_ns = self._place.thread_id, self._place.checkpoint_ns
        blobs = await self._reads.blobs(thread_id, checkpoint_ns, _versions(chain, channels))
        writes = await self._writes([ancestor.checkpoint_id for ancestor in chain], frozenset(channels))
        for channel in channels:
            for ancestor in chain:
                self._newest_first[channel] += reversed(writes.get((ancestor.checkpoint_id, channel), []))
                if (version := ancestor.channels.get(channel)) is None:
                    continue
                if (blob := blobs.get((channel, version))) is not None:
                    what = f"channel {channel!r} of thread {thread_id!r}"
                    self._seeds[channel] = load(self._serde, what, blob.kind, blob.value)
                    break
                if not version:
                    self._seeds[channel] = await self._in_body(ancestor, channel)
                    break
        return True

    def histories(self) -> dict[str, DeltaChannelHistory]:
        found: dict[str, DeltaChannelHistory] = {}
        for channel, writes in self._newest_first.items():
            history = found[channel] = DeltaChannelHistory(writes=writes[::-1])
            if channel in self._seeds:
                history["seed"] = self._seeds[channel]
        return found

    async def _in_body(self, ancestor: Ancestor, channel: str) -> Any:
        """A small value, such as a channel had before it became a `DeltaChannel`."""
        place = self._place
        found = (await self._reads.get(place.thread_id, place.checkpoint_ns, ancestor.checkpoint_id)).saved
        if found is None:
            raise NotFound("checkpoint", f"{place.thread_id}/{ancestor.checkpoint_id}")
        return tuple_of(self._serde, found).checkpoint["channel_values"][channel]

    async def _writes(self, ids: list[str], channels: frozenset[str]) -> dict[tuple[str, str], list[PendingWrite]]:
        found: dict[tuple[str, str], list[PendingWrite]] = {}
        for written in await self._reads.writes(self._place.thread_id, self._place.checkpoint_ns, ids):
            what = f"what task {written.task_id} wrote in thread {self._place.thread_id!r}"
            for one in unpack(written.writes):
                if one.channel in channels:
                    value = load(self._serde, what, one.kind, one.value)
                    by_channel = found.setdefault((written.checkpoint_id, one.channel), [])
                    by_channel.append((written.task_id, one.channel, value))
        return found


def _versions(chain: Sequence[Ancestor], channels: Sequence[str]) -> list[tuple[str, str]]:
    named = [
        (channel, version) for ancestor in chain for channel in channels if (version := ancestor.channels.get(channel))
    ]
    return list(dict.fromkeys(named))


async def all_of(reads: ReadsThreads, thread_id: str) -> AsyncIterator[Saved]:
    """Every checkpoint of a thread, newest first."""
    wanted = Wanted(thread_id)
    while True:
        page = await reads.page(wanted, limit=_PAGE_CHECKPOINTS)
        for saved in page:
            yield saved
        if len(page) < _PAGE_CHECKPOINTS:
            return
        wanted = Wanted(thread_id, after=page[-1].key)


async def unkept_by_pruning(reads: ReadsThreads, serde: SerializerProtocol, thread_id: str) -> set[tuple[str, str]]:
    """What goes when the newest checkpoint of each namespace stays, with the ancestors its delta channels need.

    The namespace of a subgraph's call, which ends in a task's id, goes with the root checkpoint the call began from.
    """
    summary = await reads.summary(thread_id)
    kept: set[Key] = set()
    roots: dict[str, str] = {}
    for checkpoint_ns, newest in summary.heads.items():
        saved = (await reads.get(thread_id, checkpoint_ns, newest)).saved
        if saved is None:
            continue
        metadata = _metadata(serde, saved)
        kept |= {saved.key, *await _needed(reads, saved, metadata)}
        root = cast("Mapping[str, Any]", metadata.get("parents") or {}).get("")
        if ":" in checkpoint_ns and isinstance(root, str):
            roots[checkpoint_ns] = root
    every = [Key(thread_id, *key[:2]) for key in (await reads.keys(thread_id)).checkpoints]
    there = {key.checkpoint_id for key in every if not key.checkpoint_ns}
    over = {
        checkpoint_ns for checkpoint_ns, root in roots.items() if root in there and Key(thread_id, "", root) not in kept
    }
    return {(key.checkpoint_ns, key.checkpoint_id) for key in every if key not in kept or key.checkpoint_ns in over}


def dropping(
    thread_id: str, keys: Keys, unwanted: Container[tuple[str, str]], reason: str
) -> Iterator[CheckpointsDropped]:
    """The records that drop these checkpoints, the oldest first, with what only they have; all of it is named."""
    gone = [key for key in keys.checkpoints if key[:2] in unwanted]
    namespaces = {checkpoint_ns for checkpoint_ns, _, _ in gone}
    named = {
        (checkpoint_ns, channel, version)
        for checkpoint_ns, checkpoint_id, channels in keys.checkpoints
        if (checkpoint_ns, checkpoint_id) not in unwanted
        for channel, version in channels.items()
    }
    there = {key[:2] for key in keys.checkpoints}
    parts: list[NamedCheckpoint | NamedWrites | NamedBlob] = [
        NamedCheckpoint(checkpoint_ns=ns, checkpoint_id=checkpoint_id) for ns, checkpoint_id, _ in gone
    ]
    parts += [
        NamedWrites(checkpoint_ns=ns, checkpoint_id=checkpoint_id, task_id=task_id)
        for ns, checkpoint_id, task_id in keys.writes
        if (ns, checkpoint_id) in unwanted and (ns, checkpoint_id) in there
    ]
    parts += [
        NamedBlob(checkpoint_ns=ns, channel=channel, version=version)
        for ns, channel, version in keys.blobs
        if ns in namespaces and (ns, channel, version) not in named
    ]
    return _dropping(thread_id, parts, reason)


def emptying(thread_id: str, keys: Keys) -> Iterator[CheckpointsDropped]:
    """The records that drop everything the thread has, also what belongs to no checkpoint."""
    parts: list[NamedCheckpoint | NamedWrites | NamedBlob] = [
        NamedCheckpoint(checkpoint_ns=ns, checkpoint_id=checkpoint_id) for ns, checkpoint_id, _ in keys.checkpoints
    ]
    parts += [
        NamedWrites(checkpoint_ns=ns, checkpoint_id=checkpoint_id, task_id=task_id)
        for ns, checkpoint_id, task_id in keys.writes
    ]
    parts += [NamedBlob(checkpoint_ns=ns, channel=channel, version=version) for ns, channel, version in keys.blobs]
    return _dropping(thread_id, parts, "the thread is deleted")


def _dropping(
    thread_id: str, parts: Sequence[NamedCheckpoint | NamedWrites | NamedBlob], reason: str
) -> Iterator[CheckpointsDropped]:
    for start in range(0, len(parts), _NAMED_MAX):
        some = parts[start : start + _NAMED_MAX]
        yield CheckpointsDropped(
            thread_id=thread_id,
            token=0,
            checkpoints=[part for part in some if isinstance(part, NamedCheckpoint)],
            writes=[part for part in some if isinstance(part, NamedWrites)],
            blobs=[part for part in some if isinstance(part, NamedBlob)],
            reason=reason,
        )


async def _needed(reads: ReadsThreads, saved: Saved, metadata: Mapping[str, Any]) -> set[Key]:
    """The ancestors that the delta channels of a checkpoint are rebuilt from: back to the nearest that has a value."""
    there = cast("dict[str, str]", orjson.loads(saved.row.channels))
    counters = cast("Mapping[str, object]", metadata.get(_COUNTERS) or {})
    channels = [channel for channel in counters if channel not in there]
    if not channels:
        return set()
    key = saved.key
    chain = await reads.chain(key)
    needed: set[Key] = set()
    for channel in channels:
        for ancestor in chain:
            needed.add(Key(key.thread_id, key.checkpoint_ns, ancestor.checkpoint_id))
            if channel in ancestor.channels:
                break
    return needed


async def to_copy(
    reads: ReadsThreads, serde: SerializerProtocol, thread_id: str, checkpoint_id: str | None
) -> list[tuple[Key, bool]]:
    """What a copy takes, oldest first, and whether with what was written after it.

    Up to a checkpoint that is: its ancestors, what subgraphs did on the way, and itself without what came after.
    Raises `NotFound` where there is no such checkpoint.
    """
    if checkpoint_id is None:
        every = [(saved.key, True) async for saved in all_of(reads, thread_id)]
        return every[::-1]
    last = Key(thread_id, "", checkpoint_id)
    if (await reads.get(*last)).saved is None:
        raise NotFound("checkpoint", f"{thread_id}/{checkpoint_id}")
    ancestors = {ancestor.checkpoint_id for ancestor in await reads.chain(last)}
    chosen: list[tuple[Key, bool]] = []
    async for saved in all_of(reads, thread_id):
        key = saved.key
        if key.checkpoint_ns:
            root = cast("Mapping[str, Any]", _metadata(serde, saved).get("parents") or {}).get("")
            if root in ancestors:
                chosen.append((key, True))
        elif key.checkpoint_id in ancestors or key == last:
            chosen.append((key, key != last))
    return chosen[::-1]


def _metadata(serde: SerializerProtocol, saved: Saved) -> dict[str, Any]:
    row = saved.row
    what = f"checkpoint {row.checkpoint_id} of thread {row.thread_id!r}"
    return metadata_of(serde, row.metadata_kind, row.metadata, what)
