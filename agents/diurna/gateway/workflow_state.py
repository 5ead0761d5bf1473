"""The state of workflows over HTTP: update, step, checkpoint, restore, fork, pause, resume, cancel, end, forget."""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import Field

from diurna import workflow_commands as commands
from diurna.commands import Answer
from diurna.documents import json_object, validated
from diurna.gateway.reads import looked_up
from diurna.gateway.routing import Body, Gateway, also, answer, command_id, has_key, location, takes
from diurna.gateway.workflows import WorkflowBody, driven
from diurna.problems import body_of
from diurna.workflow_retention import age_ms, remove
from diurna_schemas.errors import InvalidInput
from diurna_schemas.ids import Id, Name, checked_id
from diurna_schemas.message import Command, Text
from diurna_schemas.workflows import (
    CancelWorkflow,
    CheckpointTaken,
    PauseWorkflow,
    ResumeWorkflow,
    Version,
    WorkflowRestored,
)

JsonObject = dict[str, Any]

MERGE_PATCH: Final = "application/merge-patch+json"
CLEANED_AT_ONCE_MAX: Final = 1_000
_ENTITY_TAG: Final = re.compile(r'\s*"?(\d{1,15})"?\s*')
_IF_MATCH: Final[JsonObject] = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "examples": ['"3"']},
    "description": "Only at this version, as `ETag` names it: 412 otherwise, with the current one.",
}


class StateBody(Body):
    """What changes. Objects are merged, null takes a name away, anything else replaces (RFC 7396)."""

    updates: JsonObject
    agent_id: Name | None = None
    expected_version: Version | None = None


class StepBody(Body):
    """Which step the workflow is at."""

    step: Name
    agent_id: Name | None = None
    expected_version: Version | None = None


class CheckpointBody(Body):
    """At which step the state is kept, and what is noted beside it."""

    step_name: Name
    agent_id: Name | None = None
    data: JsonObject = Field(default_factory=dict[str, Any])
    checkpoint_id: Id | None = None


class RestoreBody(Body):
    """Which checkpoint the workflow goes back to."""

    checkpoint_id: Id
    agent_id: Name | None = None
    expected_version: Version | None = None


class ForkBody(Body):
    """From which checkpoint a new workflow begins, and what is to be different in it (a JSON Merge Patch).

    Of a workflow that the orchestrator drives also the name of a step, or a checkpoint of its graph.
    """

    checkpoint_id: Id
    set: JsonObject = Field(default_factory=dict[str, Any])
    workflow_id: Id | None = None


class PauseBody(Body):
    """Who pauses, and why."""

    paused_by: Name = "unknown"
    reason: Text = ""


class ResumeBody(Body):
    """Who lets it go on, and why."""

    resumed_by: Name = "unknown"
    reason: Text = ""


class CancelBody(Body):
    """Who cancels, and why."""

    cancelled_by: Name = "unknown"
    reason: Text = ""


class CompletionBody(Body):
    """What it came to: any JSON value; and last updates of the state."""

    result: Any = None
    updates: JsonObject | None = None


class FailureBody(CompletionBody):
    """Why it cannot go on."""

    error: Text


class CleanupBody(Body):
    """For how many days a workflow must have been over."""

    days: Annotated[float, Field(strict=True)] = 30


def add_routes(router: APIRouter, gateway: Gateway) -> None:
    """All of them."""
    _add_changes(router, gateway)
    _add_checkpoints(router, gateway)
    _add_pauses_and_ends(router, gateway)
    _add_retention(router, gateway)


def _add_changes(router: APIRouter, gateway: Gateway) -> None:
    extra = _matching(takes(StateBody))
    extra["requestBody"]["content"][MERGE_PATCH] = {"schema": {"type": "object"}}

    @router.patch("/workflows/{workflow_id}/state", tags=["workflows"], openapi_extra=extra)
    async def update_state(request: Request, workflow_id: str) -> Response:
        """Merges updates into the state. A body of `application/merge-patch+json` is the updates themselves."""
        body = await body_of(request)
        is_patch = request.headers.get("content-type", "").partition(";")[0].strip().lower() == MERGE_PATCH
        given = validated(StateBody, {"updates": body} if is_patch else body)
        command = commands.state_update(
            command_id(request),
            checked_id("workflow_id", workflow_id),
            given.updates,
            given.agent_id,
            _expected(request, given.expected_version),
        )
        return await _changed(gateway, request, command)

    @router.post("/workflows/{workflow_id}/steps", tags=["workflows"], openapi_extra=_matching(takes(StepBody)))
    async def update_step(request: Request, workflow_id: str) -> Response:
        """Says which step the workflow is at."""
        given = validated(StepBody, await body_of(request))
        command = commands.step_update(
            command_id(request),
            checked_id("workflow_id", workflow_id),
            given.step,
            given.agent_id,
            _expected(request, given.expected_version),
        )
        return await _changed(gateway, request, command)


