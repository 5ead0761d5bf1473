"""What is asked of LangGraph's threads, and the answers of a projection on dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

from diurna_projections.tables import Tables
from diurna_projections.thread_rows import (
    Checkpoint,
    CheckpointBlob,
    CheckpointDamage,
    CheckpointThread,
    CheckpointWrites,
)
from diurna_schemas.topics import partition_of

CHAIN_CHECKPOINTS_MAX: Final = 100_000
"""A thread whose ancestors are more than this is broken: its parents go in a circle."""


class Key(NamedTuple):
    """Which checkpoint."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint with the values its channels had and what was written after it.

    `writes` are in the order in which a run applies them. `has_parent`: whether the parent is still there.
    """

    row: Checkpoint
    blobs: list[CheckpointBlob]
    writes: list[CheckpointWrites]
    has_parent: bool

    @property
    def key(self) -> Key:
        return Key(*self.row[:3])


@dataclass(frozen=True, slots=True)
class Found:
    """A thread as far as it is known, and a checkpoint of it. `next`: all records before this offset were folded."""

    thread: CheckpointThread | None
    damage: CheckpointDamage | None
    saved: Saved | None
    next: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A thread, and the newest checkpoint id of each of its namespaces. `next`: as in `Found`."""

    thread: CheckpointThread | None
    damage: CheckpointDamage | None
    heads: dict[str, str]
    next: int


