"""The whole team in one process: an in-memory log with every real decider, and the real agents at work on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from diurna import EventBus, ResourceLockManager
from diurna.connection import Connection
from diurna.seen import Seen
from diurna_agents import team
from diurna_agents.workspace import Workspace
from diurna_schemas.codec import Codec
from diurna_schemas.topics import TOPICS
from diurna_streams.conduct import Conductor
from diurna_streams.log.memory import MemoryLog
from diurna_workflows import KafkaCheckpointSaver, WorkflowManager

WORKING = ("code-review", "cicd", "infrastructure")


@dataclass
class MemoryTeam:
    """What a test needs of it."""

    log: MemoryLog
    connection: Connection
    bus: EventBus
    manager: WorkflowManager

    def types_of(self, correlation_id: str) -> list[str]:
        """The types of all events of one piece of work, partition by partition."""
        found: list[str] = []
        for topic in ("agents.events", "locks.events", "workflows.events", "broadcasts"):
            for partition in range(TOPICS[topic].partitions):
                seen = [Seen(record, self.connection.codec) for record in self.log.records(topic, partition)]
                found += [one.type_name for one in seen if one.correlation_id == correlation_id]
        return found


@asynccontextmanager
async def memory_team(work_dir: Path, *, agents: tuple[str, ...] = WORKING) -> AsyncGenerator[MemoryTeam]:
    """Deciders, agents and a workflow manager, for as long as the block lasts."""
    log, codec = MemoryLog(), Codec.numbered()
    await log.provision(TOPICS.values())
    conductor = Conductor(log, codec)
    async with AsyncExitStack() as stack:
        conducting = asyncio.create_task(conductor.run())

        async def stop() -> None:
            conducting.cancel()
            await asyncio.gather(conducting, return_exceptions=True)

        stack.push_async_callback(stop)
        await asyncio.wait_for(conductor.ready(), 10)
        connection = await stack.enter_async_context(Connection(log, codec))
        bus = await stack.enter_async_context(EventBus(connection))
        for agent_id in agents:
            workspace = Workspace(work_dir / agent_id, environment=dict(os.environ))
            agent = team.build(agent_id, workspace=workspace, connection=connection, port=None)
            await stack.enter_async_context(agent.running())
        locks = await stack.enter_async_context(ResourceLockManager(connection=connection))
        saver = await stack.enter_async_context(KafkaCheckpointSaver(connection))
        manager = WorkflowManager(bus, connection, locks=locks, checkpointer=saver)
        stack.push_async_callback(manager.close)
        yield MemoryTeam(log, connection, bus, manager)
