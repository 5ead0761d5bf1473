"""Events over HTTP: tell everyone, and hear what happens as it happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Header, Request, Response
from pydantic import Field
from sse_starlette import EventSourceResponse, ServerSentEvent

from diurna.documents import json_text, validated
from diurna.gateway.routing import Body, FirstAnswers, Gateway, answer, command_id, takes
from diurna.problems import body_of
from diurna.stream import EventStream, Filter, described
from diurna_schemas.agents import Priority
from diurna_schemas.errors import Unavailable
from diurna_schemas.ids import Id, Name
from diurna_schemas.records import Broadcast

STREAMS_MAX: Final = 100
_PING_SECONDS: Final = 15
_STREAM: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/event-stream": {}}}}


class EventBody(Body):
    """What to tell everyone, or `target_agents`."""

    event_type: Name
    data: dict[str, Any] = Field(default_factory=dict[str, Any])
    source: Name = "unknown"
    correlation_id: Id | None = None
    target_agents: list[Name] = Field(default_factory=lambda: ["all"], min_length=1)
    priority: Priority = "normal"
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])


def add_routes(router: APIRouter, gateway: Gateway) -> None:
    """POST /events and GET /events/stream."""
    answers = FirstAnswers()
    connection = gateway.connection
    streams = 0

    @router.post("/events", status_code=201, tags=["events"], openapi_extra=takes(EventBody))
    async def publish(request: Request) -> Response:
        """Tells everyone. The same `Idempotency-Key` again gives the same `id` and, from this server, position."""
        given = validated(EventBody, await body_of(request))
        broadcast = validated(
            Broadcast,
            {
                "broadcast_id": command_id(request),
                "event_type": given.event_type,
                "source_agent": given.source,
                "target_agents": given.target_agents,
                "data": json_text("data", given.data),
                "priority": given.priority,
                "metadata": json_text("metadata", given.metadata),
                "correlation_id": given.correlation_id,
                "created_at_ms": connection.clock_ms(),
            },
        )

        async def published() -> dict[str, Any]:
            traceparent = request.headers.get("traceparent")
            position = await connection.sender.broadcast(broadcast, traceparent=traceparent)
            return {"id": broadcast.broadcast_id, "event_type": broadcast.event_type, "position": str(position)}

        return answer(await answers.to(request, published), 201)

    @router.get("/events/stream", tags=["events"], responses=_STREAM, response_class=EventSourceResponse)
    async def stream(  # noqa: PLR0917 - query parameters have names
        topic: str | None = None,
        type: str | None = None,  # noqa: A002 - CloudEvents' own word
        subject: str | None = None,
        correlation_id: str | None = None,
        after: str | None = None,
        unnamed: bool = False,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """The log as Server-Sent Events, live. Each `id` taken up as `Last-Event-ID` leaves out and repeats nothing.

        An id is a list of positions, `topic:partition:next offset`, joined by commas. A single position is accepted
        too, as the last event that was seen; `after` is the same for clients that cannot set the header. `unnamed`
        leaves the type to the data alone, for a browser's EventSource, which hears a name only where it knows it.
        """
        nonlocal streams
        if streams >= STREAMS_MAX:
            raise Unavailable(f"{STREAMS_MAX} streams are open already: try again later")
        found = EventStream(
            connection.log, connection.codec, Filter(topic, type, subject, correlation_id), learn=connection.learn
        )
        starting = await found.start(last_event_id or after, field="Last-Event-ID" if last_event_id else "after")

        async def sent() -> AsyncGenerator[ServerSentEvent]:
            nonlocal streams
            streams += 1
            cursor = ""
            try:
                async with aclosing(found.events(starting)) as events:
                    async for streamed in events:
                        if streamed.seen is not None:
                            data = orjson.dumps(described(streamed.seen, connection.codec)).decode()
                            name = None if unnamed else streamed.seen.type_name
                            yield ServerSentEvent(data, event=name, id=streamed.cursor)
                        elif streamed.cursor != cursor:
                            # A client that goes before anything came has a place to come back to.
                            yield ServerSentEvent(id=streamed.cursor, comment="nothing yet")
                        cursor = streamed.cursor
            finally:
                streams -= 1

        return EventSourceResponse(sent(), ping=_PING_SECONDS)
