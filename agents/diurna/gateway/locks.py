"""Locks over HTTP: ask for one, renew it, give it back, take it away.

Whoever waits is queued and answered at once: `Location` tells where to look, and a grant from the queue must be claimed
by a renewal within three seconds.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from diurna.commands import Answer
from diurna.documents import json_text, validated
from diurna.gateway.reads import KnownLock, looked_up
from diurna.gateway.routing import Body, Gateway, also, answer, command_id, takes, takes_in_query
from diurna.metrics import LOCK_ACQUISITIONS, LOCK_CONTENTIONS
from diurna.problems import body_of
from diurna_schemas.envelope import iso
from diurna_schemas.errors import InvalidInput, ResourceLockError, Unreadable
from diurna_schemas.ids import Id, Name, checked_id
from diurna_schemas.locks import (
    LEASE_MS_MAX,
    LEASE_MS_MIN,
    WAIT_MS_MAX,
    AcquireLock,
    ForceReleaseLock,
    LockCommandRepeated,
    LockDenied,
    LockForceReleased,
    LockQueued,
    LockRenewed,
    LockWaitCancelled,
    ReleaseLock,
    RenewLock,
    ResourceLocked,
    ResourceUnlocked,
)
from diurna_schemas.message import Text

Timeout = Annotated[float, Field(strict=True, ge=LEASE_MS_MIN / 1000, le=LEASE_MS_MAX / 1000)]


class AcquireBody(Body):
    """Who wants which lock, for how many seconds, and how many seconds it waits for its turn."""

    resource_id: Id
    agent_id: Name
    timeout: Timeout = 300
    wait_timeout: Annotated[float, Field(strict=True, ge=0, le=WAIT_MS_MAX / 1000)] = 0
    reason: Text = ""
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])


class RenewBody(Body):
    """For how long from now, else as long as it was asked for. `resource_id` and `agent_id` save looking them up."""

    timeout: Timeout | None = None
    resource_id: Id | None = None
    agent_id: Name | None = None


class ReleaseBody(Body):
    """Whose the lock is, where that should be checked. `resource_id` and `agent_id` save looking them up."""

    resource_id: Id | None = None
    agent_id: Name | None = None


class ForceReleaseBody(Body):
    """Who takes the lock away and why; for `grace` seconds nobody gets it, so that the old holder can stop."""

    resource_id: Id
    admin_agent_id: Name
    reason: Annotated[str, Field(min_length=1, max_length=8_000)]
    grace: Annotated[float, Field(strict=True, ge=0, le=LEASE_MS_MAX / 1000)] = 0


def add_routes(router: APIRouter, gateway: Gateway) -> None:
    """POST /locks, /locks/force-release and /locks/{lock_id}/renew, DELETE /locks/{lock_id}."""
    connection = gateway.connection

    @router.post("/locks", tags=["locks"], responses=also(202, "Queued"), openapi_extra=takes(AcquireBody))
    async def acquire(request: Request) -> Response:
        """Asks for a lock: 200 granted, 202 queued, 409 locked by another.

        The same `Idempotency-Key` of the same agent again writes nothing and answers where that lock stands now.
        """
        given = validated(AcquireBody, await body_of(request))
        lock_id = command_id(request, given.resource_id, given.agent_id)
        command = validated(
            AcquireLock,
            {
                "command_id": lock_id,
                "lock_id": lock_id,
                "resource_id": given.resource_id,
                "agent_id": given.agent_id,
                "lease_ms": round(given.timeout * 1000),
                "wait_ms": round(given.wait_timeout * 1000),
                "reason": given.reason,
                "metadata": json_text("metadata", given.metadata),
            },
        )
        found = await connection.answer(command, traceparent=request.headers.get("traceparent"))
        if not found.is_repeated:
            _count(command, found)
        return _standing(command, found)

    @router.post("/locks/force-release", tags=["locks"], openapi_extra=takes(ForceReleaseBody))
    async def force_release(request: Request) -> Response:
        """Takes a lock away from whoever holds it. 409 where nobody does."""
        given = validated(ForceReleaseBody, await body_of(request))
        command = ForceReleaseLock(
            command_id=command_id(request, given.resource_id),
            resource_id=given.resource_id,
            released_by=given.admin_agent_id,
            reason=given.reason,
            grace_ms=round(given.grace * 1000),
        )
        found = await connection.answer(command)
        event = found.event
        if not isinstance(event, LockForceReleased):
            raise Unreadable(f"{found.position} does not answer a forced release: it is a {type(event).__name__}")
        return answer(
            {
                "resource_id": event.resource_id,
                "lock_id": event.lock_id,
                "agent_id": event.agent_id,
                "released_by": event.released_by,
                "held_seconds": event.held_ms / 1000,
                "free_at": iso(max(event.not_before_ms, event.at_ms)),
                "position": str(found.position),
            }
        )

    @router.post("/locks/{lock_id}/renew", tags=["locks"], openapi_extra=takes(RenewBody))
    async def renew(request: Request, lock_id: str) -> Response:
        """Holds a lock on, or claims a grant from the queue. 409 where it is not held any more."""
        given = validated(RenewBody, await body_of(request))
        known = await _known(gateway, lock_id, given.resource_id, given.agent_id)
        command = RenewLock(
            command_id=command_id(request),
            resource_id=known.resource_id,
            lock_id=lock_id,
            agent_id=known.agent_id,
            lease_ms=None if given.timeout is None else round(given.timeout * 1000),
        )
        found = await connection.answer(command)
        event = found.event
        if not isinstance(event, LockRenewed):
            raise Unreadable(f"{found.position} does not answer a renewal: it is a {type(event).__name__}")
        deadline_ms, token = event.deadline_ms, event.fencing_token
        return answer(_granted(command, lock_id, deadline_ms, token, is_provisional=False) | _at(found))

    @router.delete("/locks/{lock_id}", tags=["locks"], openapi_extra=takes_in_query(ReleaseBody))
    async def release(request: Request, lock_id: str) -> Response:
        """Gives a lock back, or a place in the queue. 409 where it is not the agent's, or over."""
        given = validated(ReleaseBody, {**dict(request.query_params), **await body_of(request)})
        known = await _known(gateway, lock_id, given.resource_id, given.agent_id)
        command = ReleaseLock(
            command_id=command_id(request), resource_id=known.resource_id, lock_id=lock_id, agent_id=known.agent_id
        )
        found = await connection.answer(command)
        match found.event:
            case ResourceUnlocked():
                told: dict[str, Any] = {"status": "released", "held_seconds": found.event.held_ms / 1000}
            case LockWaitCancelled():
                told = {"status": "wait_cancelled", "waited_seconds": found.event.waited_ms / 1000}
            case _:
                raise Unreadable(f"{found.position} does not answer a release")
        return answer({"lock_id": lock_id, **known._asdict(), **told, **_at(found)})


