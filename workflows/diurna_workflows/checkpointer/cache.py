"""What a saver knows of the threads it writes to: the newest checkpoint of each namespace, written through."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from diurna_projections.folds.packing import unpack
from diurna_projections.threads import Saved
from diurna_workflows.checkpointer.drafts import CheckpointDraft, WritesDraft
from diurna_workflows.checkpointer.values import Value

READ_BYTES_MAX: Final = 64 * 1024 * 1024
"""What is remembered of checkpoints that were read, before anybody writes to their thread."""


class Write(NamedTuple):
    """What a task wrote, beginning with what its order follows from."""

    task_path: str
    task_id: str
    number: int
    channel: str
    value: Value


@dataclass(slots=True)
class Head:
    """The newest checkpoint of a namespace, whole.

    `versions` and `values` are of those channels whose values are not in the body.
    """

    checkpoint_id: str
    parent_checkpoint_id: str | None
    body: Value
    metadata: Value
    versions: dict[str, str]
    values: dict[str, Value]
    writes: dict[tuple[str, int], Write] = field(default_factory=dict[tuple[str, int], Write])

    @classmethod
    def of(cls, saved: Saved) -> Head:
        """The head as it was read."""
        row = saved.row
        return cls(
            row.checkpoint_id,
            row.parent_checkpoint_id if saved.has_parent else None,
            Value(row.kind, row.checkpoint),
            Value(row.metadata_kind, row.metadata),
            orjson.loads(row.channels),
            {blob.channel: Value(blob.kind, blob.value) for blob in saved.blobs},
            {
                (written.task_id, one.number): Write(
                    written.task_path, written.task_id, one.number, one.channel, Value(one.kind, one.value)
                )
                for written in saved.writes
                for one in unpack(written.writes)
            },
        )

    def in_order(self) -> list[Write]:
        """The writes in the order in which a run applies them."""
        return sorted(self.writes.values(), key=lambda write: write[:3])

    def followed_by(self, draft: CheckpointDraft) -> Head | None:
        """The checkpoint that comes after this one; none where it names a value that neither brings."""
        values = dict(draft.values)
        for channel, version in draft.channels.items():
            if not version or channel in draft.changed:
                continue
            if self.versions.get(channel) != version:
                return None  # it branches off from an older one
            if channel in self.values:
                values[channel] = self.values[channel]
        return Head(draft.checkpoint_id, draft.parent_checkpoint_id, draft.body, draft.metadata, draft.channels, values)

    def wrote(self, draft: WritesDraft) -> None:
        """Takes in what a task wrote: as the projection does, the first write stays unless its channel is special."""
        for number, channel, value in draft.writes:
            key = (draft.task_id, number)
            if number < 0 or key not in self.writes:
                self.writes[key] = Write(draft.task_path, draft.task_id, number, channel, value)


EMPTY: Final = Head("", None, Value("", b""), Value("", b""), {}, {})
"""What a namespace without checkpoints begins from."""


class ReadHeads:
    """The newest checkpoints as they were last read, bounded in bytes: what a run begins from."""

    def __init__(self, *, bytes_max: int = READ_BYTES_MAX) -> None:
        self._heads: OrderedDict[tuple[str, str], tuple[Head, int]] = OrderedDict()
        self._bytes = 0
        self._bytes_max = bytes_max

    def remember(self, thread_id: str, checkpoint_ns: str, head: Head) -> None:
        """Keeps a head; the oldest ones go."""
        self.take(thread_id, checkpoint_ns)
        size = _size_of(head)
        self._heads[thread_id, checkpoint_ns] = (head, size)
        self._bytes += size
        while self._bytes > self._bytes_max:
            _, (_, gone) = self._heads.popitem(last=False)
            self._bytes -= gone

    def take(self, thread_id: str, checkpoint_ns: str) -> Head | None:
        """Gives a head away."""
        found = self._heads.pop((thread_id, checkpoint_ns), None)
        if found is None:
            return None
        self._bytes -= found[1]
        return found[0]


def _size_of(head: Head) -> int:
    values = [head.body, head.metadata, *head.values.values(), *(write.value for write in head.writes.values())]
    return 1_000 + sum(len(value.data) + 100 for value in values)
