"""Requests and answers: from the shapes people write to the records of the log, and back."""

from __future__ import annotations

import hashlib
from typing import Final

from diurna.documents import json_object, json_text, json_value, validated
from diurna.seen import Seen
from diurna_schemas import agents
from diurna_schemas.errors import Unreadable
from diurna_schemas.ids import AgentId
from diurna_schemas.shapes import AgentRequestEvent, AgentResponseEvent, AgentResponseStatus
from diurna_streams import tracing

_ID_BYTES: Final = 16


def command_id_of(*words: str) -> str:
    """An id that follows from these words: who says the same twice says it once."""
    return hashlib.blake2b("\n".join(words).encode(), digest_size=_ID_BYTES).hexdigest()


def carried_by(request: agents.AgentRequest) -> str | None:
    """The place in a trace at which a request was asked, where its metadata says one."""
    if tracing.TRACEPARENT not in request.metadata:
        return None
    found = json_object(request.metadata).get(tracing.TRACEPARENT)
    return found if isinstance(found, str) else None


def submission(request: AgentRequestEvent, target: AgentId) -> agents.SubmitRequest:
    """The command that submits a request to an agent. The same request twice is one command.

    Raises `InvalidInput` naming the field, `TooLarge` where a document exceeds 256 KiB.
    """
    attempt_seconds = request.attempt_timeout_seconds
    record = validated(
        agents.AgentRequest,
        {
            "request_id": request.request_id,
            "source_agent": request.source_agent,
            "target_agent": target,
            "request_type": str(request.request_type),
            "payload": json_text("payload", request.payload),
            "priority": str(request.priority),
            "timeout_ms": max(1, round(request.timeout_seconds * 1000)),
            "attempt_timeout_ms": None if attempt_seconds is None else max(1, round(attempt_seconds * 1000)),
            "attempts_max": request.attempts_max,
            "correlation_id": request.correlation_id or request.request_id,
            "metadata": json_text("metadata", tracing.carried(request.metadata)),
            "created_at_ms": round(request.created_at.timestamp() * 1000),
        },
    )
    return agents.SubmitRequest(
        command_id=command_id_of("request.submit", target, record.request_id), agent_id=target, request=record
    )


def request_of(record: agents.AgentRequest) -> AgentRequestEvent:
    """The request as its handler gets it."""
    return validated(
        AgentRequestEvent,
        {
            "request_id": record.request_id,
            "source_agent": record.source_agent,
            "target_agent": record.target_agent,
            "request_type": record.request_type,
            "payload": json_object(record.payload),
            "priority": record.priority,
            "timeout_seconds": record.timeout_ms / 1000,
            "attempt_timeout_seconds": None if record.attempt_timeout_ms is None else record.attempt_timeout_ms / 1000,
            "attempts_max": record.attempts_max,
            "correlation_id": record.correlation_id,
            "metadata": json_object(record.metadata),
            "created_at": record.created_at_ms / 1000,
        },
    )


def response_of(seen: Seen, *, source_agent: str) -> AgentResponseEvent:
    """The answer that an event ending a request means to `source_agent`, who asked."""
    event = seen.decoded()
    match event:
        case agents.RequestCompleted():
            return _response(
                seen,
                event,
                source_agent,
                event.status,
                result=json_value(event.result),
                error=event.error,
                metadata={
                    **json_object(event.metadata),
                    "instance_id": event.instance_id,
                    "attempt": event.attempt,
                },
                processing_time_ms=event.processing_time_ms,
            )
        case agents.RequestRejected():
            return _response(seen, event, source_agent, "rejected", error=event.error, metadata={"code": event.code})
        case agents.RequestTimedOut():
            metadata: dict[str, object] = {"code": "timed_out", "attempts": event.attempts}
            return _response(seen, event, source_agent, "timeout", error=event.error, metadata=metadata)
        case agents.RequestCancelled():
            reason = f": {event.reason}" if event.reason else ""
            error = f"cancelled by {event.cancelled_by}{reason}"
            return _response(seen, event, source_agent, "error", error=error, metadata={"code": "cancelled"})
        case agents.RequestDeadLettered():
            metadata = {"code": "dead_lettered", "attempts": event.attempts}
            return _response(seen, event, source_agent, "error", error=event.error, metadata=metadata)
        case _:
            raise Unreadable(f"{seen.position} ends no request: it is a {type(event).__name__}")


def _response(
    seen: Seen,
    event: agents.TerminalEvent,
    source_agent: str,
    status: str,
    *,
    result: object = None,
    error: str | None = None,
    metadata: dict[str, object] | None = None,
    processing_time_ms: float = 0,
) -> AgentResponseEvent:
    return validated(
        AgentResponseEvent,
        {
            "response_id": seen.id,
            "request_id": seen.subject,
            "source_agent": event.agent_id,
            "target_agent": source_agent,
            "status": AgentResponseStatus(status),
            "result": result,
            "error": error,
            "metadata": metadata or {},
            "created_at": event.at_ms / 1000,
            "processing_time_ms": processing_time_ms,
            "position": str(seen.position),
        },
    )
