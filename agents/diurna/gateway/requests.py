"""Requests over HTTP: ask and wait, ask and go, cancel."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from diurna.bus import EventBus
from diurna.documents import validated
from diurna.gateway.reads import looked_up
from diurna.gateway.routing import Body, Gateway, answer, command_id, has_key, location, takes
from diurna.problems import body_of
from diurna.requests import target_of
from diurna.responses import submission
from diurna_schemas.agents import CancelRequest, RequestRejected
from diurna_schemas.errors import AgentOffline, Conflict
from diurna_schemas.ids import Name, checked_id, checked_name
from diurna_schemas.message import Text
from diurna_schemas.shapes import AgentRequestEvent, AgentResponseEvent


class CancelBody(Body):
    """Who cancels, and why. `agent_id`, where it is known, saves looking it up."""

    cancelled_by: Name = "unknown"
    reason: Text = ""
    agent_id: Name | None = None


def add_routes(router: APIRouter, gateway: Gateway) -> None:
    """POST /agent-request, /requests and /requests/{request_id}/cancel."""
    connection = gateway.connection
    bus = EventBus(connection)

    @router.post(
        "/agent-request",
        tags=["requests"],
        response_model=AgentResponseEvent,
        openapi_extra=takes(AgentRequestEvent),
    )
    async def ask(request: Request) -> Response:
        """Asks an agent and waits for its answer, which is 200 whatever its status. Hanging up cancels the request."""
        asking = asyncio.create_task(
            bus.request_agent(await _request(request), traceparent=request.headers.get("traceparent"))
        )
        leaving = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                asking.cancel()
                return Response(status_code=499)
            return Response((await asking).model_dump_json(), media_type="application/json")
        finally:
            leaving.cancel()
            asking.cancel()

    @router.post("/requests", status_code=202, tags=["requests"], openapi_extra=takes(AgentRequestEvent))
    async def submit(request: Request) -> Response:
        """Asks an agent and goes; `Location` tells where the answer will be. 409 where nobody takes the request."""
        given = validated(AgentRequestEvent, await _request(request))
        return await submitted(gateway, given, traceparent=request.headers.get("traceparent"))

    @router.post("/requests/{request_id}/cancel", tags=["requests"], openapi_extra=takes(CancelBody))
    async def cancel(request: Request, request_id: str) -> Response:
        """Says that nobody wants the answer any more. 409 where the request is over."""
        given = validated(CancelBody, await body_of(request))
        checked_id("request_id", request_id)
        agent_id = given.agent_id
        if agent_id is None:
            agent_id = await looked_up("request", request_id, gateway.reads.agent_of_request)
        command = CancelRequest(
            command_id=command_id(request),
            agent_id=checked_name("agent_id", agent_id),
            request_id=request_id,
            cancelled_by=given.cancelled_by,
            reason=given.reason,
        )
        position = (await connection.answer(command)).position
        return answer({"request_id": request_id, "agent_id": agent_id, "position": str(position)})


async def submitted(
    gateway: Gateway, given: AgentRequestEvent, *, traceparent: str | None = None, **extra: str
) -> Response:
    """Submits a request and answers 202 with its id and position, and what else is given.

    Raises `AgentOffline` or `Conflict` where it was rejected.
    """
    target = await target_of(gateway.connection, given)
    found = await gateway.connection.answer(submission(given, target), traceparent=traceparent)
    if isinstance(found.event, RequestRejected):
        if found.event.code == AgentOffline.code:
            error = AgentOffline(target)
            error.args, error.reason = (found.event.error,), found.event.error
            raise error
        raise Conflict(found.event.error, code=found.event.code)
    content = {**extra, "request_id": given.request_id, "agent_id": target, "position": str(found.position)}
    return answer(content, 202, location("requests", given.request_id))


async def _request(request: Request) -> dict[str, Any]:
    """The body, with a request id that follows from the `Idempotency-Key` where the body has none."""
    body = await body_of(request)
    if has_key(request) and "request_id" not in body:
        body["request_id"] = command_id(request, str(body.get("target_agent")))
    return body


async def _disconnected(request: Request) -> None:
    """Returns when the caller has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