def _add_checkpoints(router: APIRouter, gateway: Gateway) -> None:
    @router.post(
        "/workflows/{workflow_id}/checkpoints",
        status_code=201,
        tags=["workflows"],
        openapi_extra=takes(CheckpointBody),
    )
    async def take_checkpoint(request: Request, workflow_id: str) -> Response:
        """Keeps the state as it is, under an id. The version stays."""
        given = validated(CheckpointBody, await body_of(request))
        command = commands.checkpoint(
            command_id(request),
            checked_id("workflow_id", workflow_id),
            given.checkpoint_id or _new_id(request),
            given.step_name,
            agent_id=given.agent_id,
            data=given.data,
        )
        found = await _decided(gateway, request, command)
        # The event's own id, not the command's: a repeated key is answered with what the first one made.
        checkpoint_id = found.event.checkpoint_id if isinstance(found.event, CheckpointTaken) else command.checkpoint_id
        return _told(found, workflow_id, 201, checkpoint_id=checkpoint_id)

    @router.post("/workflows/{workflow_id}/restore", tags=["workflows"], openapi_extra=_matching(takes(RestoreBody)))
    async def restore(request: Request, workflow_id: str) -> Response:
        """Takes the workflow back to a checkpoint: a new version. `data` is the checkpoint's."""
        given = validated(RestoreBody, await body_of(request))
        command = commands.restoration(
            command_id(request),
            checked_id("workflow_id", workflow_id),
            given.checkpoint_id,
            given.agent_id,
            _expected(request, given.expected_version),
        )
        found = await _decided(gateway, request, command)
        data = json_object(found.event.data) if isinstance(found.event, WorkflowRestored) else {}
        return _told(found, workflow_id, checkpoint_id=given.checkpoint_id, data=data)

    @router.post(
        "/workflows/{workflow_id}/fork",
        status_code=201,
        tags=["workflows"],
        responses=also(202, "Accepted"),
        openapi_extra=takes(ForkBody),
    )
    async def fork(request: Request, workflow_id: str) -> Response:
        """Begins a new workflow where a checkpoint was taken. The other one is left as it is, and may be over.

        202 where a graph drives it: the orchestrator goes on with a copy from before the step that `checkpoint_id`
        names, or from that checkpoint of the graph.
        """
        given = validated(ForkBody, await body_of(request))
        checked_id("workflow_id", workflow_id)
        forked_id = commands.part_of_a_path("workflow_id", given.workflow_id or _new_id(request))

        async def look(checkpoint_id: str) -> tuple[JsonObject, JsonObject] | None:
            return await gateway.reads.checkpoint(workflow_id, checkpoint_id)

        found = await look(given.checkpoint_id)
        if found is None and (workflow_type := await gateway.reads.driven_type(workflow_id)) is not None:
            fork_of = {"workflow_id": workflow_id, "checkpoint": given.checkpoint_id, "set": given.set}
            return await driven(gateway, request, WorkflowBody(workflow_type=workflow_type), forked_id, fork_of=fork_of)
        source, taken = await looked_up("checkpoint", given.checkpoint_id, look) if found is None else found
        command = commands.fork_of(command_id(request), forked_id, source, taken, given.set)
        decided = await _decided(gateway, request, command)
        origin = {"workflow_id": workflow_id, "checkpoint_id": given.checkpoint_id, "version": taken["version"]}
        return _told(decided, forked_id, 201, location("workflows", forked_id), forked_from=origin)


