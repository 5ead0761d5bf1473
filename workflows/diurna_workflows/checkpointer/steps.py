"""Lets a run go on before its checkpoint is durable, and end only when it is.

LangGraph saves checkpoints one after the other, each once the one before is saved. With durability "async" the run goes
on meanwhile and saves what its tasks write beside it. So whoever saves a checkpoint need not wait for the log while
somebody waits for the writes that follow it: those are over only when both are durable. A run that does not go on, with
durability "sync" or at its end, waits for the checkpoint itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
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


class Saving:
    """A checkpoint that is being saved. `is_over`: nobody needs to wait for it any longer."""

    def __init__(self, is_over: asyncio.Future[None]) -> None:
        self.is_over = is_over


class Steps:
    """The steps of all runs under way."""

    def __init__(self) -> None:
        self._steps: dict[Key, _Step] = {}

    @asynccontextmanager
    async def saving(self, draft: CheckpointDraft) -> AsyncGenerator[Saving]:
        """A checkpoint is saved within the block."""
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
            yield Saving(is_over)
        finally:
            step.saving -= 1
            self._forget(key, step)

    @asynccontextmanager
    async def going_on(self, draft: WritesDraft) -> AsyncGenerator[None]:
        """What follows a checkpoint is saved within the block, which is over once the checkpoint is durable too."""
        key = (draft.thread_id, draft.checkpoint_ns, draft.checkpoint_id)
        step = self._steps.setdefault(key, _Step())
        step.writing += 1
        if step.is_over is not None and not step.is_over.done():
            step.is_over.set_result(None)
        try:
            yield
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
