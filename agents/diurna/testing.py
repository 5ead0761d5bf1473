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
from diurna.documents import plain
from diurna.seen import Seen
from diurna.testing_directory import MemoryDirectory
from diurna_schemas.codec import Codec
from diurna_schemas.message import Part
from diurna_schemas.topics import TOPICS
from diurna_streams.decide import Decider
from diurna_streams.deciders import agents
from diurna_streams.log.memory import MemoryLog

READY_SECONDS: Final = 10.0
_FAMILIES: Final = (agents.RULES,)


class Clock:
    """The team's time. It runs like the wall's, and `advance` moves it on."""

    def __init__(self) -> None:
        self._ahead_ms = 0
        self._deciders: list[Decider] = []

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self._ahead_ms

    def advance(self, seconds: float) -> None:
        """Lets time pass at once: deadlines fall due, silent instances go stale."""
        if seconds < 0:
            raise ValueError(f"time goes on, never back: {seconds}")
        self._ahead_ms += round(seconds * 1000)
        for decider in self._deciders:
            decider.wake()

    def attach(self, decider: Decider) -> None:
        """Tells this decider when time jumps."""
        self._deciders.append(decider)


class Team:
    """A log, its deciders, and clients of it."""

    def __init__(self, log: MemoryLog, codec: Codec, clock: Clock) -> None:
        self.log = log
        self.codec = codec
        self.clock = clock
        self.directory = MemoryDirectory(log, codec)
        self.connection = self.connect()
        self._connections = [self.connection]

    def connect(self) -> Connection:
        """A connection of its own, as another process would have."""
        connection = Connection(self.log, self.codec, directory=self.directory, clock_ms=self.clock)
        if hasattr(self, "_connections"):
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
                found.append({"type": seen.type_name, "position": str(record.position), **plain(content)})
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
    deciders = [Decider(log, codec, rules, clock_ms=clock) for rules in _FAMILIES]
    tasks = [asyncio.create_task(decider.run(), name="diurna-testing-decider") for decider in deciders]
    try:
        async with asyncio.timeout(READY_SECONDS):
            for decider in deciders:
                clock.attach(decider)
                await decider.is_ready.wait()
        found = Team(log, codec, clock)
        try:
            yield found
        finally:
            await found.close()
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
