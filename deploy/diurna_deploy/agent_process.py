"""One agent at work in this process: in a folder of its own, succeeding whoever died there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from diurna.agent import Agent, new_instance_id
from diurna_agents import team
from diurna_agents.language_model import LanguageModel
from diurna_agents.surroundings import Surroundings
from diurna_agents.workspace import Workspace
from diurna_deploy.door import LOOPBACK_DOOR, Door
from diurna_deploy.environment import inherited
from diurna_deploy.settings import Settings
from diurna_deploy.succession import declare_dead, occupied

if TYPE_CHECKING:
    from diurna.connection import Connection
    from diurna.settings import ClientSettings

ORCHESTRATOR: Final = "orchestrator"


@asynccontextmanager
async def at_work(
    agent_id: str, connection: Connection, client: ClientSettings, *, folder: Path, door: Door = LOOPBACK_DOOR
) -> AsyncGenerator[Agent]:
    """An agent of the team while the block lasts; it takes requests when the block begins."""
    workspace = Workspace(folder, environment=inherited())
    instance_id = new_instance_id(agent_id)
    async with AsyncExitStack() as stack:
        died = stack.enter_context(occupied(folder, instance_id))
        surroundings = Surroundings(model=_model())
        if agent_id == ORCHESTRATOR:
            from diurna_deploy.orchestrating import orchestrating

            surroundings = await stack.enter_async_context(
                orchestrating(surroundings, connection, client, agent_id=agent_id, instance_id=instance_id, died=died)
            )
        agent = team.build(
            agent_id,
            workspace=workspace,
            surroundings=surroundings,
            instance_id=instance_id,
            connection=connection,
            **door._asdict(),
        )
        await stack.enter_async_context(agent.running())
        if died is not None:
            await declare_dead(connection, agent_id, died)
        clearing = asyncio.create_task(asyncio.to_thread(workspace.clear), name="clear what was left behind")
        stack.push_async_callback(asyncio.wait, {clearing})
        yield agent


def _model() -> LanguageModel | None:
    """The language model this process was told, loaded when it is first needed."""
    name = Settings.load().model
    return None if name is None else LanguageModel.named(name)
