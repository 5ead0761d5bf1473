"""Events about requests to rows: one row a request and agent, from taking it in to the answer that counts.

A request is queued, dispatched, and at last completed, rejected, timed_out, cancelled or dead_lettered. Nothing but the
count of late answers changes a row once it is over. An instance that left or went stale gives its requests back without
an event of each: their rows say dispatched to it until the next event of the request.
"""

from __future__ import annotations

from typing import Final, get_args

from diurna_projections.records import LogRecord
from diurna_projections.rows import Request
from diurna_projections.tables import Folds, Need, Needs, Tables
from diurna_projections.text import indexed, json_text, plain
from diurna_schemas.agents import (
    AgentRequest,
    AttemptTimedOut,
    RequestCancelled,
    RequestCompleted,
    RequestDeadLettered,
    RequestDispatched,
    RequestRejected,
    RequestSubmitted,
    RequestTimedOut,
    ResponseLate,
)
from diurna_schemas.envelope import header

OPEN: Final = ("queued", "dispatched")
OVER: Final = ("completed", "rejected", "timed_out", "cancelled", "dead_lettered")
STATUSES: Final = (*OPEN, *OVER)

_Later = AttemptTimedOut | RequestCompleted | RequestTimedOut | RequestCancelled | RequestDeadLettered | ResponseLate


def _submitted(tables: Tables, event: RequestSubmitted, record: LogRecord) -> None:
    if tables.requests.get(event.request.request_id, event.agent_id) is None:
        new = _new(event.agent_id, event.request, event.command_id, event.at_ms, record)
        tables.requests.put(new._replace(deadline_ms=event.deadline_ms))


def _rejected(tables: Tables, event: RequestRejected, record: LogRecord) -> None:
    if tables.requests.get(event.request.request_id, event.agent_id) is None:
        new = _new(event.agent_id, event.request, event.command_id, event.at_ms, record)
        over = _over(
            new, event, record, status="rejected", response_status="rejected", error=event.error, code=event.code
        )
        tables.requests.put(over)


def _later(tables: Tables, event: _Later, record: LogRecord) -> None:
    row = tables.requests.get(event.request_id, event.agent_id)
    if row is not None and (row.status in OPEN or isinstance(event, ResponseLate)):
        tables.requests.put(_evolve(row, event, record))


def _dispatched(tables: Tables, event: RequestDispatched, record: LogRecord) -> None:
    row = tables.requests.get(event.request.request_id, event.agent_id)
    if row is not None and row.status in OPEN:
        tables.requests.put(
            row._replace(
                status="dispatched",
                instance_id=event.instance_id,
                attempts=event.attempt,
                dispatched_at_ms=event.at_ms,
                partition=record.partition,
                record_offset=record.offset,
            )
        )


def _evolve(row: Request, event: _Later, record: LogRecord) -> Request:
    match event:
        case AttemptTimedOut():
            return row._replace(
                status="queued", instance_id=None, partition=record.partition, record_offset=record.offset
            )
        case RequestCompleted():
            over = _over(row, event, record, status="completed", response_status=event.status, error=event.error)
            return over._replace(
                instance_id=event.instance_id,
                attempts=event.attempt,
                result=None if event.result is None else json_text(event.result),
                response_metadata=json_text(event.metadata),
                processing_time_ms=event.processing_time_ms,
            )
        case RequestTimedOut():
            return _ended(row, event, record, "timed_out", event.error)
        case RequestCancelled():
            reason = f": {event.reason}" if event.reason else ""
            error = f"cancelled by {event.cancelled_by}{reason}"
            return _ended(row, event, record, "cancelled", error)
        case RequestDeadLettered():
            return _ended(row, event, record, "dead_lettered", event.error)
        case ResponseLate():
            return row._replace(
                late_responses=row.late_responses + 1, partition=record.partition, record_offset=record.offset
            )


def _new(agent_id: str, request: AgentRequest, command_id: str, at_ms: int, record: LogRecord) -> Request:
    return Request(
        request_id=request.request_id,
        agent_id=agent_id,
        status="queued",
        source_agent=request.source_agent,
        target_agent=request.target_agent,
        request_type=request.request_type,
        payload=json_text(request.payload),
        priority=request.priority,
        timeout_ms=request.timeout_ms,
        attempts_max=request.attempts_max,
        correlation_id=request.correlation_id,
        metadata=json_text(request.metadata),
        command_id=command_id,
        created_at_ms=request.created_at_ms,
        submitted_at_ms=at_ms,
        deadline_ms=None,
        dispatched_at_ms=None,
        instance_id=None,
        attempts=0,
        finished_at_ms=None,
        response_id=None,
        response_status=None,
        result=None,
        error=None,
        error_code=None,
        response_metadata="{}",
        processing_time_ms=0,
        late_responses=0,
        partition=record.partition,
        record_offset=record.offset,
    )


def _ended(row: Request, event: _Later, record: LogRecord, status: str, error: str) -> Request:
    """Over without anybody's answer."""
    told = "timeout" if status == "timed_out" else "error"
    return _over(row, event, record, status=status, response_status=told, error=error, code=status)


def _over(
    row: Request,
    event: _Later | RequestRejected,
    record: LogRecord,
    *,
    status: str,
    response_status: str,
    error: str | None,
    code: str | None = None,
) -> Request:
    return row._replace(
        status=status,
        finished_at_ms=event.at_ms,
        response_id=indexed(header(record.headers, "ce_id") or event.command_id),
        response_status=response_status,
        error=None if error is None else plain(error),
        error_code=code,
        partition=record.partition,
        record_offset=record.offset,
    )


def _needs_named(event: RequestSubmitted | RequestRejected | RequestDispatched) -> tuple[Need, ...]:
    return (("requests", event.request.request_id, event.agent_id),)


def _needs(event: _Later) -> tuple[Need, ...]:
    return (("requests", event.request_id, event.agent_id),)


_LATER: Final[tuple[type[_Later], ...]] = get_args(_Later)
FOLDS: Final[Folds] = {
    RequestSubmitted: _submitted,
    RequestRejected: _rejected,
    RequestDispatched: _dispatched,
    **dict.fromkeys(_LATER, _later),
}
NEEDS: Final[Needs] = {
    **dict.fromkeys((RequestSubmitted, RequestRejected, RequestDispatched), _needs_named),
    **dict.fromkeys(_LATER, _needs),
}
