"""A whole team in one process, for tests: the same clients on an in-memory log, with the real deciders behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from diurna.agent import Agent
from diurna.bus import EventBus
from diurna.connection import Connection
from diurna.documents import fields_of
from diurna.seen import Seen
from diurna.testing_directory import MemoryDirectory
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
        self.directory = MemoryDirectory(log, codec)
        self._connections: list[Connection] = []
        self.connection = self.connect()

    def connect(self) -> Connection:
        """A connection of its own, as another process would have."""
        connection = Connection(self.log, self.codec, directory=self.directory, clock_ms=self.clock)
        self._connections.append(connection)
        return connection

    def bus(self, *, agent_id: str | None = None) -> EventBus:
        """A bus on the team's log."""
        return EventBus(self.connection, agent_id=agent_id)

    def agent(self, agent_id: str, **options: Any) -> Agent:
        """An agent on the team's log, with the options of `Agent`; without an HTTP server unless it is given a port."""
        options.setdefault("port", None)
        return Agent(agent_id, connection=self.connection, **options)

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
