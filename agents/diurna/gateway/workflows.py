"""Workflows over HTTP: start or create one, ask for approvals and decide them."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import Field

from diurna.documents import json_text, validated
from diurna.gateway.reads import looked_up
from diurna.gateway.requests import submitted
from diurna.gateway.routing import Body, Gateway, also, answer, command_id, has_key, location, takes
from diurna.problems import body_of
from diurna.responses import command_id_of
from diurna.workflow_commands import creation, part_of_a_path
from diurna_schemas.ids import Id, Name, checked_id
from diurna_schemas.message import TIMEOUT_MS_MAX, Text
from diurna_schemas.shapes import AgentRequestEvent, AgentRequestType
from diurna_schemas.workflows import EXPIRY_MS_MAX, DecideApproval, RequestApproval, Roles

ORCHESTRATOR: Final = "orchestrator"
TIMEOUT_SECONDS: Final = TIMEOUT_MS_MAX / 1000
"""Somebody may be asked in between, and take as long as a request may."""
_OF_CREATION: Final = frozenset({"initial_state", "participating_agents", "metadata"})


class WorkflowBody(Body):
    """Which workflow to run, on what. `timeout_seconds` bounds the whole of it."""

    workflow_type: Name
    input: dict[str, Any] = Field(default_factory=dict[str, Any])
    workflow_id: Id | None = None
    correlation_id: Id | None = None
    source_agent: Name = "api"
    timeout_seconds: Annotated[float, Field(strict=True, gt=0, le=TIMEOUT_MS_MAX / 1000)] = TIMEOUT_SECONDS


class CreationBody(Body):
    """A workflow whose state somebody else will change: nobody is asked to run it."""

    workflow_type: Name
    initial_state: dict[str, Any] = Field(default_factory=dict[str, Any])
    participating_agents: list[Name] = Field(default_factory=list[Name])
    workflow_id: Id | None = None
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])


class ApprovalBody(Body):
    """What is asked, who may answer (anybody, where no role is named), and until when (for ever)."""

    question: Text
    details: dict[str, Any] = Field(default_factory=dict[str, Any])
    roles: Roles = Field(default_factory=list[Name])
    expires_after_seconds: Annotated[float, Field(strict=True, gt=0, le=EXPIRY_MS_MAX / 1000)] | None = None
    approval_id: Id | None = None


class DecisionBody(Body):
    """Who decides, in which roles, and why. `workflow_id`, where it is known, saves looking it up."""

    decided_by: Name = "unknown"
    reason: Text = ""
    roles: Roles = Field(default_factory=list[Name])
    workflow_id: Id | None = None


def add_routes(router: APIRouter, gateway: Gateway) -> None:
    """POST /workflows, /workflows/{workflow_id}/approvals, /approvals/{approval_id}/approve|reject."""
    connection = gateway.connection

    @router.post(
        "/workflows",
        status_code=202,
        tags=["workflows"],
        responses=also(201, "Created"),
        openapi_extra=_either(WorkflowBody, CreationBody),
    )
    async def start(request: Request) -> Response:
        """Has the orchestrator run a workflow; `Location` of the request tells where its result will be.

        With `initial_state` instead of `input` (and `participating_agents`, `metadata`) the workflow is only created,
        at version 1, for whoever will change its state: 201.
        """
        body = await body_of(request)
        if _OF_CREATION & body.keys():
            return await _create(gateway, request, validated(CreationBody, body))
        given = validated(WorkflowBody, body)
        if given.workflow_id is not None:
            part_of_a_path("workflow_id", given.workflow_id)
        workflow_id = given.workflow_id or (command_id(request) if has_key(request) else str(uuid.uuid4()))
        return await driven(gateway, request, given, workflow_id)

    @router.post(
        "/workflows/{workflow_id}/approvals", status_code=201, tags=["workflows"], openapi_extra=takes(ApprovalBody)
    )
    async def ask_approval(request: Request, workflow_id: str) -> Response:
        """Asks for a decision: of anybody, or of somebody with one of the roles."""
        given = validated(ApprovalBody, await body_of(request))
        seconds = given.expires_after_seconds
        command = validated(
            RequestApproval,
            {
                "command_id": command_id(request),
                "workflow_id": workflow_id,
                "approval_id": given.approval_id or (command_id(request) if has_key(request) else str(uuid.uuid4())),
                "question": given.question,
                "details": json_text("details", given.details),
                "roles": given.roles,
                "expires_after_ms": None if seconds is None else max(1, round(seconds * 1000)),
            },
        )
        position = (await connection.answer(command)).position
        return answer({"workflow_id": workflow_id, "approval_id": command.approval_id, "position": str(position)}, 201)

    @router.post("/approvals/{approval_id}/approve", tags=["workflows"], openapi_extra=takes(DecisionBody))
    async def approve(request: Request, approval_id: str) -> Response:
        """Says yes to what a workflow waits for."""
        return await _decide(gateway, request, approval_id, is_approved=True)

    @router.post("/approvals/{approval_id}/reject", tags=["workflows"], openapi_extra=takes(DecisionBody))
    async def reject(request: Request, approval_id: str) -> Response:
        """Says no to what a workflow waits for."""
        return await _decide(gateway, request, approval_id, is_approved=False)


async def driven(gateway: Gateway, request: Request, given: WorkflowBody, workflow_id: str, **more: Any) -> Response:
    """Has the orchestrator run a workflow; `more` goes into what it is asked."""
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
                **more,
            },
            "timeout_seconds": given.timeout_seconds,
            "correlation_id": given.correlation_id or workflow_id,
        },
    )
    return await submitted(gateway, asked, traceparent=request.headers.get("traceparent"), workflow_id=workflow_id)


def _either(*models: type[Body]) -> dict[str, Any]:
    """One of several bodies, for OpenAPI."""
    described = [takes(model) for model in models]
    contents = [one["requestBody"]["content"]["application/json"] for one in described]
    contents[0]["schema"] = {"anyOf": [content["schema"] for content in contents]}
    return described[0]


async def _create(gateway: Gateway, request: Request, given: CreationBody) -> Response:
    workflow_id = given.workflow_id or (command_id(request) if has_key(request) else str(uuid.uuid4()))
    command = creation(
        command_id(request, workflow_id),
        workflow_id,
        given.workflow_type,
        initial_state=given.initial_state,
        participating_agents=given.participating_agents,
        metadata=given.metadata,
    )
    position = (await gateway.connection.answer(command)).position
    content = {"workflow_id": workflow_id, "version": 1, "position": str(position)}
    return answer(content, 201, {**location("workflows", workflow_id), "ETag": '"1"'})


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
        roles=given.roles,
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
