"""Checkpoint savers on memory or on real parts behind the same face: what the saver's contract suite runs on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from diurna.connection import Connection
from diurna.locks import ResourceLockManager
from diurna_projections.store import StoredThreads
from diurna_schemas.codec import Codec
from diurna_streams.project.options import ProjectorOptions
from diurna_streams.project.projector import run_projector
from diurna_workflows.checkpointer import KafkaCheckpointSaver, LockedThreads, ReadsThreads
from support.teams import AnyTeam, kafka_team, memory_team

LEASE_SECONDS = 5.0


class Savers:
    """Makes savers, each with a connection of its own, as other processes would have."""

    def __init__(self, team: AnyTeam, database_url: str | None, stack: AsyncExitStack) -> None:
        self.team = team
        self._database_url = database_url
        self._stack = stack

    async def reads(self) -> ReadsThreads | None:
        return None if self._database_url is None else await StoredThreads.connect(self._database_url)

    async def __call__(
        self,
        *,
        connection: Connection | None = None,
        agent_id: str = "tester",
        wait_seconds: float = 10.0,
        lease_seconds: float = LEASE_SECONDS,
        **options: Any,
    ) -> KafkaCheckpointSaver:
        own = connection or self.team.connect()
        guard = LockedThreads(
            ResourceLockManager(connection=own),
            agent_id=agent_id,
            lease_seconds=lease_seconds,
            wait_seconds=wait_seconds,
        )
        options.setdefault("guard", guard)
        saver = KafkaCheckpointSaver(own, reads=await self.reads(), **options)
        return await self._stack.enter_async_context(saver)


@asynccontextmanager
async def memory_savers() -> AsyncIterator[Savers]:
    async with memory_team() as team, AsyncExitStack() as stack:
        yield Savers(team, None, stack)


@asynccontextmanager
async def real_savers(bootstrap_servers: str, database_url: str) -> AsyncIterator[Savers]:
    """On Kafka and Postgres, with deciders and a projector in this process."""
    codec = Codec.numbered()
    async with kafka_team(bootstrap_servers, codec) as team:
        options = ProjectorOptions(
            bootstrap_servers=bootstrap_servers, database_url=database_url, group=f"savers-{id(team)}"
        )
        stop, ready = asyncio.Event(), asyncio.Event()

        def doubt(code: int, reason: str) -> None:
            raise AssertionError(f"the projector gave itself up with {code}: {reason}")

        work = asyncio.create_task(run_projector(options, codec=codec, stop=stop, ready=ready, on_doubt=doubt))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
        try:
            async with AsyncExitStack() as stack:
                yield Savers(team, database_url, stack)
        finally:
            stop.set()
            await work
