"""Lets a run go on before its checkpoint is durable, and end only when it is.

LangGraph saves checkpoints one after the other, each once the one before is saved. With durability "async" the run goes
on meanwhile and saves what its tasks write beside it. So whoever saves a checkpoint need not wait for the log while
somebody waits for the writes that follow it: those are over only when both are durable. A run that does not go on, with
durability "sync" or at its end, waits for the checkpoint itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from diurna_workflows.checkpointer.drafts import CheckpointDraft, WritesDraft

Key = tuple[str, str, str]


@dataclass(slots=True)
class _Step:
    """A checkpoint and the writes that follow it, as long as somebody waits for one of them."""

    writing: int = 0
    saving: int = 0
    saved: asyncio.Future[None] | None = None
    is_over: asyncio.Future[None] | None = None


class Steps:
    """The steps of all runs under way."""

    def __init__(self) -> None:
        self._steps: dict[Key, _Step] = {}

    async def save(self, draft: CheckpointDraft, append: Callable[[CheckpointDraft], None]) -> None:
        """Saves a checkpoint, and returns once nobody needs to wait for it any longer."""
        key = (draft.thread_id, draft.checkpoint_ns, draft.checkpoint_id)
        step = self._steps.setdefault(key, _Step())
        step.saving += 1
        step.saved = draft.done
        is_over = step.is_over = asyncio.get_running_loop().create_future()
        if step.writing:
            is_over.set_result(None)
        else:
            draft.done.add_done_callback(lambda done: _tell(is_over, done))
        try:
            append(draft)
            await is_over
        finally:
            step.saving -= 1
            self._forget(key, step)

    async def go_on(self, draft: WritesDraft, append: Callable[[WritesDraft], None]) -> None:
        """Saves what follows a checkpoint, and returns once the checkpoint is durable too."""
        key = (draft.thread_id, draft.checkpoint_ns, draft.checkpoint_id)
        step = self._steps.setdefault(key, _Step())
        step.writing += 1
        if step.is_over is not None and not step.is_over.done():
            step.is_over.set_result(None)
        try:
            append(draft)
            await draft.done
            if step.saved is not None and not step.saved.done():
                await asyncio.wait({step.saved})
            if step.saved is not None and not step.saved.cancelled():
                step.saved.result()
        finally:
            step.writing -= 1
            self._forget(key, step)

    def _forget(self, key: Key, step: _Step) -> None:
        if not step.writing and not step.saving and self._steps.get(key) is step:
            del self._steps[key]


def _tell(is_over: asyncio.Future[None], done: asyncio.Future[None]) -> None:
    if is_over.done() or done.cancelled():
        return
    if (error := done.exception()) is not None:
        is_over.set_exception(error)
    else:
        is_over.set_result(None)
