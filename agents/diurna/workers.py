"""The requests an instance works on: each in a task of its own, until it is done, too late, or no longer wanted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from diurna.bus import EventBus
from diurna.connection import Connection
from diurna.handlers import Handlers, Outcome, clean
from diurna.metrics import HANDLER_SECONDS, HANDLERS_ACTIVE
from diurna.redaction import PATTERNS
from diurna.responses import carried_by, command_id_of, request_of
from diurna.seen import Seen
from diurna_schemas import agents
from diurna_schemas.errors import DiurnaError, Unreadable
from diurna_schemas.ids import Position
from diurna_schemas.shapes import AgentRequestEvent
from diurna_streams import tracing

_log = structlog.get_logger(__name__)

ENDINGS: Final = frozenset(
    event.type_name
    for event in (
        agents.RequestCancelled,
        agents.RequestTimedOut,
        agents.RequestDeadLettered,
        agents.RequestCompleted,
        agents.AttemptTimedOut,
    )
)
DISPATCHED: Final = agents.RequestDispatched.type_name


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may ask for as its second argument."""

    bus: EventBus
    request: AgentRequestEvent
    agent_id: str
    instance_id: str
    attempt: int
    deadline_seconds: float
    masked: Callable[[Any], Any] = PATTERNS.value
    traceparent: str | None = None

    async def report(self, step: str, details: Mapping[str, Any] | None = None) -> Position:
        """Tells everyone how far the request is: a `task.progress` broadcast with the request's correlation id."""
        return await self.bus.emit(
            "task.progress",
            {"request_id": self.request.request_id, "step": step, "details": self.masked(dict(details or {}))},
            source=self.agent_id,
            correlation_id=self.request.correlation_id,
        )


@dataclass(eq=False, slots=True)
class _Running:
    attempt: int
    task: asyncio.Task[None]
    is_answering: bool = False


class Workers:
    """Runs the handlers of one instance. The log gives it no more at once than it announced."""

    def __init__(self, agent_id: str, instance_id: Callable[[], str], handlers: Handlers, bus: EventBus) -> None:
        self._agent_id = agent_id
        self._instance_id = instance_id
        self._handlers = handlers
        self._bus = bus
        self._running: dict[str, _Running] = {}
        self.handled = 0

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def take(self, connection: Connection, seen: Seen) -> None:
        """Looks at an event of the agent: begins what this instance was given, ends what is over."""
        if seen.type_name == DISPATCHED:
            self._begin(connection, seen)
        elif seen.type_name in ENDINGS:
            self._end(seen)

    async def finish(self, seconds: float) -> None:
        """Lets running work end; cancels what is not done in time."""
        tasks = [running.task for running in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, connection: Connection, seen: Seen) -> None:
        try:
            event = seen.decoded()
        except Unreadable as error:
            _log.error("a dispatched request cannot be read", position=str(seen.position), error=str(error))
            return
        if not isinstance(event, agents.RequestDispatched) or event.instance_id != self._instance_id():
            return
        request_id = event.request.request_id
        before = self._running.get(request_id)
        if before is not None:
            before.task.cancel()
        task = asyncio.create_task(
            self._traced(connection, event, seen.header(tracing.TRACEPARENT)), name=f"diurna-request-{request_id}"
        )
        running = self._running[request_id] = _Running(event.attempt, task)
        HANDLERS_ACTIVE.labels(self._agent_id).inc()
        task.add_done_callback(lambda _: self._ended(request_id, running))

    def _ended(self, request_id: str, running: _Running) -> None:
        HANDLERS_ACTIVE.labels(self._agent_id).dec()
        if self._running.get(request_id) is running:
            del self._running[request_id]

    def _end(self, seen: Seen) -> None:
        """Cancels a handler whose answer nobody would count any more."""
        running = self._running.get(seen.subject)
        if running is None or running.is_answering:
            return
        if seen.type_name == agents.AttemptTimedOut.type_name:
            event = seen.decoded()
            if not isinstance(event, agents.AttemptTimedOut) or event.attempt != running.attempt:
                return
        running.task.cancel()

    async def _traced(self, connection: Connection, event: agents.RequestDispatched, header: str | None) -> None:
        """Works on the request in a span of its own, and with its ids in every line that is logged meanwhile."""
        request = event.request
        parent = carried_by(request) or header
        with (
            structlog.contextvars.bound_contextvars(
                request_id=request.request_id, correlation_id=request.correlation_id
            ),
            tracing.span(
                f"handle {request.request_type}",
                kind="consumer",
                parent=parent,
                attributes={
                    "diurna.correlation_id": request.correlation_id,
                    "diurna.request_id": request.request_id,
                    "diurna.agent_id": self._agent_id,
                    "diurna.attempt": event.attempt,
                },
            ) as span,
        ):
            status = await self._work(connection, event, tracing.traceparent() or parent)
            if span is not None:
                span.set_attribute("diurna.status", status)

    async def _work(self, connection: Connection, event: agents.RequestDispatched, traceparent: str | None) -> str:
        """Runs the handler and writes its answer; returns how it ended."""
        request_id, attempt = event.request.request_id, event.attempt
        # A span of the log's own time: this machine's clock may differ from the broker's.
        seconds = max(event.deadline_ms - event.at_ms, 1) / 1000
        began = time.perf_counter()
        try:
            request = request_of(event.request)
            context = Context(
                self._bus,
                request,
                self._agent_id,
                event.instance_id,
                attempt,
                seconds,
                self._handlers.masked,
                traceparent,
            )
            async with asyncio.timeout(seconds):
                outcome = await self._handlers.handle(request, context)
        except TimeoutError:
            # The log ends the attempt by itself, and gives it to another instance or says that time is over.
            _log.warning("a handler was too slow", request_id=request_id, attempt=attempt, seconds=seconds)
            self._observe(event, "timeout", began)
            return "timeout"
        except asyncio.CancelledError:
            self._observe(event, "cancelled", began)
            raise
        except DiurnaError as error:
            outcome = Outcome("error", error=clean(f"{type(error).__name__}: {error}"))
        self._observe(event, outcome.status, began)
        if (running := self._running.get(request_id)) is not None and running.attempt == attempt:
            running.is_answering = True
        await self._answer(connection, event, outcome, time.perf_counter() - began, traceparent)
        return outcome.status

    async def _answer(
        self,
        connection: Connection,
        event: agents.RequestDispatched,
        outcome: Outcome,
        seconds: float,
        traceparent: str | None,
    ) -> None:
        request = event.request
        command = agents.CompleteRequest(
            command_id=command_id_of("request.complete", request.request_id, event.instance_id, str(event.attempt)),
            agent_id=self._agent_id,
            request_id=request.request_id,
            instance_id=event.instance_id,
            attempt=event.attempt,
            status=outcome.status,
            result=outcome.result,
            error=outcome.error,
            metadata=outcome.metadata,
            processing_time_ms=round(seconds * 1000),
        )
        try:
            await connection.send(command, correlation_id=request.correlation_id, traceparent=traceparent)
            self.handled += 1
        except DiurnaError as error:
            _log.error("an answer could not be written", request_id=request.request_id, error=str(error))

    def _observe(self, event: agents.RequestDispatched, status: str, began: float) -> None:
        HANDLER_SECONDS.labels(self._agent_id, event.request.request_type, status).observe(time.perf_counter() - began)
