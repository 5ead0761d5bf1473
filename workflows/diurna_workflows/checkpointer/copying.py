"""Copies a thread into another, oldest checkpoint first: interrupted, the copy can be made again."""

from __future__ import annotations

from langgraph.checkpoint.serde.base import SerializerProtocol

from diurna_projections.threads import Saved
from diurna_schemas.checkpoints import ThreadCopied
from diurna_schemas.errors import Conflict, NotFound
from diurna_workflows.checkpointer.drafts import RecordDraft, drafts_of_copy
from diurna_workflows.checkpointer.history import all_of, to_copy
from diurna_workflows.checkpointer.threads import Threads


async def copy_thread(threads: Threads, serde: SerializerProtocol, source: str, target: str, until: str | None) -> None:
    """Copies what led to the checkpoint `until`, or the whole thread.

    Raises `NotFound` where the source is not there, `Conflict` where the target has checkpoints the source has not.
    """
    await threads.caught_up(source)
    chosen = await to_copy(threads.reads, serde, source, until)
    if not chosen:
        raise NotFound("thread", source)
    async with threads.holding(target) as thread:
        ours = {key[1:] for key, _ in chosen}
        if foreign := [one.key async for one in all_of(threads.reads, target) if one.key[1:] not in ours]:
            raise Conflict(
                f"thread {target!r} has checkpoint {foreign[0].checkpoint_id}, "
                f"which thread {source!r} does not have: copy to a thread that is not there yet"
            )
        sent: set[tuple[str, str, str]] = set()
        for key, with_writes in chosen:
            found = (await threads.reads.get(*key)).saved
            if found is None:
                raise Conflict(f"thread {source!r} lost checkpoint {key.checkpoint_id} meanwhile")
            for draft in drafts_of_copy(_without_writes(found, with_writes), target, sent):
                await threads.appended(draft)
        copied = ThreadCopied(
            thread_id=target,
            token=0,
            source_thread_id=source,
            until_checkpoint_id=until,
            checkpoints=len(chosen),
        )
        await threads.appended(RecordDraft(copied))
        await threads.reload(thread)


def _without_writes(saved: Saved, with_writes: bool) -> Saved:
    return saved if with_writes else Saved(saved.row, saved.blobs, [], saved.has_parent)
