"""A second opinion on decisions about agents: who works on what, kept from the events alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from diurna_schemas.agents import (
    AgentCommandRefused,
    AgentCommandRepeated,
    AgentDeregistered,
    AgentRegistered,
    AgentRequest,
    AgentsEvent,
    AgentStatusChanged,
    AgentWentStale,
    AttemptTimedOut,
    ChangeStatus,
    DeregisterAgent,
    MarkStale,
    RequestCancelled,
    RequestCompleted,
    RequestDeadLettered,
    RequestDispatched,
    RequestRejected,
    RequestSubmitted,
    RequestTimedOut,
    ResponseLate,
)
from diurna_schemas.message import Command, Event
from diurna_streams.deciders.agents.state import AgentsState
from diurna_streams.deciders.rules import Rules
from diurna_streams.deciders.window import SPAN_MS
from support.book import Ledger, keep
from support.given import cancel, change_status, complete, deregister, mark_stale, register, submit, tick

AGEING_MS = 90_000
"""What the longest wait for a turn may be, beside requests that came later."""
RANK = {"urgent": 0, "high": 1, "normal": 2, "low": 3}


@dataclass
class Worker:
    concurrency: int
    status: str
    in_flight: set[str] = field(default_factory=set[str])


@dataclass
class Job:
    request: AgentRequest
    submitted_ms: int
    deadline_ms: int
    attempt: int = 0
    instance_id: str | None = None
    attempt_deadline_ms: int = 0


@dataclass
class Book(Ledger):
    """Instances and requests as the events tell of them."""

    REPEATED = AgentCommandRepeated
    workers: dict[tuple[str, str], Worker] = field(default_factory=dict[tuple[str, str], Worker])
    live: dict[str, Job] = field(default_factory=dict[str, Job])
    ended_ms: dict[str, int] = field(default_factory=dict[str, int])
    submitted_count: int = 0
    ended_count: int = 0

    def answers(self, command: Command, events: Sequence[Event]) -> list[Event]:
        answers = [event for event in events if is_answer(event)]
        is_many = isinstance(command, DeregisterAgent | ChangeStatus) and command.instance_id is None
        if command.is_tick or isinstance(command, MarkStale):
            assert len(answers) <= 1
        else:
            assert len(answers) == 1 or (is_many and answers), f"{len(answers)} answers to {command!r}"
        return answers

    def take(self, event: AgentsEvent) -> None:
        match event:
            case AgentRegistered():
                known = self.workers.get((event.agent_id, event.instance_id))
                in_flight = set[str]() if known is None else known.in_flight
                self.workers[event.agent_id, event.instance_id] = Worker(event.concurrency, event.status, in_flight)
            case AgentStatusChanged():
                worker = self.workers[event.agent_id, event.instance_id]
                assert event.previous == worker.status
                worker.status = event.status
            case AgentWentStale():
                self.release(event.agent_id, event.instance_id).status = "stale"
            case AgentDeregistered():
                self.release(event.agent_id, event.instance_id)
                del self.workers[event.agent_id, event.instance_id]
            case RequestSubmitted():
                self.begin(event.request, event.at_ms)
                self.live[event.request.request_id] = Job(event.request, event.at_ms, event.deadline_ms)
                self.submitted_count += 1
            case RequestDispatched():
                self.dispatch(event)
            case AttemptTimedOut():
                job = self.live[event.request_id]
                assert (job.attempt, job.instance_id) == (event.attempt, event.instance_id)
                assert event.at_ms >= job.attempt_deadline_ms, "timed out too early"
                self.put_back(event.request_id)
            case RequestRejected():
                self.begin(event.request, event.at_ms)
                self.ended_ms[event.request.request_id] = event.at_ms
            case RequestCompleted() | RequestTimedOut() | RequestCancelled() | RequestDeadLettered():
                self.end(event)
            case ResponseLate():
                assert event.request_id in self.ended_ms, "late for something that is not over"
            case AgentCommandRefused() | AgentCommandRepeated():
                pass

    def begin(self, request: AgentRequest, at_ms: int) -> None:
        """A request id is used once, until it is forgotten."""
        assert request.request_id not in self.live, "submitted twice"
        ended_ms = self.ended_ms.pop(request.request_id, None)
        assert ended_ms is None or at_ms - ended_ms >= SPAN_MS, "two ends"

    def dispatch(self, event: RequestDispatched) -> None:
        request, key = event.request, (event.agent_id, event.instance_id)
        job, worker = self.live[request.request_id], self.workers[key]
        assert job.instance_id is None, "given to two instances at once"
        assert event.attempt == job.attempt + 1 <= request.attempts_max, "more attempts than allowed"
        assert worker.status not in {"stale", "offline"}, "given to nobody"
        assert len(worker.in_flight) < worker.concurrency, "given more than it takes"
        assert event.at_ms < event.deadline_ms <= job.deadline_ms
        for other in self.live.values():
            if other is job or other.instance_id is not None or other.request.target_agent != event.agent_id:
                continue
            waited_ms = job.submitted_ms - other.submitted_ms
            assert waited_ms <= AGEING_MS, f"{other.request.request_id} starves"
            is_before = RANK[other.request.priority] <= RANK[request.priority] and waited_ms > 0
            assert not is_before, f"{other.request.request_id} came earlier and is no less urgent"
        worker.in_flight.add(request.request_id)
        job.attempt, job.instance_id, job.attempt_deadline_ms = event.attempt, event.instance_id, event.deadline_ms

    def end(self, event: RequestCompleted | RequestTimedOut | RequestCancelled | RequestDeadLettered) -> None:
        assert event.request_id in self.live, "ended twice, or never begun"
        job = self.live[event.request_id]
        match event:
            case RequestCompleted():
                assert 1 <= event.attempt <= job.attempt
            case RequestTimedOut():
                assert event.at_ms >= job.deadline_ms, "timed out too early"
            case RequestDeadLettered():
                assert job.attempt == event.attempts == job.request.attempts_max
            case RequestCancelled():
                pass
        self.put_back(event.request_id)
        del self.live[event.request_id]
        self.ended_ms[event.request_id] = event.at_ms
        self.ended_count += 1

    def put_back(self, request_id: str) -> None:
        job = self.live[request_id]
        if job.instance_id is not None:
            self.workers[job.request.target_agent, job.instance_id].in_flight.discard(request_id)
        job.instance_id = None

    def release(self, agent_id: str, instance_id: str) -> Worker:
        worker = self.workers[agent_id, instance_id]
        for request_id in list(worker.in_flight):
            self.put_back(request_id)
        return worker

    def check_state(self, command: Command, now_ms: int) -> None:
        state: AgentsState = self.state
        assert self.submitted_count == len(self.live) + self.ended_count
        assert set(state.requests) == set(self.live), "what is live is not what was submitted and did not end"
        for (agent_id, name), worker in self.workers.items():
            instance = state.agents[agent_id].instances[name]
            assert instance.in_flight == worker.in_flight, "credits are lost"
            assert (instance.status, instance.concurrency) == (worker.status, worker.concurrency)
        dues = [due for pending in state.requests.values() for due in pending.dues]
        assert state.due.first == min(dues, default=None), "the first deadline is not the next one"
        for agent_id, agent in state.agents.items():
            waiting = [job for job in self.live.values()
                       if job.request.target_agent == agent_id and job.instance_id is None]  # fmt: skip
            assert agent.queue_depth == len(waiting)
            places = [state.requests[job.request.request_id].place for job in waiting]
            assert agent.queue.first == min(places, default=None), "the first in the queue is not who is next"
            assert not waiting or agent.freest() is None or agent_id in state.ready, "work waits beside a free instance"


def is_answer(event: Event) -> bool:
    """Whether an event answers its command, and is not what time did beside it."""
    match event:
        case AgentCommandRefused() | AgentCommandRepeated() | RequestRejected() | RequestSubmitted() | ResponseLate():
            return True
        case AgentRegistered() | AgentStatusChanged() | AgentWentStale() | AgentDeregistered():
            return True
        case RequestCompleted() | RequestCancelled():
            return True
        case _:
            assert isinstance(event, RequestDispatched | AttemptTimedOut | RequestTimedOut | RequestDeadLettered)
            return False


KINDS = ("register", "submit", "submit", "submit", "complete", "complete", "complete", "cancel", "status",
         "deregister", "stale", "tick", "again")  # fmt: skip
STEPS_MS = (-5_000, 0, 0, 0, 1, 10, 500, 2_000, 31_000, 100_000, 700_000)


@dataclass
class Random:
    """Commands from few names, so that they meet: seeded, and aware of what is going on only by chance."""

    chance: random.Random
    log_ms: int = 1_790_000_000_000
    sent: list[Command] = field(default_factory=list[Command])
    requests: int = 0

    def next(self, book: Book) -> tuple[Command, int]:
        self.log_ms += self.chance.choice(STEPS_MS)
        command = self.command(book)
        self.sent.append(command)
        return command, self.log_ms

    def command(self, book: Book) -> Command:
        pick = self.chance.choice
        agent_id, instance_id = pick(["worker", "worker", "other"]), pick(["one", "two", "three"])
        known = f"r{self.chance.randrange(max(1, self.requests))}"
        match pick(KINDS):
            case "register":
                return register(agent_id, instance_id, concurrency=pick([0, 1, 1, 2, 3]))
            case "submit":
                return self.submission(agent_id, known)
            case "complete":
                job = pick(list(book.live.values()) or [None])
                if job is None or self.chance.random() < 0.3:
                    return complete(known, agent_id, instance_id, attempt=pick([1, 1, 2]))
                attempt = pick([max(1, job.attempt)] * 4 + [1, job.attempt + 1])
                return complete(
                    job.request.request_id, job.request.target_agent, job.instance_id or instance_id, attempt=attempt
                )
            case "cancel":
                return cancel(known, agent_id)
            case "status":
                return change_status(pick(["active", "busy", "offline"]), agent_id, pick([instance_id, None]))
            case "deregister":
                return deregister(agent_id, pick([instance_id, instance_id, None]))
            case "stale":
                agent = book.state.agents.get(agent_id)
                instance = agent.instances.get(instance_id) if agent else None
                return mark_stale(agent_id, instance_id, epoch=instance.epoch if instance else 0)
            case "again" if self.sent:
                return pick(self.sent[-10:])
            case _:
                return tick()

    def submission(self, agent_id: str, known: str) -> Command:
        pick = self.chance.choice
        if self.chance.random() < 0.1:
            return submit(known, agent_id)
        self.requests += 1
        return submit(
            f"r{self.requests}",
            agent_id,
            priority=pick(["low", "normal", "high", "urgent"]),
            timeout_ms=pick([1_000, 30_000, 300_000]),
            attempt_timeout_ms=pick([None, None, 500, 20_000]),
            attempts_max=pick([1, 2, 3]),
        )


def run(rules: Rules[Any, Any, Any], seed: int, commands: int) -> Book:
    """A random partition of agents, checked after every command."""
    chance = random.Random(seed)
    book = Book(rules)
    keep(book, Random(chance), chance, commands)
    return book
