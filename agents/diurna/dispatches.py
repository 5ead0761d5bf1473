"""Remembers which instance was given which request, for those who answer by hand."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import structlog

from diurna.connection import Connection
from diurna.documents import json_text
from diurna.responses import command_id_of
from diurna.seen import Seen
from diurna.tail import Listener
from diurna_schemas import topics
from diurna_schemas.agents import CompleteRequest, RequestDispatched
from diurna_schemas.errors import NotFound, Unreadable
from diurna_schemas.shapes import AgentResponseEvent
from diurna_streams.log import TopicPartition

_log = structlog.get_logger(__name__)

DISPATCHES_MAX: Final = 10_000
_TYPE: Final = RequestDispatched.type_name


class Dispatches:
    """The last dispatches seen, at most `DISPATCHES_MAX`; it listens once somebody subscribes to them."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[str, str, int]] = OrderedDict()
        self._listener: Listener | None = None
        self._connection: Connection | None = None

    def hear(self, connection: Connection, event_type: str) -> None:
        """Listens too, where somebody subscribes to dispatches."""
        if event_type == _TYPE and self._listener is None:
            places = [TopicPartition(topics.AGENTS.events, partition) for partition in range(topics.PARTITIONS)]
            self._connection = connection
            self._listener = connection.tail.listen(places, self._remember, types=[_TYPE])

    def stop(self) -> None:
        """Listens no longer."""
        if self._listener is not None and self._connection is not None:
            self._connection.tail.unlisten(self._listener)
            self._listener = None

    def completion(self, response: AgentResponseEvent) -> CompleteRequest:
        """The command that gives this answer. Raises `NotFound` where it is not known who was asked."""
        known = self._known.get(response.request_id)
        instance_id = response.metadata.get("instance_id")
        attempt = response.metadata.get("attempt")
        if isinstance(instance_id, str) and isinstance(attempt, int):
            known = (known[0] if known else response.source_agent, instance_id, attempt)
        if known is None:
            raise NotFound("dispatched request", response.request_id)
        agent_id, instance, number = known
        return CompleteRequest(
            command_id=command_id_of("request.complete", response.request_id, instance, str(number)),
            agent_id=agent_id,
            request_id=response.request_id,
            instance_id=instance,
            attempt=number,
            status=response.status.value,
            result=None if response.result is None else json_text("result", response.result),
            error=response.error,
            metadata=json_text("metadata", response.metadata),
            processing_time_ms=max(0, round(response.processing_time_ms)),
        )

    def _remember(self, seen: Seen) -> None:
        try:
            event = seen.decoded()
        except Unreadable as error:
            _log.warning("a dispatch cannot be read", position=str(seen.position), error=str(error))
            return
        if isinstance(event, RequestDispatched):
            self._known[event.request.request_id] = (event.agent_id, event.instance_id, event.attempt)
            while len(self._known) > DISPATCHES_MAX:
                self._known.popitem(last=False)
