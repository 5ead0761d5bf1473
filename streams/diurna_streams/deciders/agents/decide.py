"""The rules about agents and requests: what happens, given who is there and what waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypedDict, assert_never

from diurna_schemas.agents import (
    AgentCommandRefused,
    AgentCommandRepeated,
    AgentDeregistered,
    AgentRegistered,
    AgentRequest,
    AgentsCommand,
    AgentsEvent,
    AgentStatusChanged,
    AgentWentStale,
    AttemptTimedOut,
    CancelRequest,
    ChangeStatus,
    CompleteRequest,
    DeregisterAgent,
    MarkStale,
    RegisterAgent,
    RequestCancelled,
    RequestCompleted,
    RequestDeadLettered,
    RequestDispatched,
    RequestRejected,
    RequestSubmitted,
    RequestTimedOut,
    ResponseLate,
    SubmitRequest,
    TickAgents,
)
from diurna_schemas.message import Heading
from diurna_streams.deciders.agents.evolve import evolve
from diurna_streams.deciders.agents.state import AgentsState, Instance, Over, Pending
from diurna_streams.deciders.rules import Decision

QUEUE_DEPTH_MAX: Final = 10_000
"""Requests an agent may have waiting; one more is rejected."""
INSTANCES_MAX: Final = 1_000
SPARE_BYTES: Final = 500_000
"""What deadlines and dispatches may add to a command's own event, so that all of them fit into one batch.

