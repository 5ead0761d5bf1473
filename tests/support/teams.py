"""A team on memory or on a real broker behind the same face: what the contract suites of the SDK run on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_fixed

import diurna.testing
from diurna.agent import Agent
from diurna.bus import EventBus
from diurna.connection import Connection
from diurna.locks import ResourceLockManager
from diurna_schemas.codec import Codec
from diurna_schemas.topics import TOPICS
from diurna_streams.conduct import Conductor
from diurna_streams.log.kafka import KafkaLog


async def eventually(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Returns once the condition holds; fails where it does not in time."""
    async for attempt in AsyncRetrying(
        retry=retry_if_result(lambda holds: not holds), stop=stop_after_delay(seconds), wait=wait_fixed(0.005)
    ):
        with attempt:
            holds = condition()
        if not attempt.retry_state.outcome.failed:
            attempt.retry_state.set_result(holds)


class AnyTeam(Protocol):
    """What `diurna.testing.Team` and `KafkaTeam` have in common."""

    connection: Connection

    def connect(self) -> Connection: ...

    def bus(self, *, agent_id: str | None = None) -> EventBus: ...

    def agent(self, agent_id: str, **options: Any) -> Agent: ...

    def locks(self) -> ResourceLockManager: ...


class KafkaTeam:
    """Clients of a real broker, the deciders in this process."""

    def __init__(self, bootstrap_servers: str, codec: Codec) -> None:
        self._servers = bootstrap_servers
        self._codec = codec
        self._connections: list[Connection] = []
        self.connection = self.connect()

    def connect(self) -> Connection:
        connection = Connection(KafkaLog(self._servers, client_id="sdk-test"), self._codec, owns_log=True)
        self._connections.append(connection)
        return connection

    def bus(self, *, agent_id: str | None = None) -> EventBus:
        return EventBus(self.connection, agent_id=agent_id)

    def agent(self, agent_id: str, **options: Any) -> Agent:
        options.setdefault("port", None)
        return Agent(agent_id, connection=self.connection, **options)

    def locks(self) -> ResourceLockManager:
        return ResourceLockManager(connection=self.connection)

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()


@asynccontextmanager
async def memory_team() -> AsyncIterator[AnyTeam]:
    async with diurna.testing.team() as team:
        yield team


@asynccontextmanager
async def kafka_team(bootstrap_servers: str, codec: Codec | None = None) -> AsyncIterator[AnyTeam]:
    codec = codec or Codec.numbered()
    async with KafkaLog(bootstrap_servers, client_id="sdk-test-deciders") as log:
        await log.provision(TOPICS.values())
        conductor = Conductor(log, codec)
        task = asyncio.create_task(conductor.run())
        team = KafkaTeam(bootstrap_servers, codec)
        try:
            async with asyncio.timeout(60):
                await conductor.ready()
            yield team
        finally:
            await team.close()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
