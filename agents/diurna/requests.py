"""One request on its way: submitted, awaited, and cancelled when nobody waits any more."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Final

import structlog

from diurna.commands import REFUSED, REPEATED, TERMINAL, events_of, raise_refusal
from diurna.connection import Connection
from diurna.directory import chosen
from diurna.history import History
from diurna.metrics import REQUEST_SECONDS, REQUESTS_ACTIVE
from diurna.responses import command_id_of, response_of, submission
from diurna.seen import Seen
from diurna_schemas.agents import AgentCommandRefused, AgentCommandRepeated, CancelRequest, SubmitRequest
from diurna_schemas.errors import AgentOffline, DiurnaError, Unavailable, Unreadable
from diurna_schemas.ids import ANY_AGENT, AgentId
from diurna_schemas.message import Event
from diurna_schemas.shapes import AgentRequestEvent, AgentResponseEvent, AgentResponseStatus
from diurna_streams import tracing

_log = structlog.get_logger(__name__)

GRACE_SECONDS: Final = 5.0
"""The log itself says when a request's time is over; so much longer a client waits to hear it."""
_CANCEL_SECONDS: Final = 30.0
_REMEMBERED_MS: Final = 15 * 60_000
"""Deciders remember a request that is over for at most ten minutes of log time."""


class Requests:
    """The requests of one bus."""

    def __init__(self) -> None:
        self.sent = 0
        self.active = 0
        self.by_status: Counter[str] = Counter()
        self._cancelling: set[asyncio.Task[None]] = set()

    async def ask(
        self, connection: Connection, request: AgentRequestEvent, timeout: float | None, traceparent: str | None
    ) -> AgentResponseEvent:
        """Submits the request and waits for the event that ends it."""
        began = time.perf_counter()
        self.sent += 1
        self.active += 1
        REQUESTS_ACTIVE.inc()
        seconds = request.timeout_seconds + GRACE_SECONDS if timeout is None else timeout
        asked = _Asked(connection, request, traceparent)
        limit = asyncio.timeout(seconds)
        status = "error"
        try:
            async with limit:
                response = await asked.traced()
            status = response.status.value
            return response
        except TimeoutError:
            if not limit.expired():
                raise
            status = "timeout"
            error = f"no answer from {request.target_agent} within {seconds:g} seconds"
            return _own_answer(request, AgentResponseStatus.TIMEOUT, error, "no_answer", time.perf_counter() - began)
        except asyncio.CancelledError:
            status = "cancelled"
            if asked.command is not None:
                self._cancel(connection, asked.command)
            raise
        finally:
            self.active -= 1
            REQUESTS_ACTIVE.dec()
            self.by_status[status] += 1
            elapsed = time.perf_counter() - began
            REQUEST_SECONDS.labels(request.source_agent, request.target_agent, status).observe(elapsed)

    async def close(self) -> None:
        """Waits until the cancellations under way are written."""
        await asyncio.gather(*self._cancelling, return_exceptions=True)

    def _cancel(self, connection: Connection, command: SubmitRequest) -> None:
        request = command.request
        cancel = CancelRequest(
            command_id=command_id_of("request.cancel", request.request_id),
            agent_id=command.agent_id,
            request_id=request.request_id,
            cancelled_by=request.source_agent,
            reason="the caller no longer waits",
        )
        task = asyncio.create_task(_send_quietly(connection, cancel), name="diurna-cancel-request")
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)


