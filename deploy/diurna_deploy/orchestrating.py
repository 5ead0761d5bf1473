"""Lets the orchestrator drive workflows: on its bus, with their checkpoints on the log and read from the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog
from tenacity import retry, retry_if_exception_type, wait_random_exponential

from diurna import AgentRequestEvent, EventBus, RegistryClient, ResourceLockManager
from diurna.api_client import ApiClient
from diurna_deploy.settings import Settings
from diurna_deploy.succession import SuccessorLocks
from diurna_schemas.errors import DiurnaError, Unavailable
from diurna_workflows.approvals import ReadDecision, expired
from diurna_workflows.manager import WorkflowManager, warm_up
from diurna_workflows.orchestrator import execute_task, running_workflows
from diurna_workflows.policy import Decision

if TYPE_CHECKING:
    from diurna.connection import Connection
    from diurna.settings import ClientSettings
    from diurna_agents.surroundings import Surroundings
    from diurna_workflows.checkpointer import KafkaCheckpointSaver
    from diurna_workflows.state import JsonObject

logger = structlog.get_logger(__name__)

_RETRY_SECONDS_MAX: Final = 5


@asynccontextmanager
async def orchestrating(
    surroundings: Surroundings,
    connection: Connection,
    client: ClientSettings,
    *,
    agent_id: str,
    instance_id: str,
    died: str | None = None,
) -> AsyncGenerator[Surroundings]:
    """Gives the orchestrator a bus, the registry, and workflows to drive, which stop when the block ends.

    Another process may take them up then. Requests may come before everything is loaded and the database answers; they
    wait for that. `died` is the instance this one succeeds: the locks that one held are given back in its name.
    """
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(EventBus(connection, agent_id=agent_id))
        read_decision = await stack.enter_async_context(_reading_decisions(client))
        manager_of_locks = await stack.enter_async_context(ResourceLockManager(connection=connection, settings=client))
        locks = SuccessorLocks(connection, manager_of_locks, instance_id, died)
        registry = None if client.api_url is None else RegistryClient(client.api_url, agent_id)
        if registry is not None:
            stack.push_async_callback(registry.close)

        async def made() -> WorkflowManager:
            await asyncio.to_thread(warm_up)
            checkpointer = await stack.enter_async_context(await _checkpointer(connection, locks))
            manager = WorkflowManager(
                bus, connection, read_decision=read_decision, locks=locks, checkpointer=checkpointer
            )
            stack.push_async_callback(manager.close)
            return manager

        making = asyncio.create_task(made(), name="load workflows")

        async def drive(request: AgentRequestEvent, seconds: float) -> JsonObject:
            # Where an attempt has a time of its own, another one may go on once that is over.
            whole = seconds if request.attempt_timeout_seconds is None else None
            return await execute_task(request.payload, manager=await asyncio.shield(making), seconds=whole)

        def describe() -> dict[str, object]:
            is_made = making.done() and not making.cancelled() and making.exception() is None
            return running_workflows(making.result()) if is_made else {}

        try:
            yield replace(surroundings, bus=bus, registry=registry, drive_workflow=drive, describe=describe)
        finally:
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)


@retry(retry=retry_if_exception_type(Unavailable), wait=wait_random_exponential(multiplier=0.2, max=_RETRY_SECONDS_MAX))
async def _checkpointer(connection: Connection, locks: SuccessorLocks) -> KafkaCheckpointSaver:
    """What keeps the checkpoints of workflows; where no database is named, it folds the log by itself."""
    from diurna_projections.store import StoredThreads
    from diurna_workflows.checkpointer import KafkaCheckpointSaver, LockedThreads

    url = Settings.load().database_url
    try:
        reads = None if url is None else await StoredThreads.connect(url)
    except Unavailable as error:
        logger.warning("workflows wait for the database", error=str(error))
        raise
    return KafkaCheckpointSaver(connection, reads=reads, guard=LockedThreads(locks))


@asynccontextmanager
async def _reading_decisions(client: ClientSettings) -> AsyncGenerator[ReadDecision | None]:
    """Finds decisions that fell while no orchestrator listened; without an API there is nobody to ask."""
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
