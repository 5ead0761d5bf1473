"""What each process does: the server, the deciders, the projector, the auditor, one agent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from diurna import AgentRequestEvent
    from diurna.connection import Connection
    from diurna.settings import ClientSettings
    from diurna_agents.language_model import LanguageModel
    from diurna_agents.surroundings import Surroundings
    from diurna_workflows.approvals import ReadDecision
    from diurna_workflows.state import JsonObject

Ready = Callable[[str | None], None]
"""Is told, once the process does its work, where it serves its metrics; None where only its starter may know."""
Role = Callable[[Ready], Awaitable[None]]

ORCHESTRATOR: Final = "orchestrator"
_AUDITOR_NICENESS: Final = 10


def deciders(*, member: str | None = None) -> Role:
    """Decides about agents, locks and workflows, and watches for silent agents.

    A `member` gets its partitions back at once when it comes back under its name; a second process is a hot standby.
    """

    async def run(ready: Ready) -> None:
        from diurna.connection import Connection
        from diurna_streams.conduct import Conductor
        from diurna_streams.decide.follower import learns_nothing

        async with await Connection.open(source="/deciders") as connection:
            learn = connection.learn or learns_nothing
            conductor = Conductor(connection.log, connection.codec, member=member, learn=learn)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(conductor.run(), name="conduct")
                await conductor.ready()
                ready(None)

    return run


def projector(*, member: str | None = None) -> Role:
    """Keeps the tables as the log says. A `member` gets its partitions back at once when it comes back."""

    async def run(ready: Ready) -> None:
        from diurna.connection import Connection
        from diurna.settings import ClientSettings
        from diurna_streams.project.options import ProjectorOptions
        from diurna_streams.project.projector import run_projector

        client = ClientSettings.load()
        options = ProjectorOptions(
            bootstrap_servers=client.kafka_bootstrap_servers, database_url=database_url(), member=member
        )
        stop, began = asyncio.Event(), asyncio.Event()
        async with await Connection.open(client, source="/projectors") as connection, asyncio.TaskGroup() as tasks:
            work = tasks.create_task(
                run_projector(options, codec=connection.codec, learn=connection.learn, stop=stop, ready=began)
            )
            try:
                await began.wait()
                ready(None)
                await asyncio.shield(work)
            except asyncio.CancelledError:
                stop.set()
                await work

    return run


def auditor() -> Role:
    """Decides everything again as it happens, and says where history is not what the rules say. It yields to others."""

    async def run(ready: Ready) -> None:
        from diurna.connection import Connection
        from diurna_streams.audit import Auditor
        from diurna_streams.conduct import ALL_RULES
        from diurna_streams.decide.follower import learns_nothing

        os.nice(_AUDITOR_NICENESS)
        async with await Connection.open(source="/auditors") as connection, asyncio.TaskGroup() as tasks:
            found = Auditor(connection.log, connection.codec, ALL_RULES, learn=connection.learn or learns_nothing)
            tasks.create_task(found.run(), name="audit")
            await found.is_following.wait()
            ready(None)

    return run


def agent(agent_id: str, *, work_dir: Path | None = None) -> Role:
    """Runs one agent of the team."""

    async def run(ready: Ready) -> None:
        from diurna.connection import Connection
        from diurna.settings import ClientSettings, state_dir
        from diurna_agents import team
        from diurna_agents.surroundings import Surroundings
        from diurna_agents.workspace import Workspace
        from diurna_deploy.environment import inherited

        client = ClientSettings.load()
        workspace = Workspace((work_dir or state_dir() / "work") / agent_id, environment=inherited())
        async with await Connection.open(client, source=f"/agents/{agent_id}") as connection, AsyncExitStack() as stack:
            if agent_id == ORCHESTRATOR:
                surroundings = await stack.enter_async_context(_orchestrating(connection, client))
            else:
                surroundings = Surroundings(model=_model())
            found = team.build(agent_id, workspace=workspace, surroundings=surroundings, connection=connection)
            await stack.enter_async_context(found.running())
            ready(f"{found.base_url}/metrics")
            if agent_id == ORCHESTRATOR:
                from diurna_workflows.manager import warm_up

                await asyncio.to_thread(warm_up)
            await _until_cancelled()

    return run


def _model() -> LanguageModel | None:
    """The language model this process was told, loaded when it is first needed."""
    from diurna_agents.language_model import LanguageModel
    from diurna_deploy.settings import Settings

    name = Settings.load().model
    return None if name is None else LanguageModel.named(name)


@asynccontextmanager
async def _orchestrating(connection: Connection, client: ClientSettings) -> AsyncGenerator[Surroundings]:
    """What the orchestrator needs: a bus, the registry, and workflows to drive, which stop when it ends."""
    from diurna import EventBus, RegistryClient, ResourceLockManager
    from diurna_agents.surroundings import Surroundings
    from diurna_workflows.manager import WorkflowManager
    from diurna_workflows.orchestrator import execute_task, running_workflows

    async with (
        EventBus(connection, agent_id=ORCHESTRATOR) as bus,
        ResourceLockManager(connection=connection, settings=client) as locks,
        _reading_decisions(client) as read_decision,
    ):
        manager = WorkflowManager(bus, connection, read_decision=read_decision, locks=locks)

        async def drive(request: AgentRequestEvent) -> JsonObject:
            return await execute_task(request.payload, manager=manager)

        registry = None if client.api_url is None else RegistryClient(client.api_url, ORCHESTRATOR)
        try:
            yield Surroundings(
                model=_model(),
                bus=bus,
                registry=registry,
                drive_workflow=drive,
                describe=lambda: running_workflows(manager),
            )
        finally:
            await manager.close()
            if registry is not None:
                await registry.close()


@asynccontextmanager
async def _reading_decisions(client: ClientSettings) -> AsyncGenerator[ReadDecision | None]:
    """Finds decisions that fell while no orchestrator listened; without an API there is nobody to ask."""
    from diurna.api_client import ApiClient
    from diurna_schemas.errors import DiurnaError
    from diurna_workflows.approvals import expired
    from diurna_workflows.policy import Decision

    if client.api_url is None:
        yield None
        return
    api = ApiClient(client.api_url)

    async def read(workflow_id: str, approval_id: str) -> Decision | None:
        try:
            approvals: list[dict[str, object]] = await api.read("/approvals", {"workflow_id": workflow_id})
        except DiurnaError:
            return None  # the decision is heard on the log all the same
        approval = next((one for one in approvals if one.get("approval_id") == approval_id), None)
        if approval is None:
            return None
        match approval.get("status"):
            case "approved" | "rejected" as status:
                by, reason = str(approval.get("decided_by")), str(approval.get("reason") or "")
                return Decision(status == "approved", by, reason)
            case "expired":
                return expired()
            case _:
                return None

    try:
        yield read
    finally:
        await api.close()


def server(*, host: str, port: int) -> Role:
    """Serves the API and the schema registry."""

    async def run(ready: Ready) -> None:
        from diurna_deploy.server import serve

        await serve(host=host, port=port, ready=lambda: ready(f"http://{host}:{port}/metrics"))

    return run


def database_url() -> str:
    """The database this process was told. Raises `InvalidInput` where it was told none."""
    from diurna_deploy.settings import Settings
    from diurna_schemas.errors import InvalidInput

    found = Settings.load().database_url
    if found is None:
        raise InvalidInput("DIURNA_DATABASE_URL", None, "this process needs to be told its database")
    return found


async def _until_cancelled() -> None:
    await asyncio.get_running_loop().create_future()
