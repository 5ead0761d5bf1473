"""The one HTTP server: reads, writes, the live stream, and the schema registry, on one port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import structlog
import uvicorn
from fastapi import FastAPI

from diurna.connection import Connection
from diurna.directory import Candidate
from diurna.gateway import write_router
from diurna.gateway.reads import KnownLock
from diurna.traced_http import Traced
from diurna_deploy.head_requests import HeadAsGet
from diurna_deploy.pages import Pages
from diurna_deploy.provision import own_schema_ids, register_schemas
from diurna_deploy.replay_jobs import ReplayJobs, Run, in_a_process, replay_router
from diurna_deploy.settings import Settings, told_database_url
from diurna_deploy.stack.state import SCHEMA_REGISTRY_PATH
from diurna_projections.api import AsOf, HotReads, install_problems, read_router
from diurna_projections.documents import Document, opened
from diurna_projections.past import Pasts
from diurna_projections.queries import Queries
from diurna_projections.workflow_queries import WorkflowQueries
from diurna_schemas import topics
from diurna_schemas.asyncapi import asyncapi_document
from diurna_schemas.chain import Head
from diurna_schemas.codec import Codec
from diurna_schemas.errors import InvalidInput, NotFound
from diurna_streams import tracing
from diurna_streams.log import Log, TopicPartition
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.schema_registry.routes import schema_registry_router
from diurna_streams.schema_registry.store import SchemaRegistry
from diurna_streams.schema_registry.topic import SchemaTopic

logger = structlog.get_logger(__name__)

_GRACE_SECONDS: Final = 5
_BACKLOG: Final = 512
_DESCRIPTION: Final = "The record and the conductor of a team of agents. Errors are RFC 9457 problems."


@dataclass(frozen=True, slots=True)
class Lookups:
    """The tables as the writing routes and the target `any` ask them."""

    queries: Queries

    async def agent_of_request(self, request_id: str) -> str | None:
        """The agent a request was submitted to."""
        try:
            return await self.queries.agent_of_request(request_id)
        except NotFound:
            return None

    async def workflow_of_approval(self, approval_id: str) -> str | None:
        """The workflow that waits for an approval."""
        try:
            return await self.queries.workflow_of_approval(approval_id)
        except NotFound:
            return None

    async def checkpoint(self, workflow_id: str, checkpoint_id: str) -> tuple[Document, Document] | None:
        """A workflow, and a checkpoint of it with its state."""
        reads = WorkflowQueries(self.queries)
        try:
            workflow, _ = await reads.workflow(workflow_id)
            taken, _ = await reads.checkpoint(workflow_id, checkpoint_id)
        except NotFound:
            return None
        return opened(workflow), opened(taken)

    async def driven_type(self, workflow_id: str) -> str | None:
        """The type of a workflow that a graph drives."""
        return await WorkflowQueries(self.queries).driven_type(workflow_id)

    async def ended_workflows(self, before_ms: int, limit: int) -> list[str]:
        """Workflows that were over by a time, those that ended first."""
        return await WorkflowQueries(self.queries).ended(before_ms, limit=limit)

    async def has_agent(self, agent_id: str) -> bool:
        """Whether an agent is registered."""
        try:
            await self.queries.agent(agent_id)
        except NotFound:
            return False
        return True

    async def dead_letter(self, letter_id: str) -> dict[str, Any] | None:
        """A record nobody could understand, as the API shows it."""
        try:
            return (await self.queries.dead_letter(letter_id))[0]
        except NotFound:
            return None

    async def lock(self, lock_id: str) -> KnownLock | None:
        """Which resource a lock is on, and whose it is."""
        try:
            found, _ = await self.queries.locks.lock(lock_id)
        except NotFound:
            return None
        return KnownLock(found["resource_id"], found["agent_id"])

    async def candidates(self, capability: str) -> list[Candidate]:
        """The live agents that have a capability of this name."""
        return [
            Candidate(one.agent_id, one.open_requests, one.concurrency) for one in await self.queries.able(capability)
        ]

    async def heads(self) -> dict[TopicPartition, Head]:
        """The last accepted event of each chained partition."""
        found = await self.queries.chain_heads()
        return {TopicPartition(topic, partition): head for (topic, partition), head in found.items()}

    async def close(self) -> None:
        """The queries belong to the server."""


async def serve(*, host: str, port: int, ready: Callable[[], None]) -> None:
    """Serves until cancelled. `ready` is called once requests are answered."""
    settings = Settings.load()
    if settings.kafka_bootstrap_servers is None:
        raise InvalidInput("DIURNA_KAFKA_BOOTSTRAP_SERVERS", None, "this process needs to be told its Kafka")
    # The port is taken first: whoever cannot have it need not connect anywhere.
    listening = _listening(host, port)
    url = f"http://{host}:{port}"
    async with (
        KafkaLog(settings.kafka_bootstrap_servers, client_id="diurna-server") as log,
        application(log, settings, own_url=url) as app,
    ):
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE_SECONDS)
        await _until_cancelled(_Server(config, ready), listening)


@asynccontextmanager
async def application(
    log: Log, settings: Settings, *, own_url: str, replay: Run = in_a_process
) -> AsyncGenerator[FastAPI]:
    """The whole application on a log and a database, for as long as the block lasts. `replay` does the rebuilds."""
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(SchemaRegistry.open(SchemaTopic(log)))
        registry_url = settings.schema_registry_url
        is_own = registry_url is None or registry_url == f"{own_url}{SCHEMA_REGISTRY_PATH}"
        ids = await own_schema_ids(registry) if is_own or registry_url is None else await register_schemas(registry_url)
        codec = Codec(ids)
        tables_url = settings.database_url or told_database_url()
        queries = await Queries.connect(tables_url, codec)
        stack.push_async_callback(queries.close)
        lookups = Lookups(queries)
        connection = Connection(log, codec, source="/gateway", heads=lookups.heads, directory=lookups)
        await stack.enter_async_context(connection)
        pasts = Pasts(queries, tables_url, codec)
        stack.push_async_callback(pasts.close)
        jobs = ReplayJobs(queries.database.schema, run=replay)
        stack.push_async_callback(jobs.close)
        app = _composed(log, registry, queries, connection, lookups)
        app.include_router(replay_router(jobs))
        app.add_api_route("/asyncapi.json", _asyncapi(settings), tags=["events"])
        app.add_middleware(AsOf, pasts=pasts)
        app.add_middleware(Pages)
        app.add_middleware(HeadAsGet)
        if tracing.is_on():
            app.add_middleware(Traced)
        yield app


def _composed(
    log: Log, registry: SchemaRegistry, queries: Queries, connection: Connection, lookups: Lookups
) -> FastAPI:
    app = FastAPI(title="Diurna", version=version("diurna"), description=_DESCRIPTION)
    install_problems(app, besides=SCHEMA_REGISTRY_PATH)
    app.add_middleware(HotReads, queries=queries)
    projected = [
        TopicPartition(name, partition)
        for name in (*topics.EVENT_TOPICS, topics.HEARTBEATS, topics.BROADCASTS, *topics.DEAD_LETTER_TOPICS)
        for partition in range(topics.TOPICS[name].partitions)
    ]

    async def ends() -> dict[tuple[str, int], int]:
        return {(place.topic, place.partition): end for place, end in (await log.ends(projected)).items()}

    # Writes first: their paths are fixed where reads have parts that would take them.
    app.include_router(write_router(connection, lookups))
    app.include_router(read_router(queries, ends=ends))
    app.include_router(schema_registry_router(registry), prefix=SCHEMA_REGISTRY_PATH)
    return app


def _asyncapi(settings: Settings) -> Callable[[], Awaitable[Document]]:
    document = asyncapi_document(version("diurna"), settings.kafka_bootstrap_servers)

    async def show_asyncapi() -> Document:
        """Every topic and every record on it, as an AsyncAPI 3 document."""
        return document

    return show_asyncapi


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handling: the process's role decides when it ends."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tells that it answers, once it does."""
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()


async def _until_cancelled(server: _Server, listening: socket.socket) -> None:
    config = server.config
    if not config.loaded:
        config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup([listening])
    try:
        await server.main_loop()
    except asyncio.CancelledError:
        server.should_exit = True
        raise
    finally:
        await asyncio.shield(server.shutdown([listening]))


def _listening(host: str, port: int) -> socket.socket:
    """Raises `InvalidInput` where the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise InvalidInput("port", f"{host}:{port}", f"cannot listen there ({error.strerror})") from error
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening
