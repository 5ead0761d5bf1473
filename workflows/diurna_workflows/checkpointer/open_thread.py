"""A thread that is held: what is known of it without asking anybody, for nobody else can write to it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from diurna_schemas.ids import Position
from diurna_workflows.checkpointer.cache import EMPTY, Head
from diurna_workflows.checkpointer.drafts import CheckpointDraft, Draft, WritesDraft
from diurna_workflows.checkpointer.guard import Hold

_Namespaced = tuple[str, str]


@dataclass(eq=False, slots=True)
class OpenThread:
    """One hold of a thread.

    `base`: the newest checkpoint of each namespace when it was opened; `token_before`: the token it had then;
    `position`: up to there all is known; `queued`: drafts on their way; `last`: the last of them all; `pins`: who
    holds it whether it is written to or not.
    """

    thread_id: str
    hold: Hold
    base: dict[str, str]
    position: Position | None
    token_before: int = 0
    heads: dict[str, Head] = field(default_factory=dict[str, Head])
    used_at: float = field(default_factory=time.monotonic)
    queued: int = 0
    last: Draft | None = None
    pins: int = 0
    is_untouched: bool = True
    """Until something is appended: then it is what it was when it was taken, whoever has written to it before."""
    is_gone: bool = False
    """Until it begins anew: it was deleted, and whoever goes on from what it had is late."""
    is_known: bool = True
    """False once it is unknown whether a write is there: then the thread is taken anew, and with a new token."""
    _early: dict[_Namespaced, list[WritesDraft]] = field(default_factory=dict[_Namespaced, list[WritesDraft]])
    _records: int = 0

    @property
    def token(self) -> int:
        return self.hold.token

    def next_record(self) -> int:
        """The number of the next record, within what is written with this token."""
        self._records += 1
        return self._records

    def head(self, checkpoint_ns: str) -> Head | None:
        """The newest checkpoint of a namespace, where it is known whole; `EMPTY` where there is none."""
        head = self.heads.get(checkpoint_ns)
        if head is None:
            return None if checkpoint_ns in self.base else EMPTY
        return head if head.checkpoint_id >= self.base.get(checkpoint_ns, "") else None

    def took(self, draft: Draft, position: Position) -> None:
        """Takes in what is durable now."""
        self.position = position
        match draft:
            case CheckpointDraft():
                self._took_checkpoint(draft)
            case WritesDraft():
                self._took_writes(draft)
            case _:
                return

    def begin_again(self, base: dict[str, str], *, is_gone: bool) -> None:
        """Forgets everything but what the newest checkpoints are."""
        self.base = base
        self.is_gone = is_gone
        self.heads.clear()
        self._early.clear()

    def _took_checkpoint(self, draft: CheckpointDraft) -> None:
        checkpoint_ns, checkpoint_id = draft.checkpoint_ns, draft.checkpoint_id
        before = self.head(checkpoint_ns)
        early = self._early.pop((checkpoint_ns, checkpoint_id), ())
        if before is not None and before.checkpoint_id > checkpoint_id:
            return
        following = (before or EMPTY).followed_by(draft)
        if following is None:
            self.heads.pop(checkpoint_ns, None)
            self.base[checkpoint_ns] = max(self.base.get(checkpoint_ns, ""), checkpoint_id)
            return
        if before is not None and before.checkpoint_id == checkpoint_id:
            following.writes = before.writes  # the same checkpoint again
        for writes in early:
            following.wrote(writes)
        self.heads[checkpoint_ns] = following

    def _took_writes(self, draft: WritesDraft) -> None:
        head = self.head(draft.checkpoint_ns)
        if head is None:
            return
        if head.checkpoint_id == draft.checkpoint_id:
            head.wrote(draft)
        elif head.checkpoint_id < draft.checkpoint_id:
            # LangGraph saves a checkpoint after the one before it, and what its tasks write at once.
            self._early.setdefault((draft.checkpoint_ns, draft.checkpoint_id), []).append(draft)