class _Asked:
    """One request. `command` is there once it may have been written."""

    def __init__(self, connection: Connection, request: AgentRequestEvent, traceparent: str | None) -> None:
        self.command: SubmitRequest | None = None
        self._connection = connection
        self._request = request
        self._traceparent = traceparent

    async def traced(self) -> AgentResponseEvent:
        """The answer, in a span of its own where spans are made."""
        request = self._request
        with tracing.span(
            f"request {request.request_type}",
            kind="client",
            parent=self._traceparent or tracing.CURRENT,
            attributes={
                "diurna.correlation_id": request.correlation_id or request.request_id,
                "diurna.request_id": request.request_id,
                "diurna.source_agent": request.source_agent,
                "diurna.target_agent": request.target_agent,
            },
        ) as span:
            self._traceparent = tracing.traceparent() or self._traceparent
            response = await self.answer()
            if span is not None:
                span.set_attribute("diurna.status", response.status.value)
            return response

    async def answer(self) -> AgentResponseEvent:
        try:
            target = await target_of(self._connection, self._request)
        except AgentOffline as error:
            return _own_answer(self._request, AgentResponseStatus.REJECTED, error.reason, error.code, 0)
        command = submission(self._request, target)
        tail = self._connection.tail
        await tail.watch([events_of(command)])
        ending = tail.expect(TERMINAL, subject=command.subject)
        told = tail.expect(REFUSED | REPEATED, command_id=command.command_id, future=ending.future)
        try:
            self.command = command
            await self._connection.sender.send(command, traceparent=self._traceparent)
            seen = await ending.future
        finally:
            tail.forget(ending)
            tail.forget(told)
        if seen.type_name not in TERMINAL:
            seen = await self._first_ending(command, seen)
        return response_of(seen, source_agent=self._request.source_agent)

    async def _first_ending(self, command: SubmitRequest, told: Seen) -> Seen:
        """The end of a request that was submitted before: it may lie behind, or be yet to come."""
        event = told.decoded()
        history = History(self._connection.log, self._connection.codec, events_of(command))
        ending = self._connection.tail.expect(TERMINAL, subject=command.subject)
        try:
            match event:
                case AgentCommandRepeated():
                    start = event.first_offset
                case AgentCommandRefused(code="request_exists"):
                    start = await history.command_offset_at(event.at_ms - _REMEMBERED_MS)
                case _:
                    if isinstance(event, Event):
                        raise_refusal(command, event)
                    raise Unreadable(f"{told.position} does not answer a request, it is a {told.type_name}")
            found = await history.find(
                start, lambda seen: seen.subject == command.subject and seen.type_name in TERMINAL
            )
            return found or await ending.future
        finally:
            self._connection.tail.forget(ending)


def capability_of(request: AgentRequestEvent) -> str:
    """The capability a request to "any" needs: payload or metadata name it, else it is the request's type."""
    for place in (request.payload, request.metadata):
        named = place.get("capability")
        if isinstance(named, str) and named:
            return named
    return str(request.request_type)


async def target_of(connection: Connection, request: AgentRequestEvent) -> AgentId:
    """The agent a request goes to; "any" is the least loaded live one with the capability.

    Raises `AgentOffline` where nobody has it, `Unavailable` where nobody can say.
    """
    if request.target_agent != ANY_AGENT:
        return AgentId(request.target_agent)
    if connection.directory is None:
        raise Unavailable("the target 'any' needs the registry: set DIURNA_API_URL, or name an agent")
    capability = capability_of(request)
    found = chosen(await connection.directory.candidates(capability), excluded=request.source_agent)
    if found is None:
        raise AgentOffline(ANY_AGENT, f"no live agent has the capability {capability!r}")
    return AgentId(found)


async def _send_quietly(connection: Connection, cancel: CancelRequest) -> None:
    try:
        async with asyncio.timeout(_CANCEL_SECONDS):
            await connection.sender.send(cancel)
    except (DiurnaError, TimeoutError) as error:
        _log.warning("a cancelled request could not be cancelled", request_id=cancel.request_id, error=str(error))


def _own_answer(
    request: AgentRequestEvent, status: AgentResponseStatus, error: str, code: str, elapsed_seconds: float
) -> AgentResponseEvent:
    """An answer that nobody on the log gave."""
    return AgentResponseEvent(
        request_id=request.request_id,
        source_agent=request.target_agent,
        target_agent=request.source_agent,
        status=status,
        error=error,
        metadata={"code": code},
        processing_time_ms=elapsed_seconds * 1000,
    )
