"""Runs workflows in a process of your own: everything a manager needs, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from diurna import EventBus, ResourceLockManager
from diurna.connection import Connection
from diurna.settings import ClientSettings
from diurna_workflows.definitions import Definition
from diurna_workflows.manager import WorkflowManager


@asynccontextmanager
async def managing(
    *definitions: Definition, settings: ClientSettings | None = None, agent_id: str = "workflows"
) -> AsyncGenerator[WorkflowManager]:
    """A manager that knows these types beside those that come with Diurna, on the log the environment names.

    `agent_id` is in whose name threads are held. What still runs when the block ends is stopped; whoever starts it
    again under its id goes on with it. Raises `Unavailable` where a part does not answer.
    """
    from diurna_workflows.checkpointer import KafkaCheckpointSaver  # LangGraph takes a second to load

    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(await Connection.open(settings))
        bus = await stack.enter_async_context(EventBus(connection))
        locks = await stack.enter_async_context(ResourceLockManager(connection=connection))
        saver = await stack.enter_async_context(await KafkaCheckpointSaver.open(settings, agent_id=agent_id))
        manager = WorkflowManager(bus, connection, locks=locks, checkpointer=saver, definitions=definitions)
        stack.push_async_callback(manager.close)
        yield manager
