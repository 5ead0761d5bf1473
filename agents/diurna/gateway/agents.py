"""Agents that speak HTTP: register, show that they live, say how they are, leave."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from diurna.agent import capability_record
from diurna.documents import json_text, validated
from diurna.gateway.reads import looked_up
from diurna.gateway.routing import Body, Gateway, answer, command_id, takes, takes_in_query
from diurna.problems import body_of
from diurna_schemas.agents import AgentStatus, ChangeStatus, DeregisterAgent, Heartbeat, RegisterAgent, SettableStatus
from diurna_schemas.ids import Id, checked_name
from diurna_schemas.message import Text
from diurna_schemas.shapes import AgentRegistration


class HeartbeatBody(Body):
    """A sign of life."""

    instance_id: Id | None = None
    status: AgentStatus = "active"
    in_flight: Annotated[int, Field(strict=True)] = 0


class StatusBody(Body):
    """How an instance is; without `instance_id`, all of them."""

    status: SettableStatus
    instance_id: Id | None = None
    reason: Text = ""


class DeregistrationBody(Body):
    """Which instance leaves; without `instance_id`, all of them."""

    instance_id: Id | None = None
    reason: Text = ""


def add_routes(router: APIRouter, gateway: Gateway) -> None:
    """POST /register, and what registered agents say of themselves."""
    connection = gateway.connection

    @router.post("/register", tags=["agents"], openapi_extra=takes(AgentRegistration))
    async def register(request: Request) -> Response:
        """Makes an agent known. Without `instance_id`, the agent has this one instance, named as itself."""
        given = validated(AgentRegistration, await body_of(request))
        instance_id = given.instance_id or given.agent_id
        command = validated(
            RegisterAgent,
            {
                "command_id": command_id(request, given.agent_id, instance_id),
                "agent_id": given.agent_id,
                "instance_id": instance_id,
                "agent_name": given.agent_name,
                "base_url": given.base_url,
                "capabilities": [capability_record(one) for one in given.capabilities],
                "concurrency": given.concurrency,
                "status": given.status,
                "metadata": json_text("metadata", given.metadata),
            },
        )
        position = (await connection.answer(command)).position
        return answer(
            {
                "agent_id": given.agent_id,
                "instance_id": instance_id,
                "status": given.status,
                "position": str(position),
            }
        )

    @router.delete("/agents/{agent_id}", tags=["agents"], openapi_extra=takes_in_query(DeregistrationBody))
    async def deregister(request: Request, agent_id: str) -> Response:
        """Takes an agent out, or one `instance_id` of it (in the query or the body)."""
        body = {**dict(request.query_params), **await body_of(request)}
        given = validated(DeregistrationBody, body)
        command = DeregisterAgent(
            command_id=command_id(request),
            agent_id=checked_name("agent_id", agent_id),
            instance_id=given.instance_id,
            reason=given.reason,
        )
        position = (await connection.answer(command)).position
        return answer({"agent_id": agent_id, "instance_id": given.instance_id, "position": str(position)})

    @router.post("/agents/{agent_id}/heartbeat", tags=["agents"], openapi_extra=takes(HeartbeatBody))
    async def heartbeat(request: Request, agent_id: str) -> Response:
        """Shows that an agent lives. After 60 seconds without one it is stale; the next one brings it back."""
        given = validated(HeartbeatBody, await body_of(request))
        checked_name("agent_id", agent_id)
        await looked_up("agent", agent_id, gateway.reads.has_agent)
        instance_id = given.instance_id or agent_id
        beat = validated(
            Heartbeat,
            {
                "agent_id": agent_id,
                "instance_id": instance_id,
                "in_flight": given.in_flight,
                "status": given.status,
                "sent_at_ms": connection.clock_ms(),
            },
        )
        position = await connection.sender.heartbeat(beat)
        return answer({"agent_id": agent_id, "instance_id": instance_id, "position": str(position)})

    @router.patch("/agents/{agent_id}/status", tags=["agents"], openapi_extra=takes(StatusBody))
    async def change_status(request: Request, agent_id: str) -> Response:
        """Says how an agent is: active, busy, idle or offline."""
        given = validated(StatusBody, await body_of(request))
        command = ChangeStatus(
            command_id=command_id(request),
            agent_id=checked_name("agent_id", agent_id),
            instance_id=given.instance_id,
            status=given.status,
            reason=given.reason,
        )
        position = (await connection.answer(command)).position
        return answer({"agent_id": agent_id, "status": given.status, "position": str(position)})