@dataclass(frozen=True, slots=True)
class Keys:
    """Everything a thread has, by its keys. Of a checkpoint also at which version each channel's value is kept."""

    checkpoints: list[tuple[str, str, dict[str, str]]]
    blobs: list[tuple[str, str, str]]
    writes: list[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A checkpoint as a link in the chain of parents, with the version of each of its channels."""

    checkpoint_id: str
    channels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which checkpoints to list, newest first: those that agree with all that is given.

    `before` is a checkpoint id. `after` is where the page before ended.
    """

    thread_id: str | None = None
    checkpoint_ns: str | None = None
    checkpoint_id: str | None = None
    before: str | None = None
    after: Key | None = None


Accept = Callable[[Checkpoint], bool]


def order_of(key: Key) -> tuple[str, str, str]:
    """Listings fall in this: by checkpoint id, which is by time, across threads."""
    return (key.checkpoint_id, key.thread_id, key.checkpoint_ns)


class FoldedThreads:
    """The threads of tables in memory. `next_of` tells up to which offset a partition was folded."""

    def __init__(self, tables: Tables, next_of: Callable[[int], int] = lambda _: 0) -> None:
        self._tables = tables
        self._next_of = next_of

    def get(self, thread_id: str, checkpoint_ns: str, checkpoint_id: str | None) -> Found:
        """A checkpoint, the newest of the namespace where none is named."""
        thread = self._tables.checkpoint_threads.get(thread_id)
        if checkpoint_id is not None:
            row = self._tables.checkpoints.get(thread_id, checkpoint_ns, checkpoint_id)
        else:
            rows = [row for row in self._rows(thread_id) if row.checkpoint_ns == checkpoint_ns]
            row = max(rows, key=lambda row: row.checkpoint_id, default=None)
        damage = self._tables.checkpoint_damages.get(thread_id)
        saved = None if row is None else self._saved(row)
        return Found(thread, damage, saved, self._next_of(partition_of(thread_id)))

    def summary(self, thread_id: str) -> Summary:
        """The thread and the newest checkpoint of each namespace."""
        heads: dict[str, str] = {}
        for row in self._rows(thread_id):
            heads[row.checkpoint_ns] = max(heads.get(row.checkpoint_ns, ""), row.checkpoint_id)
        thread = self._tables.checkpoint_threads.get(thread_id)
        damage = self._tables.checkpoint_damages.get(thread_id)
        return Summary(thread, damage, heads, self._next_of(partition_of(thread_id)))

    def keys(self, thread_id: str) -> Keys:
        """Everything the thread has."""
        tables = self._tables
        rows = sorted(self._rows(thread_id), key=lambda row: (row.checkpoint_id, row.checkpoint_ns))
        writes = sorted(
            tables.checkpoint_writes.group(thread_id),
            key=lambda row: (row.checkpoint_id, row.checkpoint_ns, row.task_id),
        )
        return Keys(
            [(row.checkpoint_ns, row.checkpoint_id, orjson.loads(row.channels)) for row in rows],
            [(row.checkpoint_ns, row.channel, row.version) for row in tables.checkpoint_blobs.group(thread_id)],
            [(row.checkpoint_ns, row.checkpoint_id, row.task_id) for row in writes],
        )

    def page(self, wanted: Wanted, *, limit: int, accept: Accept | None = None) -> list[Saved]:
        """The first `limit` checkpoints that are wanted and accepted."""
        rows = sorted(
            (row for row in self._rows(wanted.thread_id) if _is_wanted(row, wanted)),
            key=lambda row: order_of(Key(*row[:3])),
            reverse=True,
        )
        return [self._saved(row) for row in rows if accept is None or accept(row)][:limit]

    def keys_of_runs(self, run_ids: Iterable[str]) -> list[Key]:
        """The checkpoints that these runs made."""
        runs = frozenset(run_ids)
        return [Key(*row[:3]) for row in self._rows(None) if row.run_id in runs]

    def chain(self, key: Key) -> list[Ancestor]:
        """The ancestors of a checkpoint, nearest first."""
        found: list[Ancestor] = []
        row = self._tables.checkpoints.get(*key)
        while row is not None and row.parent_checkpoint_id is not None and len(found) < CHAIN_CHECKPOINTS_MAX:
            row = self._tables.checkpoints.get(key.thread_id, key.checkpoint_ns, row.parent_checkpoint_id)
            if row is not None:
                found.append(Ancestor(row.checkpoint_id, orjson.loads(row.channels)))
        return found

    def blobs(
        self, thread_id: str, checkpoint_ns: str, versions: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], CheckpointBlob]:
        """The values of channels at versions, as far as there are any, by channel and version."""
        found = {version: self._tables.checkpoint_blobs.get(thread_id, checkpoint_ns, *version) for version in versions}
        return {version: row for version, row in found.items() if row is not None}

    def writes(self, thread_id: str, checkpoint_ns: str, checkpoint_ids: Iterable[str]) -> list[CheckpointWrites]:
        """What was written after these checkpoints, in order within each."""
        ids = frozenset(checkpoint_ids)
        return in_order(
            row
            for row in self._tables.checkpoint_writes.group(thread_id)
            if row.checkpoint_ns == checkpoint_ns and row.checkpoint_id in ids
        )

    def _rows(self, thread_id: str | None) -> Iterator[Checkpoint]:
        table = self._tables.checkpoints
        return iter(table) if thread_id is None else iter(table.group(thread_id))

    def _saved(self, row: Checkpoint) -> Saved:
        versions = orjson.loads(row.channels).items()
        blobs = self.blobs(row.thread_id, row.checkpoint_ns, versions)
        writes = [one for one in self._tables.checkpoint_writes.group(row.thread_id) if one[:3] == row[:3]]
        parent = row.parent_checkpoint_id
        has_parent = (
            parent is not None and self._tables.checkpoints.get(row.thread_id, row.checkpoint_ns, parent) is not None
        )
        return Saved(row, list(blobs.values()), in_order(writes), has_parent)


def in_order(writes: Iterable[CheckpointWrites]) -> list[CheckpointWrites]:
    """The writes of tasks in the order in which a run applies them: LangGraph's `writes_sort_key`."""
    return sorted(writes, key=lambda row: (row.checkpoint_id, row.task_path, row.task_id))


def _is_wanted(row: Checkpoint, wanted: Wanted) -> bool:
    return (
        (wanted.checkpoint_ns is None or row.checkpoint_ns == wanted.checkpoint_ns)
        and (wanted.checkpoint_id is None or row.checkpoint_id == wanted.checkpoint_id)
        and (wanted.before is None or row.checkpoint_id < wanted.before)
        and (wanted.after is None or order_of(Key(*row[:3])) < order_of(wanted.after))
    )