async def _known(gateway: Gateway, lock_id: str, resource_id: str | None, agent_id: str | None) -> KnownLock:
    """Which resource a lock is on, and in whose name it is spoken. Raises `NotFound`."""
    checked_id("lock_id", lock_id)
    if resource_id is not None and agent_id is not None:
        return KnownLock(resource_id, agent_id)
    found = await looked_up("lock", lock_id, gateway.reads.lock)
    if resource_id not in {None, found.resource_id}:
        raise InvalidInput("resource_id", resource_id, f"lock {lock_id} is on {found.resource_id}")
    return KnownLock(found.resource_id, agent_id or found.agent_id)


def _standing(command: AcquireLock, found: Answer) -> Response:
    """Where a lock stands: by the first answer, or by what the log said when it was asked again.

    Raises `ResourceLockError` where it was denied, or is over.
    """
    event, repetition = found.event, found.repetition
    if isinstance(event, LockDenied):
        raise ResourceLockError(command.resource_id, event.error, holder=event.holder_agent_id, code=event.code)
    position = event.position if isinstance(event, LockQueued) else None
    if isinstance(repetition, LockCommandRepeated):
        position = repetition.position
        match repetition.standing:
            case "gone":
                words = f"the lock {command.lock_id} on {command.resource_id} is over"
                raise ResourceLockError(command.resource_id, words, code="lock_over")
            case "held":
                held = _granted(
                    command,
                    command.lock_id,
                    repetition.deadline_ms or 0,
                    repetition.fencing_token or 0,
                    is_provisional=repetition.is_provisional,
                )
                return answer(held | _at(found))
            case "queued":
                pass
    match event:
        case ResourceLocked():
            held = _granted(command, event.lock_id, event.deadline_ms, event.fencing_token, is_provisional=False)
            return answer(held | _at(found))
        case LockQueued():
            queued = {
                "lock_id": event.lock_id,
                "resource_id": event.resource_id,
                "agent_id": event.agent_id,
                "status": "queued",
                "queue_position": position,
                "locked_by": event.holder_agent_id,
                "waits_until": iso(event.deadline_ms),
            }
            return answer(queued | _at(found), 202, {"Location": f"/locks/{event.lock_id}"})
        case _:
            raise Unreadable(f"{found.position} does not answer a wish for a lock: it is a {type(event).__name__}")


def _granted(
    command: AcquireLock | RenewLock, lock_id: str, deadline_ms: int, token: int, *, is_provisional: bool
) -> dict[str, Any]:
    return {
        "lock_id": lock_id,
        "resource_id": command.resource_id,
        "agent_id": command.agent_id,
        "status": "granted",
        "fencing_token": token,
        "expires_at": iso(deadline_ms),
        "is_provisional": is_provisional,
    }


def _at(found: Answer) -> dict[str, str]:
    return {"position": str(found.position)}


def _count(command: AcquireLock, found: Answer) -> None:
    """Counts what can be counted here: how long whoever is queued waits, only the log knows."""
    resource_type = command.resource_id.partition(":")[0]
    match found.event:
        case ResourceLocked():
            LOCK_ACQUISITIONS.labels(resource_type, command.agent_id, "success").inc()
        case LockDenied():
            LOCK_ACQUISITIONS.labels(resource_type, command.agent_id, "denied").inc()
            LOCK_CONTENTIONS.labels(resource_type).inc()
        case _:
            LOCK_CONTENTIONS.labels(resource_type).inc()
