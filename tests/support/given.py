"""Given, when, then for deciders: a partition's state, commands put to it one after another, and what came of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

from diurna_schemas.agents import (
    AgentCommandRefused,
    AgentRequest,
    CancelRequest,
    ChangeStatus,
    CompleteRequest,
    DeregisterAgent,
    MarkStale,
    RegisterAgent,
    SubmitRequest,
    TickAgents,
)
from diurna_schemas.message import Command, Event, Heading
from diurna_streams.deciders.rules import Rules

START_MS = 1_790_000_000_000
_numbers = itertools.count(1)


@dataclass
class Partition:
    """One partition: the log's time, the offset of the next command, the state, and all that was decided."""

    rules: Rules[Any, Any, Any]
    state: Any = None
    now_ms: int = START_MS
    offset: int = 0
    history: list[Event] = field(default_factory=list[Event])

    def __post_init__(self) -> None:
        if self.state is None:
            self.state = self.rules.initial

    def when(self, *commands: Command, after_ms: int = 0) -> list[Event]:
        """What the last of these commands leads to, `after_ms` after what was before."""
        self.now_ms += after_ms
        events: Sequence[Event] = ()
        for command in commands:
            decision = self.rules.decide(self.state, command, Heading(self.offset, self.now_ms))
            self.state, events = decision.state, decision.events
            self.history += events
            self.offset += 1
        return list(events)

    def restart(self) -> None:
        """Goes on from what a snapshot would hold."""
        self.state = self.rules.load(orjson.loads(orjson.dumps(self.rules.dump(self.state))))


def names(events: Sequence[Event]) -> list[str]:
    """The events' class names, in order."""
    return [type(event).__name__ for event in events]


Kind = TypeVar("Kind", bound=Event)


def only(kind: type[Kind], events: Sequence[Event]) -> Kind:
    """The one event of this class."""
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


def refusal(events: Sequence[Event]) -> tuple[str, str]:
    """Code and reason of a refusal, where there is nothing but one."""
    (event,) = events
    assert isinstance(event, AgentCommandRefused)
    return event.code, event.reason


def new_command_id() -> str:
    return f"command-{next(_numbers)}"


def register(
    agent_id: str = "worker", instance_id: str = "one", *, concurrency: int = 1, **fields: Any
) -> RegisterAgent:
    whole: dict[str, Any] = {"command_id": new_command_id(), "agent_name": agent_id.title(), **fields}
    return RegisterAgent(**whole, agent_id=agent_id, instance_id=instance_id, concurrency=concurrency)


def submit(request_id: str, agent_id: str = "worker", *, command_id: str | None = None, **fields: Any) -> SubmitRequest:
    whole: dict[str, Any] = {
        "source_agent": "asker",
        "target_agent": agent_id,
        "request_type": "work",
        "correlation_id": f"work-{request_id}",
        "created_at_ms": START_MS,
        **fields,
    }
    request = AgentRequest(**whole, request_id=request_id)
    return SubmitRequest(command_id=command_id or new_command_id(), agent_id=agent_id, request=request)


def complete(
    request_id: str, agent_id: str = "worker", instance_id: str = "one", *, attempt: int = 1, **fields: Any
) -> CompleteRequest:
    whole: dict[str, Any] = {"command_id": new_command_id(), "status": "success", "result": '{"done":true}', **fields}
    return CompleteRequest(**whole, agent_id=agent_id, request_id=request_id, instance_id=instance_id, attempt=attempt)


def cancel(request_id: str, agent_id: str = "worker") -> CancelRequest:
    return CancelRequest(
        command_id=new_command_id(), agent_id=agent_id, request_id=request_id, cancelled_by="asker", reason="enough"
    )


def change_status(status: str, agent_id: str = "worker", instance_id: str | None = "one") -> ChangeStatus:
    return ChangeStatus.model_validate(
        {"command_id": new_command_id(), "agent_id": agent_id, "instance_id": instance_id, "status": status}
    )


def deregister(agent_id: str = "worker", instance_id: str | None = "one") -> DeregisterAgent:
    return DeregisterAgent(command_id=new_command_id(), agent_id=agent_id, instance_id=instance_id, reason="leaving")


def mark_stale(agent_id: str = "worker", instance_id: str = "one", *, epoch: int) -> MarkStale:
    return MarkStale(
        command_id=new_command_id(),
        agent_id=agent_id,
        instance_id=instance_id,
        epoch=epoch,
        last_heartbeat_ms=START_MS,
    )


def tick(partition: int = 0) -> TickAgents:
    return TickAgents(command_id=new_command_id(), partition=partition)
