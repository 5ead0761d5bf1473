"""The bus: ask an agent and get its answer, tell everyone, hear of what happens. All of it goes through the log."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

import structlog

from diurna.client import Client
from diurna.connection import Connection
from diurna.dispatches import Dispatches
from diurna.documents import given_object, json_text, validated
from diurna.requests import Requests
from diurna.settings import ClientSettings
from diurna.subscriptions import Counts, Subscriber, Subscription
from diurna_schemas.errors import InvalidInput
from diurna_schemas.ids import Position, checked_id, checked_name
from diurna_schemas.records import Broadcast
from diurna_schemas.shapes import AgentBroadcastEvent, AgentRequestEvent, AgentResponseEvent

_log = structlog.get_logger(__name__)

TIMEOUT_SECONDS_MAX: Final = 7 * 86_400.0


class EventBus(Client):
    """A client of the log. Without a connection it uses the process's shared one, to what the environment names.

    `agent_id` says in whose name it listens: broadcasts meant for other agents are then left out.
    """

    def __init__(
        self,
        connection: Connection | None = None,
        *,
        agent_id: str | None = None,
        settings: ClientSettings | None = None,
    ) -> None:
        super().__init__(connection, settings=settings)
        self._agent_id = agent_id
        self._counts = Counts()
        self._subscriptions: list[Subscription] = []
        self._requests = Requests()
        self._dispatches = Dispatches()
        self._started_at = time.monotonic()
        self._stopping: set[asyncio.Task[None]] = set()

    async def request_agent(
        self,
        request: AgentRequestEvent | Mapping[str, Any],
        timeout: float | None = None,
        *,
        traceparent: str | None = None,
    ) -> AgentResponseEvent:
        """Asks an agent and returns its answer, at most `timeout` seconds later (else the request's own time).

        Nobody there: status "rejected" at once, with "agent offline: …" as the error. No answer in time: status
        "timeout"; where only `timeout` has passed and not yet the request's own, the request goes on, and asking with
        the same `request_id` again waits for the same answer. Cancelling the caller cancels the request. The target
        "any" is the least loaded live agent with the capability that payload or metadata name, else of the request's
        type. Handlers run at least once; the answer is decided exactly once.

        Raises `InvalidInput` naming the field, `TooLarge` above 256 KiB, before anything is written, and `Unavailable`
        where the log does not answer.
        """
        asked = validated(AgentRequestEvent, request)
        if timeout is not None and not _is_a_wait(timeout):
            raise InvalidInput("timeout", timeout, f"more than 0 and at most {TIMEOUT_SECONDS_MAX:g} seconds")
        connection = await self._ready()
        return await self._requests.ask(connection, asked, timeout, traceparent)

    async def respond_to_request(
        self, response: AgentResponseEvent | Mapping[str, Any], *, timeout: float = 30.0
    ) -> Position:
        """Answers a request that was dispatched, and returns where the answer stands. `Agent` does it for handlers.

        Which instance answers which attempt is taken from the response's metadata (`instance_id`, `attempt`), else
        from the `request.dispatched` event this bus has seen. The first answer counts; a later one is recorded as
        late. Raises `NotFound` where no dispatch is known, `Conflict` where the attempt was another's.
        """
        answered = validated(AgentResponseEvent, response)
        command = self._dispatches.completion(answered)
        connection = await self._ready()
        return (await connection.answer(command, timeout=timeout)).position

    async def emit(
        self,
        event_type: str,
        data: Mapping[str, Any] | None = None,
        source: str = "unknown",
        correlation_id: str | None = None,
    ) -> Position:
        """Tells everyone, and returns where it stands on the log. Raises `InvalidInput` or `TooLarge`."""
        return await self._broadcast(
            {
                "broadcast_id": str(uuid.uuid4()),
                "event_type": checked_name("event_type", event_type),
                "source_agent": checked_name("source", source),
                "data": json_text("data", given_object("data", data)),
                "correlation_id": None if correlation_id is None else checked_id("correlation_id", correlation_id),
            }
        )

    async def broadcast_to_agents(self, event: AgentBroadcastEvent | Mapping[str, Any]) -> Position:
        """Tells `target_agents`, or all of them, and returns where it stands on the log."""
        broadcast = validated(AgentBroadcastEvent, event)
        correlation_id = broadcast.metadata.get("correlation_id")
        return await self._broadcast(
            {
                "broadcast_id": broadcast.broadcast_id,
                "event_type": broadcast.event_type,
                "source_agent": broadcast.source_agent,
                "target_agents": broadcast.target_agents,
                "data": json_text("payload", broadcast.payload),
                "priority": str(broadcast.priority),
                "metadata": json_text("metadata", broadcast.metadata),
                "correlation_id": correlation_id if isinstance(correlation_id, str) else None,
                "created_at_ms": round(broadcast.created_at.timestamp() * 1000),
            }
        )

    def subscribe(self, event_type: str, callback: Subscriber) -> None:
        """Calls `callback` with each `Event` of this type, decided or broadcast, in order within its partition.

        The callback may be async. Its errors are counted and logged and hurt nobody else. What this bus writes after
        `subscribe` is heard; `await bus.ready()` says that what others write is heard from then on, too.
        """
        if not callable(callback):
            raise InvalidInput("callback", callback, "a function is expected")
        subscription = Subscription(event_type, callback, self._counts, self._agent_id)
        self._subscriptions.append(subscription)
        if self._connection is not None:
            self._dispatches.hear(self._connection, event_type)
            self._later(subscription.start(self._connection))

    def unsubscribe(self, event_type: str, callback: Subscriber) -> bool:
        """Calls it no longer. Whether it had been subscribed."""
        for subscription in self._subscriptions:
            if subscription.event_type == event_type and subscription.callback == callback:
                self._subscriptions.remove(subscription)
                if self._connection is not None:
                    self._later(subscription.stop())
                return True
        return False

    def list_subscribers(self) -> dict[str, list[str]]:
        """The names of the callbacks, by event type."""
        found: dict[str, list[str]] = {}
        for subscription in self._subscriptions:
            found.setdefault(subscription.event_type, []).append(subscription.name)
        return found

    def get_stats(self) -> dict[str, Any]:
        """What has passed through this bus."""
        return {
            "events_emitted": self._counts.emitted,
            "events_delivered": self._counts.delivered,
            "events_dropped": self._counts.dropped,
            "subscriber_errors": self._counts.errors,
            "events_by_type": dict(self._counts.by_type),
            "subscribers": len(self._subscriptions),
            "requests_sent": self._requests.sent,
            "requests_active": self._requests.active,
            "requests_by_status": dict(self._requests.by_status),
            "uptime_seconds": time.monotonic() - self._started_at,
        }

    async def ready(self) -> None:
        """Returns once everything written from now on, by anybody, reaches the subscribers."""
        await self._ready()

    async def close(self) -> None:
        """Stops all subscribers and gives up the connection."""
        for subscription in self._subscriptions:
            await subscription.stop()
        await asyncio.gather(*self._stopping, return_exceptions=True)
        await self._requests.close()
        self._dispatches.stop()
        await super().close()

    async def _broadcast(self, fields: dict[str, Any]) -> Position:
        connection = await self._ready()
        broadcast = validated(Broadcast, {"created_at_ms": connection.clock_ms(), **fields})
        position = await connection.sender.broadcast(broadcast)
        self._counts.emitted += 1
        self._counts.by_type[broadcast.event_type] = self._counts.by_type.get(broadcast.event_type, 0) + 1
        return position

    async def _ready(self) -> Connection:
        connection = await self._connected()
        for subscription in tuple(self._subscriptions):
            self._dispatches.hear(connection, subscription.event_type)
            await subscription.start(connection)
        return connection

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)


def _is_a_wait(timeout: object) -> bool:
    return isinstance(timeout, int | float) and 0 < timeout <= TIMEOUT_SECONDS_MAX


_buses: dict[int, EventBus] = {}


def get_event_bus() -> EventBus:
    """The bus of this process (of this event loop, where there are several).

    One that was asked for before any loop ran, as modules do while they are imported, is the first loop's.
    """
    try:
        loop_id = id(asyncio.get_running_loop())
    except RuntimeError:
        loop_id = 0
    if 0 in _buses and loop_id not in _buses:
        _buses[loop_id] = _buses.pop(0)
    return _buses.setdefault(loop_id, EventBus())