The rest follows with the tick that comes at once. Without this bound a crowd of deadlines would decide more than can
be written, with this command and with every other: the partition would stand still for ever.
"""


def decide(state: AgentsState, command: AgentsCommand, heading: Heading) -> Decision[AgentsState, AgentsEvent]:
    """Time first, then the command; a command seen before is answered and changes nothing."""
    draft = _Draft(state, command.command_id, max(state.now_ms, heading.now_ms), heading.offset)
    draft.let_time_pass()
    first_offset = state.seen.get(command.command_id, draft.now_ms)
    if first_offset is not None and not command.is_tick:
        draft.emit(
            AgentCommandRepeated(
                command_id=command.command_id,
                at_ms=draft.now_ms,
                agent_id=command.key,
                command_type=command.type_name,
                about=command.subject,
                first_offset=first_offset,
            )
        )
        return draft.decision()
    match command:
        case SubmitRequest():
            draft.submit(command)
        case CompleteRequest():
            draft.complete(command)
        case CancelRequest():
            draft.cancel(command)
        case RegisterAgent():
            draft.register(command)
        case DeregisterAgent():
            draft.deregister(command)
        case ChangeStatus():
            draft.change_status(command)
        case MarkStale():
            draft.mark_stale(command)
        case TickAgents():
            pass
        case _:
            assert_never(command)
    return draft.decision()


class _Draft:
    """A decision in the making: each event is folded in as it is emitted, so that the next rule sees it."""

    def __init__(self, state: AgentsState, command_id: str, now_ms: int, offset: int) -> None:
        self.state = state
        self.now_ms = now_ms
        self._command_id = command_id
        self._offset = offset
        self._events: list[AgentsEvent] = []
        self._spare_bytes = SPARE_BYTES

    def decision(self) -> Decision[AgentsState, AgentsEvent]:
        return Decision(self.state, tuple(self._events))

    def emit(self, event: AgentsEvent) -> None:
        self._events.append(event)
        self.state = evolve(self.state, event, self._offset)

    def let_time_pass(self) -> None:
        """Everything that is due, in order of its time."""
        while (due := self.state.due.first) is not None and due.at_ms <= self.now_ms:
            pending = self.state.requests[due.request_id]  # the heap is pruned: its first item is live
            if not self._spend(self._size(pending.request)):
                break
            if due.attempt == 0:
                self._time_out(pending)
            else:
                self._time_out_attempt(pending)
        for agent_id in sorted(self.state.ready):
            self._dispatch(agent_id)

    def submit(self, command: SubmitRequest) -> None:
        request = command.request
        agent = self.state.agents.get(command.agent_id)
        if request.target_agent != command.agent_id:
            self._refuse(command, "wrong_target", f"the request is for {request.target_agent}, not {command.agent_id}")
        elif request.request_id in self.state.requests or self._over(request.request_id) is not None:
            self._refuse(command, "request_exists", f"request {request.request_id} was submitted before")
        elif agent is None or not agent.takes_requests:
            reason = "it never registered" if agent is None else "no live instance takes requests"
            self._reject(command, "agent_offline", f"agent offline: {command.agent_id}: {reason}")
        elif agent.queue_depth >= QUEUE_DEPTH_MAX:
            self._reject(command, "queue_full", f"{agent.queue_depth} requests are waiting for {command.agent_id}")
        else:
            deadline_ms = self.now_ms + request.timeout_ms
            self.emit(RequestSubmitted(**self._about(command.agent_id), request=request, deadline_ms=deadline_ms))
            self._dispatch(command.agent_id)

    def complete(self, command: CompleteRequest) -> None:
        pending = self.state.requests.get(command.request_id)
        if pending is None:
            self._record_late(command)
            return
        is_mine = pending.request.target_agent == command.agent_id and (
            command.attempt < pending.attempt
            or (command.attempt == pending.attempt and pending.instance_id in {None, command.instance_id})
        )
        if not is_mine:
            self._refuse(
                command,
                "not_dispatched",
                f"attempt {command.attempt} of {command.request_id} was not given to {command.instance_id}",
            )
            return
        self.emit(
            RequestCompleted(
                **self._about_request(pending.request),
                instance_id=command.instance_id,
                attempt=command.attempt,
                status=command.status,
                result=command.result,
                error=command.error,
                metadata=command.metadata,
                processing_time_ms=command.processing_time_ms,
            )
        )
        self._dispatch(command.agent_id)

    def cancel(self, command: CancelRequest) -> None:
        pending = self.state.requests.get(command.request_id)
        if pending is None or pending.request.target_agent != command.agent_id:
            if self._over(command.request_id) is not None:
                self._refuse(command, "request_over", f"request {command.request_id} is over already")
            else:
                self._refuse(command, "not_found", f"no request with id {command.request_id!r}")
            return
        self.emit(
            RequestCancelled(
                **self._about_request(pending.request), cancelled_by=command.cancelled_by, reason=command.reason
            )
        )
        self._dispatch(command.agent_id)

    def register(self, command: RegisterAgent) -> None:
        agent = self.state.agents.get(command.agent_id)
        if agent is not None and command.instance_id not in agent.instances and len(agent.instances) >= INSTANCES_MAX:
            self._refuse(command, "too_many_instances", f"{command.agent_id} has {len(agent.instances)} instances")
            return
        for name in () if agent is None else agent.long_stale():
            if name != command.instance_id:
                reason = "stale, and newer ones are too"
                self.emit(AgentDeregistered(**self._about(command.agent_id), instance_id=name, reason=reason))
        self.emit(
            AgentRegistered(
                **self._about(command.agent_id),
                instance_id=command.instance_id,
                agent_name=command.agent_name,
                base_url=command.base_url,
                capabilities=command.capabilities,
                concurrency=command.concurrency,
                status=command.status,
                metadata=command.metadata,
                epoch=self._offset,
            )
        )
        self._dispatch(command.agent_id)

    def deregister(self, command: DeregisterAgent) -> None:
        for name, instance in self._chosen(command, command.instance_id):
            self.emit(AgentDeregistered(**self._about(command.agent_id), instance_id=name, reason=command.reason))
            self._give_up(instance.in_flight, f"instance {name} left")
        self._dispatch(command.agent_id)

    def change_status(self, command: ChangeStatus) -> None:
        for name, instance in self._chosen(command, command.instance_id):
            self.emit(
                AgentStatusChanged(
                    **self._about(command.agent_id),
                    instance_id=name,
                    previous=instance.status,
                    status=command.status,
                    reason=command.reason,
                )
            )
        self._dispatch(command.agent_id)

    def mark_stale(self, command: MarkStale) -> None:
        agent = self.state.agents.get(command.agent_id)
        instance = agent.instances.get(command.instance_id) if agent is not None else None
        if instance is None or instance.epoch != command.epoch or instance.status == "stale":
            return  # it came back, left, or was marked before: a monitor's word may come late and twice
        self.emit(
            AgentWentStale(
                **self._about(command.agent_id),
                instance_id=command.instance_id,
                epoch=command.epoch,
                last_heartbeat_ms=command.last_heartbeat_ms,
            )
        )
        self._give_up(instance.in_flight, f"instance {command.instance_id} went stale")
        self._dispatch(command.agent_id)

    def _chosen(
        self, command: DeregisterAgent | ChangeStatus, instance_id: str | None
    ) -> Iterator[tuple[str, Instance]]:
        """The instances a command speaks of; refuses it where there are none."""
        agent = self.state.agents.get(command.agent_id)
        instances = {} if agent is None else dict(agent.instances.items())
        names = sorted(instances) if instance_id is None else [name for name in [instance_id] if name in instances]
        if not names:
            which = "no instance" if instance_id is None else f"no instance {instance_id!r}"
            self._refuse(command, "not_found", f"agent {command.agent_id} has {which}")
        for name in names:
            yield name, instances[name]

    def _dispatch(self, agent_id: str) -> None:
        """Gives waiting requests to instances, as long as there are both."""
        while (agent := self.state.agents.get(agent_id)) is not None and (first := agent.queue.first) is not None:
            pending = self.state.requests[first.request_id]  # the queue is pruned: its first item is live
            if pending.attempt >= pending.request.attempts_max:
                if not self._dead_letter(pending, "there was no room to say so at once"):
                    return
                continue
            instance_id = agent.freest(besides=pending.failed_instance_id)
            if instance_id is None or pending.deadline_ms <= self.now_ms:
                return  # what is overdue is ended by the next tick: there was no room for it in this command
            documents = (pending.request.payload, pending.request.metadata)
            if not self._spend(self._size(pending.request) + sum(map(_bytes, documents))):
                return
            limit_ms = pending.request.attempt_timeout_ms
            attempt_deadline_ms = pending.deadline_ms if limit_ms is None else self.now_ms + limit_ms
            self.emit(
                RequestDispatched(
                    **self._about(agent_id),
                    request=pending.request,
                    instance_id=instance_id,
                    attempt=pending.attempt + 1,
                    deadline_ms=min(pending.deadline_ms, attempt_deadline_ms),
                )
            )

    def _time_out(self, pending: Pending) -> None:
        seconds = pending.request.timeout_ms / 1000
        self.emit(
            RequestTimedOut(
                **self._about_request(pending.request),
                attempts=pending.attempt,
                error=f"no answer within {seconds:g} s, after {pending.attempt} attempts",
            )
        )

    def _time_out_attempt(self, pending: Pending) -> None:
        instance_id = pending.instance_id or ""
        self.emit(
            AttemptTimedOut(**self._about_request(pending.request), instance_id=instance_id, attempt=pending.attempt)
        )
        self._give_up(frozenset({pending.request.request_id}), f"attempt {pending.attempt} timed out")

    def _give_up(self, request_ids: frozenset[str], why: str) -> None:
        """Dead-letters those of these requests whose attempts are spent; the others are in the queue again."""
        for request_id in sorted(request_ids):
            pending = self.state.requests[request_id]
            if pending.attempt >= pending.request.attempts_max and not self._dead_letter(pending, why):
                return  # it stays in the queue, and is dead-lettered when it comes to its head

    def _dead_letter(self, pending: Pending, why: str) -> bool:
        """Ends a request whose attempts are spent. False where that no longer fits."""
        if not self._spend(self._size(pending.request)):
            return False
        error = f"{pending.attempt} of {pending.request.attempts_max} attempts are spent: {why}"
        self.emit(RequestDeadLettered(**self._about_request(pending.request), attempts=pending.attempt, error=error))
        return True

    def _spend(self, size_bytes: int) -> bool:
        """Takes room for an event that is not the command's own. False where there is none left."""
        if size_bytes > self._spare_bytes:
            return False
        self._spare_bytes -= size_bytes
        return True

    def _size(self, request: AgentRequest) -> int:
        """At least the bytes of an event about this request, its headers included and its documents not."""
        ids = 2 * (len(self._command_id) + len(request.request_id) + len(request.correlation_id))
        return EVENT_BYTES + ids + 3 * len(request.target_agent) + len(request.source_agent)

    def _over(self, request_id: str) -> Over | None:
        """What is remembered of a request that ended lately."""
        return self.state.over.get(request_id, self.now_ms)

    def _reject(self, command: SubmitRequest, code: str, error: str) -> None:
        self.emit(RequestRejected(**self._about(command.agent_id), request=command.request, code=code, error=error))

    def _record_late(self, command: CompleteRequest) -> None:
        over = self._over(command.request_id)
        if over is None:
            self._refuse(command, "not_found", f"no request with id {command.request_id!r}")
            return
        self.emit(
            ResponseLate(
                **self._about(command.agent_id),
                request_id=command.request_id,
                source_agent=over.source_agent,
                correlation_id=over.correlation_id,
                instance_id=command.instance_id,
                attempt=command.attempt,
                status=command.status,
                result=command.result,
                error=command.error,
            )
        )

    def _refuse(self, command: AgentsCommand, code: str, reason: str) -> None:
        self.emit(
            AgentCommandRefused(
                **self._about(command.key),
                command_type=command.type_name,
                about=command.subject,
                code=code,
                reason=reason,
            )
        )

    def _about(self, agent_id: str) -> _About:
        return {"command_id": self._command_id, "at_ms": self.now_ms, "agent_id": agent_id}

    def _about_request(self, request: AgentRequest) -> _AboutRequest:
        return {
            "command_id": self._command_id,
            "at_ms": self.now_ms,
            "agent_id": request.target_agent,
            "request_id": request.request_id,
            "source_agent": request.source_agent,
            "correlation_id": request.correlation_id,
        }


EVENT_BYTES: Final = 1_200
"""Of an event: its headers' names, its hashes, times and numbers, its type, an instance's id, an error of ours."""


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


class _About(TypedDict):
    """The fields every event of agents has."""

    command_id: str
    at_ms: int
    agent_id: str


class _AboutRequest(_About):
    """The fields every event of a known request has."""

    request_id: str
    source_agent: str
    correlation_id: str
