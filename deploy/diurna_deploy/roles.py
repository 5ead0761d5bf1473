"""What each process does: the server, the deciders, the projector, the auditor, one agent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from diurna_deploy.door import LOOPBACK_DOOR, Door

Ready = Callable[[str | None], None]
"""Is told, once the process does its work, where it serves its metrics; None where only its starter may know."""
Role = Callable[[Ready], Awaitable[None]]

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
        from diurna_deploy.settings import told_database_url
        from diurna_streams.project.options import ProjectorOptions
        from diurna_streams.project.projector import run_projector

        client = ClientSettings.load()
        options = ProjectorOptions(
            bootstrap_servers=client.kafka_bootstrap_servers, database_url=told_database_url(), member=member
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


def agent(agent_id: str, *, work_dir: Path | None = None, door: Door = LOOPBACK_DOOR) -> Role:
    """Runs one agent of the team."""

    async def run(ready: Ready) -> None:
        from diurna.connection import Connection
        from diurna.settings import ClientSettings, state_dir
        from diurna_agents.team import member_of_team
        from diurna_deploy.agent_process import at_work

        member_of_team(agent_id)  # nobody is asked for one that is not there
        client = ClientSettings.load()
        folder = (work_dir or state_dir() / "work") / agent_id
        async with (
            await Connection.open(client, source=f"/agents/{agent_id}") as connection,
            at_work(agent_id, connection, client, folder=folder, door=door) as found,
        ):
            ready(f"{found.base_url}/metrics")
            await _until_cancelled()

    return run


def server(*, host: str, port: int) -> Role:
    """Serves the API and the schema registry."""

    async def run(ready: Ready) -> None:
        from diurna_deploy.server import serve

        await serve(host=host, port=port, ready=lambda: ready(f"http://{host}:{port}/metrics"))

    return run


async def _until_cancelled() -> None:
    await asyncio.get_running_loop().create_future()
