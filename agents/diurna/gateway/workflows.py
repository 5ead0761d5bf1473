"""Workflows over HTTP: start one, cancel it, decide what it waits for."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import Field

from diurna.documents import validated
from diurna.gateway.reads import looked_up
from diurna.gateway.requests import submitted
from diurna.gateway.routing import Body, Gateway, answer, command_id, has_key, takes
from diurna.problems import body_of
from diurna.responses import command_id_of
from diurna_schemas.ids import Id, Name, checked_id
from diurna_schemas.message import TIMEOUT_MS_MAX, Text
from diurna_schemas.shapes import AgentRequestEvent, AgentRequestType
from diurna_schemas.workflows import CancelWorkflow, DecideApproval

ORCHESTRATOR: Final = "orchestrator"
TIMEOUT_SECONDS: Final = 86_400.0


class WorkflowBody(Body):
    """Which workflow to run, on what. `timeout_seconds` bounds the whole of it."""

    workflow_type: Name
    input: dict[str, Any] = Field(default_factory=dict[str, Any])
    workflow_id: Id | None = None
    correlation_id: Id | None = None
    source_agent: Name = "api"
    timeout_seconds: Annotated[float, Field(gt=0, le=TIMEOUT_MS_MAX / 1000)] = TIMEOUT_SECONDS


class CancelBody(Body):
    """Who cancels, and why."""

    cancelled_by: Name = "unknown"
    reason: Text = ""


class DecisionBody(Body):
    """Who decides, and why. `workflow_id`, where it is known, saves looking it up."""

    decided_by: Name = "unknown"
    reason: Text = ""
    workflow_id: Id | None = None


def add_routes(router: APIRouter, gateway: Gateway) -> None:
    """POST /workflows, /workflows/{workflow_id}/cancel and /approvals/{approval_id}/approve|reject."""
    connection = gateway.connection

    @router.post("/workflows", status_code=202, tags=["workflows"], openapi_extra=takes(WorkflowBody))
    async def start(request: Request) -> Response:
        """Has the orchestrator run a workflow; `Location` of the request tells where its result will be."""
        given = validated(WorkflowBody, await body_of(request))
        workflow_id = given.workflow_id or (command_id(request) if has_key(request) else str(uuid.uuid4()))
        asked = validated(
            AgentRequestEvent,
            {
                "request_id": command_id_of("workflow.start", workflow_id),
                "source_agent": given.source_agent,
                "target_agent": ORCHESTRATOR,
                "request_type": AgentRequestType.EXECUTE_TASK,
                "payload": {
                    "workflow_type": given.workflow_type,
                    "workflow_id": workflow_id,
                    "input": given.input,
                },
                "timeout_seconds": given.timeout_seconds,
                "correlation_id": given.correlation_id or workflow_id,
            },
        )
        traceparent = request.headers.get("traceparent")
        return await submitted(gateway, asked, traceparent=traceparent, workflow_id=workflow_id)

    @router.post("/workflows/{workflow_id}/cancel", tags=["workflows"], openapi_extra=takes(CancelBody))
    async def cancel(request: Request, workflow_id: str) -> Response:
        """Stops a workflow."""
        given = validated(CancelBody, await body_of(request))
        command = CancelWorkflow(
            command_id=command_id(request),
            workflow_id=checked_id("workflow_id", workflow_id),
            cancelled_by=given.cancelled_by,
            reason=given.reason,
        )
        position = (await connection.answer(command)).position
        return answer({"workflow_id": workflow_id, "position": str(position)})

    @router.post("/approvals/{approval_id}/approve", tags=["workflows"], openapi_extra=takes(DecisionBody))
    async def approve(request: Request, approval_id: str) -> Response:
        """Says yes to what a workflow waits for."""
        return await _decide(gateway, request, approval_id, is_approved=True)

    @router.post("/approvals/{approval_id}/reject", tags=["workflows"], openapi_extra=takes(DecisionBody))
    async def reject(request: Request, approval_id: str) -> Response:
        """Says no to what a workflow waits for."""
        return await _decide(gateway, request, approval_id, is_approved=False)


async def _decide(gateway: Gateway, request: Request, approval_id: str, *, is_approved: bool) -> Response:
    given = validated(DecisionBody, await body_of(request))
    checked_id("approval_id", approval_id)
    workflow_id = given.workflow_id
    if workflow_id is None:
        workflow_id = await looked_up("approval", approval_id, gateway.reads.workflow_of_approval)
    command = DecideApproval(
        command_id=command_id(request),
        workflow_id=workflow_id,
        approval_id=approval_id,
        is_approved=is_approved,
        decided_by=given.decided_by,
        reason=given.reason,
    )
    position = (await gateway.connection.answer(command)).position
    return answer(
        {
            "approval_id": approval_id,
            "workflow_id": workflow_id,
            "is_approved": is_approved,
            "position": str(position),
        }
    )
