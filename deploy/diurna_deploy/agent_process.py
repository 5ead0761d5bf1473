"""One agent at work in this process: in a folder of its own, succeeding whoever died there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from diurna_agents import team
from diurna_agents.workspace import Workspace
from diurna_deploy.environment import inherited
from diurna_deploy.succession import declare_dead, occupied

if TYPE_CHECKING:
    from diurna.connection import Connection
    from diurna.settings import ClientSettings

ORCHESTRATOR: Final = "orchestrator"


@asynccontextmanager
async def at_work(
    agent_id: str, connection: Connection, client: ClientSettings, *, folder: Path
) -> AsyncGenerator[None]:
    """Runs an agent of the team while the block lasts; it takes requests when the block begins."""
    agent = team.build(agent_id, workspace=Workspace(folder, environment=inherited()), connection=connection)
    async with AsyncExitStack() as stack:
        died = stack.enter_context(occupied(folder, agent.instance_id))
        if agent_id == ORCHESTRATOR:
            from diurna_deploy.orchestrating import orchestrating

            await stack.enter_async_context(orchestrating(agent, connection, client, died=died))
        await stack.enter_async_context(agent.running())
        if died is not None:
            await declare_dead(connection, agent_id, died)
        yield
