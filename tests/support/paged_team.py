"""The whole server in this process: an in-memory log with the real deciders, real tables, and the real application."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from diurna.connection import Connection
from diurna_deploy.provision import own_schema_ids
from diurna_deploy.replay_jobs import Told
from diurna_deploy.replay_process import Kind, replayed
from diurna_deploy.server import application
from diurna_deploy.settings import Settings
from diurna_projections.advance import understood
from diurna_projections.store import Store
from diurna_schemas import topics
from diurna_schemas.codec import Codec
from diurna_schemas.topics import TOPICS
from diurna_streams.conduct import Conductor
from diurna_streams.log import TopicPartition
from diurna_streams.log.memory import MemoryLog
from diurna_streams.replay.rebuild import opened
from diurna_streams.schema_registry.store import SchemaRegistry
from diurna_streams.schema_registry.topic import SchemaTopic

HTML = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
OWN_URL = "http://team"
_PROJECTED = (*topics.EVENT_TOPICS, topics.BROADCASTS, topics.HEARTBEATS, *topics.DEAD_LETTER_TOPICS)


@dataclass
class PagedTeam:
    """A client of the application, and a connection of those who work behind it."""

    app: FastAPI
    client: httpx.AsyncClient
    connection: Connection
    log: MemoryLog

    async def page(self, path: str, expected: int = 200, **parameters: Any) -> str:
        """A page as a browser gets it."""
        response = await self.client.get(path, params=parameters or None, headers=HTML)
        assert response.status_code == expected, f"{path}: {response.status_code}\n{response.text}"
        assert response.headers["content-type"] == "text/html; charset=utf-8", response.headers
        return response.text

    async def json(self, path: str, expected: int = 200, **parameters: Any) -> Any:
        response = await self.client.get(path, params=parameters or None, headers={"accept": "application/json"})
        assert response.status_code == expected, response.text
        return response.json()

    async def write(self, method: str, path: str, body: Any = None, expected: tuple[int, ...] = (200, 201, 202)) -> Any:
        """A write through the API, which is in the tables when this returns."""
        response = await self.client.request(method, path, json=body)
        assert response.status_code in expected, response.text
        answered = response.json()
        await self.client.get("/events", params={"min_position": answered["position"], "limit": 1})
        return answered

    async def submit(self, path: str, expected: int = 303, **fields: str) -> httpx.Response:
        """A form sent from one of its own pages."""
        response = await self.client.post(path, data=fields, headers={**HTML, "origin": OWN_URL})
        assert response.status_code == expected, response.text
        return response


@asynccontextmanager
async def paged_team(database_url: str) -> AsyncGenerator[PagedTeam]:
    """All of it, for as long as the block lasts."""
    log = MemoryLog()
    await log.provision(TOPICS.values())
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(SchemaRegistry.open(SchemaTopic(log)))
        codec = Codec(await own_schema_ids(registry))
        store = await Store.connect(database_url)
        stack.push_async_callback(store.close)
        await store.migrate()
        conductor = Conductor(log, codec)
        for work in (conductor.run(), _projected(log, codec, store)):
            stack.push_async_callback(_stopped, asyncio.create_task(work))
        await asyncio.wait_for(conductor.ready(), 10)
        settings = Settings(database_url=database_url, kafka_bootstrap_servers=None, schema_registry_url=None)

        async def replay(kind: Kind, told: Told) -> dict[str, Any]:
            """In this process: the log is nowhere else."""
            return await replayed(kind, told, opened(log, database_url, codec, None))

        app = await stack.enter_async_context(application(log, settings, own_url=OWN_URL, replay=replay))
        connection = await stack.enter_async_context(Connection(log, codec))
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=OWN_URL, timeout=30)
        )
        yield PagedTeam(app, client, connection, log)


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncGenerator[str]:
    """The application on a port of its own, for programs that want one."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server.serve(sockets=[taken]))
        try:
            while not server.started:  # noqa: ASYNC110 - uvicorn says so nowhere else
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{taken.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def _projected(log: MemoryLog, codec: Codec, store: Store) -> None:
    """Projects whatever comes."""
    reader = await log.reader()
    places = [TopicPartition(topic, number) for topic in _PROJECTED for number in range(TOPICS[topic].partitions)]
    await reader.start_at(dict.fromkeys(places, 0))
    while True:
        if records := await reader.read(wait_ms=1_000):
            await store.apply(understood(codec, records))


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
