"""Who wants to hear of which events: each subscriber with a queue of its own, so that none holds up another."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from diurna.connection import Connection
from diurna.event import Event
from diurna.metrics import EVENTS_DELIVERED, SUBSCRIBER_ERRORS
from diurna.seen import Seen
from diurna.tail import Listener
from diurna_schemas import topics
from diurna_schemas.catalogue import TYPE_NAMES
from diurna_schemas.errors import Unreadable
from diurna_schemas.ids import checked_name
from diurna_streams.log import TopicPartition

_log = structlog.get_logger(__name__)

QUEUE_EVENTS_MAX: Final = 50_000
"""A subscriber that falls further behind loses events; each loss is logged and counted."""

Subscriber = Callable[[Event], Awaitable[object] | object]


@dataclass(slots=True)
class Counts:
    """What has passed."""

    emitted: int = 0
    delivered: int = 0
    errors: int = 0
    dropped: int = 0
    by_type: dict[str, int] = field(default_factory=dict[str, int])


def places_of(event_type: str) -> frozenset[TopicPartition]:
    """The partitions on which events of a type may stand: a decided one's topic, and always the broadcasts."""
    places = {TopicPartition(topics.BROADCASTS, topics.partition_of(event_type))}
    decided = TYPE_NAMES.get(event_type)
    if decided is not None and decided.topic in topics.EVENT_TOPICS:
        places |= {TopicPartition(decided.topic, partition) for partition in range(topics.PARTITIONS)}
    return frozenset(places)


class Subscription:
    """One callback for one type of event, fed in order by a task of its own."""

    def __init__(self, event_type: str, callback: Subscriber, counts: Counts, agent_id: str | None) -> None:
        self.event_type = checked_name("event_type", event_type)
        self.callback = callback
        self._counts = counts
        self._agent_id = agent_id
        self._queue: asyncio.Queue[Seen] = asyncio.Queue(QUEUE_EVENTS_MAX)
        self._task: asyncio.Task[None] | None = None
        self._listener: Listener | None = None
        self._connection: Connection | None = None

    @property
    def name(self) -> str:
        return getattr(self.callback, "__qualname__", None) or repr(self.callback)

    async def start(self, connection: Connection) -> None:
        """Hears everything that is written from now on."""
        if self._listener is not None:
            return
        places = places_of(self.event_type)
        self._connection = connection
        self._listener = connection.tail.listen(places, self._put, types=[self.event_type])
        self._task = asyncio.create_task(self._run(), name=f"diurna-subscriber-{self.name}")
        await connection.tail.watch(places)

    async def stop(self) -> None:
        """Hears nothing any more."""
        if self._listener is not None and self._connection is not None:
            self._connection.tail.unlisten(self._listener)
            self._listener = None
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._task = None

    def _put(self, seen: Seen) -> None:
        try:
            self._queue.put_nowait(seen)
        except asyncio.QueueFull:
            self._counts.dropped += 1
            _log.error("a subscriber is too slow and loses an event", subscriber=self.name, position=str(seen.position))

    async def _run(self) -> None:
        while self._listener is not None:
            seen = await self._queue.get()
            try:
                event = Event.of(seen)
            except Unreadable as error:
                _log.warning("an event cannot be read", position=str(seen.position), error=str(error))
                continue
            if self._agent_id is not None and not {"all", self._agent_id} & set(event.target_agents):
                continue
            await self._deliver(event)

    async def _deliver(self, event: Event) -> None:
        try:
            answer: Any = self.callback(event)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            self._counts.errors += 1
            SUBSCRIBER_ERRORS.labels(event.type).inc()
            _log.exception("a subscriber failed", subscriber=self.name, event_type=event.type, position=event.position)
        else:
            self._counts.delivered += 1
            EVENTS_DELIVERED.labels(event.type).inc()
