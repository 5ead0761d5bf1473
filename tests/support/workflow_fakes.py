"""A bus that answers from a script and a log that believes every command, for tests of graphs alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from diurna_schemas.errors import Conflict, ResourceLockError
from diurna_schemas.message import Command, Event
from diurna_schemas.shapes import AgentRequestEvent, AgentResponseEvent, AgentResponseStatus
from diurna_schemas.workflows import CancelWorkflow, DecideApproval, RequestApproval, WorkflowStepChanged

HEAD = "a" * 40
APPROVED = {
    "approved": True,
    "summary": "2 files, +10 -1 lines: approved with no remarks.",
    "head": HEAD,
    "observations": {"size": {"lines_to_read": 11}},
    "findings": [],
}
PASSED = {"passed": True, "outcome": "passed", "tests": 7, "failures": 0, "errors": 0, "skipped": 1}
DEPLOYED = {"deployment_status": "deployed", "release": "r2", "previous": "r1", "current": "/srv/current"}
DOCUMENTED = {"files": [{"path": "index.md"}], "files_total": 1, "head": HEAD}
MERGED = {"published": True, "index": "/srv/docs/index.md", "pages_total": 3}
GOOD_ANSWERS: dict[str, Any] = {
    "review_code": APPROVED,
    "run_pipeline": PASSED,
    "deploy_service": DEPLOYED,
    "generate_docs": DOCUMENTED,
    "merge_docs": MERGED,
}
INPUT = {"repo": "/work/repo", "base": "main", "head": "feature", "deploy_to": "/srv/app"}

Answer = dict[str, Any] | Exception | Callable[[AgentRequestEvent], Any]


@dataclass
class ScriptedBus:
    """Answers each request type as told; a list of answers is used up one by one."""

    answers: dict[str, Any] = field(default_factory=lambda: dict(GOOD_ANSWERS))
    asked: list[AgentRequestEvent] = field(default_factory=list)
    listeners: dict[str, list[Callable[[Any], Any]]] = field(default_factory=dict)

    async def request_agent(self, request: AgentRequestEvent, timeout: float | None = None) -> AgentResponseEvent:
        self.asked.append(request)
        answer = self.answers[str(request.request_type)]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if callable(answer):
            answer = await answer(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, tuple):
            status, error, *code = answer
            metadata = {"code": code[0]} if code else {}
            return self._response(request, status=AgentResponseStatus(status), error=error, metadata=metadata)
        return self._response(request, status=AgentResponseStatus.SUCCESS, result=answer)

    def types(self) -> list[str]:
        return [str(request.request_type) for request in self.asked]

    def subscribe(self, event_type: str, callback: Callable[[Any], Any]) -> None:
        self.listeners.setdefault(event_type, []).append(callback)

    async def ready(self) -> None:
        """Everything is heard at once."""

    def unsubscribe(self, event_type: str, callback: Callable[[Any], Any]) -> None:
        self.listeners[event_type].remove(callback)

    def tell(self, event_type: str, **data: Any) -> None:
        for callback in list(self.listeners.get(event_type, [])):
            callback(SimpleNamespace(type=event_type, data=data))

    @staticmethod
    def _response(request: AgentRequestEvent, **fields: Any) -> AgentResponseEvent:
        return AgentResponseEvent(
            request_id=request.request_id,
            source_agent=request.target_agent,
            target_agent=request.source_agent,
            **fields,
        )


@dataclass
class BelievingLog:
    """Keeps every command; tells the bus what a decider would have decided about approvals and cancelling."""

    bus: ScriptedBus
    commands: list[Command] = field(default_factory=list)
    is_closed: bool = False
    approval_was_asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, command: Command) -> Event:
        if self.is_closed and not isinstance(command, CancelWorkflow):
            raise Conflict("the workflow is cancelled")
        self.commands.append(command)
        if isinstance(command, RequestApproval):
            self.approval_was_asked.set()
        if isinstance(command, DecideApproval):
            self.bus.tell("workflow.approval_decided", **command.model_dump())
        if isinstance(command, CancelWorkflow):
            self.is_closed = True
            self.bus.tell("workflow.cancelled", **command.model_dump())
        return WorkflowStepChanged(
            command_id=command.command_id, at_ms=0, workflow_id="w", step="x", agent_id=None, version=2
        )

    def names(self) -> list[str]:
        return [type(command).__name__ for command in self.commands]

    def of(self, kind: type[Any]) -> list[Any]:
        return [command for command in self.commands if isinstance(command, kind)]


class FakeLocks:
    """Grants every lock, unless told otherwise; remembers what was held when."""

    def __init__(self, bus: ScriptedBus, *, denied: str | None = None) -> None:
        self.bus = bus
        self.denied = denied
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.held_while: list[str] = []

    @asynccontextmanager
    async def acquire(self, resource_id: str, agent_id: str, **options: Any) -> AsyncIterator[SimpleNamespace]:
        self.asked.append((resource_id, agent_id, options))
        if self.denied is not None:
            raise ResourceLockError(resource_id, self.denied)
        before = len(self.bus.asked)
        yield SimpleNamespace(resource_id=resource_id, token=42)
        self.held_while += self.bus.types()[before:]
