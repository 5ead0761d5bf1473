"""Whether a draft comes late: what it builds on is no longer the end of its thread, or no longer there."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeVar

from diurna_schemas.errors import Conflict
from diurna_workflows.checkpointer.drafts import CheckpointDraft, Draft, WritesDraft
from diurna_workflows.checkpointer.open_thread import OpenThread

REMEMBERED_MAX: Final = 10_000

K = TypeVar("K")
V = TypeVar("V")
Place = tuple[str, str, str]
"""Thread, namespace, checkpoint."""


class Addressed:
    """The checkpoints that somebody read by their ids, and may mean to branch off from.

    A run branches off only where a run began: that somebody looked at an old state excuses no run that is late.
    """

    def __init__(self) -> None:
        self._by_runs: OrderedDict[Place, None] = OrderedDict()
        self._by_others: OrderedDict[Place, None] = OrderedDict()

    def note(self, place: Place, *, is_run: bool) -> None:
        """Somebody read this very checkpoint."""
        remember(self._by_runs if is_run else self._by_others, place, None)

    def excuses(self, draft: Draft, base: Place) -> bool:
        """Whether it is meant to branch off from there."""
        return draft.is_branch or base in self._by_runs or (not draft.is_of_run and base in self._by_others)


def why_late(draft: Draft, base: Place, thread: OpenThread, addressed: Addressed) -> Conflict | None:
    """What is wrong with a draft that builds on `base`, where the thread was just taken, or was deleted."""
    thread_id, checkpoint_ns, checkpoint_id = base
    if thread.is_gone and checkpoint_id:
        return Conflict(
            f"thread {thread_id!r} was deleted since this run went on from checkpoint {checkpoint_id}: begin it anew",
            code="deleted",
        )
    newest = thread.base.get(checkpoint_ns)
    if not thread.is_untouched or newest is None or checkpoint_id >= newest or addressed.excuses(draft, base):
        return None
    began = f"checkpoint {checkpoint_id}" if checkpoint_id else "no checkpoint at all"
    return Conflict(
        f"thread {thread_id!r} has moved on to checkpoint {newest} since this run began from {began}: "
        "another writer was first",
        code="thread_moved",
    )


def places_of(draft: Draft) -> tuple[Place | None, Place | None]:
    """The checkpoint a draft makes, and the one it builds on; an empty id stands for: on none."""
    match draft:
        case CheckpointDraft():
            about = (draft.thread_id, draft.checkpoint_ns)
            return (*about, draft.checkpoint_id), (*about, draft.parent_checkpoint_id or "")
        case WritesDraft():
            return None, (draft.thread_id, draft.checkpoint_ns, draft.checkpoint_id)
        case _:
            return None, None


def remember(known: OrderedDict[K, V], key: K, value: V) -> None:
    """Keeps it; the oldest goes where there are too many."""
    known[key] = value
    known.move_to_end(key)
    while len(known) > REMEMBERED_MAX:
        known.popitem(last=False)
