"""A whole team in one process, for tests: the same clients on an in-memory log, with the real deciders behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import httpx
from fastapi import FastAPI

from diurna.agent import Agent
from diurna.api_client import ApiClient
from diurna.bus import EventBus
from diurna.connection import Connection
from diurna.documents import fields_of
from diurna.locks import ResourceLockManager
from diurna.registry import RegistryClient
from diurna.seen import Seen
from diurna.testing_api import MemoryReads, build_api
from diurna.workflow_state import WorkflowStateManager
from diurna_schemas.codec import Codec
from diurna_schemas.message import Part
from diurna_schemas.topics import TOPICS
from diurna_streams.conduct import Conductor
from diurna_streams.log.memory import MemoryLog

READY_SECONDS: Final = 10.0


class Clock:
    """The team's time. It runs like the wall's, and `advance` moves it on."""

    def __init__(self) -> None:
        self._ahead_ms = 0
        self._conductors: list[Conductor] = []

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self._ahead_ms

    def advance(self, seconds: float) -> None:
        """Lets time pass at once: deadlines fall due, silent instances go stale."""
        if seconds < 0:
            raise ValueError(f"time goes on, never back: {seconds}")
        self._ahead_ms += round(seconds * 1000)
        for conductor in self._conductors:
            conductor.wake()

    def attach(self, conductor: Conductor) -> None:
        """Tells its deciders when time jumps."""
        self._conductors.append(conductor)


class Team:
    """A log, its deciders, and clients of it."""

    def __init__(self, log: MemoryLog, codec: Codec, clock: Clock) -> None:
        self.log = log
        self.codec = codec
        self.clock = clock
        self.reads = MemoryReads(log, codec, clock)
        self._connections: list[Connection] = []
        self._app: FastAPI | None = None
        self.connection = self.connect()

    def connect(self) -> Connection:
        """A connection of its own, as another process would have."""
        connection = Connection(self.log, self.codec, directory=self.reads, clock_ms=self.clock)
        self._connections.append(connection)
        return connection

    def bus(self, *, agent_id: str | None = None) -> EventBus:
        """A bus on the team's log."""
        return EventBus(self.connection, agent_id=agent_id)

    def agent(self, agent_id: str, **options: Any) -> Agent:
        """An agent on the team's log, with the options of `Agent`; without an HTTP server unless it is given a port."""
        options.setdefault("port", None)
        return Agent(agent_id, connection=self.connection, **options)

    @property
    def app(self) -> FastAPI:
        """The HTTP API on the team's log, as an ASGI application."""
        if self._app is None:
            self._app = build_api(self.connection, self.reads)
        return self._app

    def api(self) -> ApiClient:
        """A client of the team's HTTP API."""
        return ApiClient("http://team", transport=httpx.ASGITransport(self.app))

    def registry(self, agent_id: str = "unknown", **options: Any) -> RegistryClient:
        """A registry client of the team, with the options of `RegistryClient`."""
        return RegistryClient(None, agent_id, api=self.api(), **options)

    def workflow_state(self) -> WorkflowStateManager:
        """A manager of workflows on the team's log."""
        return WorkflowStateManager(connection=self.connection, api=self.api())

    def locks(self) -> ResourceLockManager:
        """A manager of locks on the team's log."""
        return ResourceLockManager(connection=self.connection, api=self.api())

    def events(self, topic: str = "agents.events") -> list[dict[str, Any]]:
        """Everything that stands on a topic, as plain values with `type` and `position`; partition by partition."""
        found: list[dict[str, Any]] = []
        for partition in range(TOPICS[topic].partitions):
            for record in self.log.records(topic, partition):
                seen = Seen(record, self.codec)
                content: Part = seen.decoded()
                found.append({"type": seen.type_name, "position": str(record.position), **fields_of(content)})
        return found

    async def close(self) -> None:
        """Closes all connections."""
        for connection in self._connections:
            await connection.close()


@asynccontextmanager
async def team() -> AsyncGenerator[Team]:
    """A team whose deciders run while the block lasts."""
    clock = Clock()
    log = MemoryLog(clock_ms=clock)
    await log.provision(TOPICS.values())
    codec = Codec.numbered()
    conductor = Conductor(log, codec, clock_ms=clock, monotonic_ms=clock)
    clock.attach(conductor)
    task = asyncio.create_task(conductor.run(), name="diurna-testing-deciders")
    try:
        async with asyncio.timeout(READY_SECONDS):
            await conductor.ready()
        found = Team(log, codec, clock)
        try:
            yield found
        finally:
            await found.close()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
