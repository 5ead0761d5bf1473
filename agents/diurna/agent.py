"""An agent: it registers, shows that it lives, and takes requests from the log up to its concurrency."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

import structlog

from diurna.agent_http import bound, serving
from diurna.bus import EventBus
from diurna.client import Client
from diurna.connection import Connection
from diurna.documents import given_list, given_object, json_text, validated
from diurna.handlers import AnyHandler, Handlers, Rejected
from diurna.presence import Presence
from diurna.redaction import PATTERNS, Redactor
from diurna.responses import command_id_of
from diurna.seen import Seen
from diurna.settings import ClientSettings
from diurna.workers import DISPATCHED, ENDINGS, Context, Workers
from diurna_schemas import topics
from diurna_schemas.agents import AgentDeregistered, AgentWentStale, Capability, RegisterAgent
from diurna_schemas.errors import InvalidInput
from diurna_schemas.ids import checked_id, checked_name
from diurna_schemas.shapes import AgentCapability, AgentRequestEvent, AgentRequestType, AgentResponseEvent
from diurna_streams.log import TopicPartition

__all__ = ["Agent", "Context", "Rejected", "new_instance_id"]

_log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS_MAX: Final = 30.0
"""An instance is stale after 60 seconds of silence, so one lost heartbeat does no harm."""
_TYPES: Final = ENDINGS | {DISPATCHED, AgentWentStale.type_name, AgentDeregistered.type_name}


def new_instance_id(agent_id: str) -> str:
    """A name for one more process of an agent."""
    return f"{agent_id}:{uuid.uuid4().hex[:12]}"


class Agent(Client):
    """One process of an agent, an instance. Several instances of one `agent_id` share its requests.

    Handlers are `async def`, or plain functions, which run in threads. They run at least once; what they return is the
    answer, `Rejected` says no, any other exception is an error. `concurrency` is how many requests it takes at once.
    Without `capabilities`, the request types it has handlers for are its capabilities. The HTTP server listens on
    `port`, 0 being any free one; None serves nothing. What looks like a secret is masked in answers, errors and
    progress before they go to the log; `redactor=None` leaves answers and progress as they are.
    """

    def __init__(
        self,
        agent_id: str,
        *,
        capabilities: Iterable[AgentCapability | str] = (),
        concurrency: int = 4,
        agent_name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        host: str = "127.0.0.1",
        port: int | None = 0,
        base_url: str | None = None,
        heartbeat_seconds: float = 10.0,
        shutdown_seconds: float = 20.0,
        redactor: Redactor | None = PATTERNS,
        instance_id: str | None = None,
        connection: Connection | None = None,
        settings: ClientSettings | None = None,
    ) -> None:
        super().__init__(connection, settings=settings)
        self.agent_id = checked_name("agent_id", agent_id)
        if not 0 < heartbeat_seconds <= HEARTBEAT_SECONDS_MAX:
            raise InvalidInput("heartbeat_seconds", heartbeat_seconds, f"at most {HEARTBEAT_SECONDS_MAX:g} seconds")
        if not 1 <= concurrency <= 1000:
            raise InvalidInput("concurrency", concurrency, "1 to 1000 requests at once are allowed")
        self.instance_id = new_instance_id(agent_id) if instance_id is None else checked_id("instance_id", instance_id)
        self.concurrency = concurrency
        self.base_url = base_url or ""
        self._agent_name = agent_name or agent_id
        self._capabilities = [
            one if isinstance(one, AgentCapability) else validated(AgentCapability, {"name": one})
            for one in given_list("capabilities", capabilities)
        ]
        self._metadata = json_text("metadata", given_object("metadata", metadata))
        self._host, self._port = host, port
        self._heartbeat_seconds = heartbeat_seconds
        self._shutdown_seconds = shutdown_seconds
        self._handlers = Handlers(agent_id, concurrency, redactor)
        self._handlers.add_default(AgentRequestType.GET_STATUS, self._get_status)
        self._workers: Workers | None = None
        self._presence: Presence | None = None
        self._gone = asyncio.Event()
        self._began = time.monotonic()

    def on_request(self, *request_types: str) -> Callable[[AnyHandler], AnyHandler]:
        """Makes a function the handler of these request types: `handler(request)` or `handler(request, context)`."""
        if not request_types:
            raise InvalidInput("request_types", request_types, "at least one request type is needed")

        def decorate(handler: AnyHandler) -> AnyHandler:
            self._handlers.add(request_types, handler)
            return handler

        return decorate

    @property
    def in_flight(self) -> int:
        """How many requests it is working on."""
        return 0 if self._workers is None else self._workers.in_flight

    @property
    def is_running(self) -> bool:
        """Whether it is registered and takes requests."""
        return self._presence is not None and self._presence.is_alive

    async def run(self) -> None:
        """Works until SIGTERM, SIGINT, or until somebody deregisters this instance; then ends gracefully."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        handled: list[signal.Signals] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            # Signals can be had in the main thread only, and not on every platform.
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, stop.set)
                handled.append(number)
        try:
            async with self.running():
                waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._gone.wait())]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Agent]:
        """Works while the block lasts: registered when it begins, deregistered when it ends."""
        connection = await self._connected()
        self._gone.clear()
        self._began = time.monotonic()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.close)
            bus = await stack.enter_async_context(EventBus(connection, agent_id=self.agent_id))
            workers = self._workers = Workers(self.agent_id, lambda: self.instance_id, self._handlers, bus)
            if self._port is not None:
                listening = bound(self._host, self._port)
                port = listening.getsockname()[1]
                self.base_url = self.base_url or f"http://{self._host}:{port}"
                await stack.enter_async_context(serving(listening, self._health, lambda body: self._ask(bus, body)))
            place = TopicPartition(topics.AGENTS.events, topics.partition_of(self.agent_id))
            await connection.tail.watch([place])
            listener = connection.tail.listen(
                [place], lambda seen: self._hear(connection, seen), types=_TYPES, key=self.agent_id
            )
            stack.callback(connection.tail.unlisten, listener)
            presence = self._presence = Presence(
                connection, self._registration, lambda: workers.in_flight, self._heartbeat_seconds
            )
            await presence.begin()
            try:
                _log.info("agent running", agent_id=self.agent_id, instance_id=self.instance_id, url=self.base_url)
                yield self
            finally:
                await asyncio.shield(self._leave(presence, workers))

    async def _leave(self, presence: Presence, workers: Workers) -> None:
        """No new requests; the running ones may end; what is not done in time goes to others."""
        await presence.pause()
        await workers.finish(self._shutdown_seconds)
        await presence.end()
        self._presence = None

    def _hear(self, connection: Connection, seen: Seen) -> None:
        if self._workers is None or self._presence is None:
            return
        if seen.type_name not in {AgentWentStale.type_name, AgentDeregistered.type_name}:
            self._workers.take(connection, seen)
            return
        event = seen.decoded()
        if not isinstance(event, AgentWentStale | AgentDeregistered) or event.instance_id != self.instance_id:
            return
        if isinstance(event, AgentWentStale):
            _log.warning("this instance was taken for dead and registers again", instance_id=self.instance_id)
            self._presence.renew()
        elif not self._presence.is_leaving:
            _log.warning("this instance was deregistered", instance_id=self.instance_id, reason=event.reason)
            self._gone.set()

    def _registration(self) -> RegisterAgent:
        capabilities = self._capabilities or [AgentCapability(name=kind) for kind in self._handlers.own_types]
        return validated(
            RegisterAgent,
            {
                "command_id": command_id_of("agent.register", self.instance_id, uuid.uuid4().hex),
                "agent_id": self.agent_id,
                "instance_id": self.instance_id,
                "agent_name": self._agent_name,
                "base_url": self.base_url,
                "capabilities": [capability_record(one) for one in capabilities],
                "concurrency": self.concurrency,
                "metadata": self._metadata,
            },
        )

    async def _ask(self, bus: EventBus, body: dict[str, Any]) -> AgentResponseEvent:
        target = body.setdefault("target_agent", self.agent_id)
        if target not in {self.agent_id, "any"}:
            raise InvalidInput("target_agent", target, f"this is {self.agent_id}")
        return await bus.request_agent({**body, "target_agent": self.agent_id})

    def _health(self) -> dict[str, Any]:
        return {"status": "healthy" if self.is_running else "unhealthy", **self._state()}

    def _get_status(self, _: AgentRequestEvent) -> dict[str, Any]:
        return {"status": "busy" if self.in_flight >= self.concurrency else "active", **self._state()}

    def _state(self) -> dict[str, Any]:
        return {
            "agent_id": self.agent_id,
            "instance_id": self.instance_id,
            "in_flight": self.in_flight,
            "concurrency": self.concurrency,
            "requests_handled": 0 if self._workers is None else self._workers.handled,
            "request_types": self._handlers.types,
            "uptime_seconds": round(time.monotonic() - self._began, 3),
        }


def capability_record(capability: AgentCapability) -> Capability:
    """A capability as the log holds it."""
    return validated(
        Capability,
        {**capability.model_dump(), "parameters": json_text("parameters", capability.parameters)},
    )