def _add_pauses_and_ends(router: APIRouter, gateway: Gateway) -> None:
    @router.post("/workflows/{workflow_id}/pause", tags=["workflows"], openapi_extra=takes(PauseBody))
    async def pause(request: Request, workflow_id: str) -> Response:
        """Nobody may work on it until it is resumed."""
        given = validated(PauseBody, await body_of(request))
        return await _changed(
            gateway,
            request,
            PauseWorkflow(
                command_id=command_id(request),
                workflow_id=checked_id("workflow_id", workflow_id),
                paused_by=given.paused_by,
                reason=given.reason,
            ),
        )

    @router.post("/workflows/{workflow_id}/resume", tags=["workflows"], openapi_extra=takes(ResumeBody))
    async def resume(request: Request, workflow_id: str) -> Response:
        """It goes on."""
        given = validated(ResumeBody, await body_of(request))
        return await _changed(
            gateway,
            request,
            ResumeWorkflow(
                command_id=command_id(request),
                workflow_id=checked_id("workflow_id", workflow_id),
                resumed_by=given.resumed_by,
                reason=given.reason,
            ),
        )

    @router.post("/workflows/{workflow_id}/cancel", tags=["workflows"], openapi_extra=takes(CancelBody))
    async def cancel(request: Request, workflow_id: str) -> Response:
        """Stops it."""
        given = validated(CancelBody, await body_of(request))
        return await _changed(
            gateway,
            request,
            CancelWorkflow(
                command_id=command_id(request),
                workflow_id=checked_id("workflow_id", workflow_id),
                cancelled_by=given.cancelled_by,
                reason=given.reason,
            ),
        )

    @router.post("/workflows/{workflow_id}/complete", tags=["workflows"], openapi_extra=takes(CompletionBody))
    async def complete(request: Request, workflow_id: str) -> Response:
        """It is done."""
        given = validated(CompletionBody, await body_of(request))
        checked_id("workflow_id", workflow_id)
        command = commands.ending(command_id(request), workflow_id, result=given.result, updates=given.updates)
        return await _changed(gateway, request, command)

    @router.post("/workflows/{workflow_id}/fail", tags=["workflows"], openapi_extra=takes(FailureBody))
    async def fail(request: Request, workflow_id: str) -> Response:
        """It cannot go on."""
        given = validated(FailureBody, await body_of(request))
        checked_id("workflow_id", workflow_id)
        command = commands.ending(
            command_id(request), workflow_id, error=given.error, result=given.result, updates=given.updates
        )
        return await _changed(gateway, request, command)


def _add_retention(router: APIRouter, gateway: Gateway) -> None:
    @router.post("/workflow-cleanup", tags=["workflows"], openapi_extra=takes(CleanupBody))
    async def clean_up(request: Request) -> Response:
        """Forgets workflows that have been over for so many days, at most 1000 a call. Their events stay."""
        given = validated(CleanupBody, await body_of(request))
        older_than_ms = age_ms(given.days)
        before_ms = gateway.connection.clock_ms() - older_than_ms
        found = await gateway.reads.ended_workflows(before_ms, CLEANED_AT_ONCE_MAX)
        removed = await remove(gateway.connection.answer, found, older_than_ms=older_than_ms)
        return answer({"removed": removed, "may_be_more": len(found) == CLEANED_AT_ONCE_MAX})


async def _decided(gateway: Gateway, request: Request, command: Command) -> Answer:
    return await gateway.connection.answer(command, traceparent=request.headers.get("traceparent"))


async def _changed(gateway: Gateway, request: Request, command: Command) -> Response:
    return _told(await _decided(gateway, request, command), command.key)


def _told(
    found: Answer, workflow_id: str, status: int = 200, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    version: int = getattr(found.event, "version", 0)
    content = {"workflow_id": workflow_id, "version": version, "position": str(found.position), **more}
    return answer(content, status, {"ETag": f'"{version}"', **(headers or {})})


def _expected(request: Request, in_body: int | None) -> int | None:
    """The version a change insists on: `If-Match`, or the body's own. Raises `InvalidInput` where they differ."""
    given = request.headers.get("if-match")
    if given is None or given.strip() == "*":
        return in_body
    found = _ENTITY_TAG.fullmatch(given)
    if found is None or int(found[1]) < 1:
        raise InvalidInput("If-Match", given, "one version is expected, as ETag names it")
    if in_body not in {None, int(found[1])}:
        raise InvalidInput("expected_version", in_body, f"If-Match says {given}")
    return int(found[1])


def _new_id(request: Request) -> str:
    """An id for what a request makes; the same `Idempotency-Key` gives the same."""
    return command_id(request) if has_key(request) else str(uuid.uuid4())


def _matching(extra: JsonObject) -> JsonObject:
    return {**extra, "parameters": [*extra["parameters"], _IF_MATCH]}
