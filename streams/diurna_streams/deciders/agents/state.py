"""What the decider of agents remembers: instances, queues, live requests, and what is due when."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from immutables import Map

from diurna_schemas.agents import AgentRequest, AgentStatus, Priority
from diurna_streams.deciders.heap import Heap
from diurna_streams.deciders.window import Window

HEAD_START_MS: Final[dict[Priority, int]] = {"low": 0, "normal": 30_000, "high": 60_000, "urgent": 90_000}
"""A request stands in the queue as if it had come this much earlier: urgent first, and low never starves."""


STALE_KEPT_MAX: Final = 16
"""Stale instances an agent keeps: they may come back."""
FORGOTTEN_AT_ONCE_MAX: Final = 50


class Instance(NamedTuple):
    """One process of an agent. `epoch` is the command offset of its registration."""

    epoch: int
    concurrency: int
    status: AgentStatus
    in_flight: frozenset[str] = frozenset()

    @property
    def is_live(self) -> bool:
        return self.status not in {"stale", "offline"}

    @property
    def credit(self) -> int:
        """How many more requests it takes now."""
        return self.concurrency - len(self.in_flight) if self.is_live else 0


class Pending(NamedTuple):
    """A request that is not over. `attempt` counts dispatches; without `instance_id` it waits in the queue.

    `failed_instance_id` had the last attempt and did not answer it.
    """

    request: AgentRequest
    submitted_ms: int
    deadline_ms: int
    attempt: int = 0
    instance_id: str | None = None
    attempt_deadline_ms: int = 0
    failed_instance_id: str | None = None

    @property
    def dues(self) -> list[Due]:
        """Its deadlines: the whole request's, and the running attempt's where that is sooner."""
        whole = Due(self.deadline_ms, self.request.request_id, 0)
        if self.instance_id is None or self.attempt_deadline_ms >= self.deadline_ms:
            return [whole]
        return [whole, Due(self.attempt_deadline_ms, self.request.request_id, self.attempt)]

    @property
    def place(self) -> Waiting:
        """Where it stands in the queue of its agent."""
        return Waiting(self.submitted_ms - HEAD_START_MS[self.request.priority], self.request.request_id)


class Waiting(NamedTuple):
    """A place in the queue: the smaller, the sooner."""

    rank_ms: int
    request_id: str


class Due(NamedTuple):
    """Something that happens at `at_ms` unless it is over before; `attempt` 0 means the whole request."""

    at_ms: int
    request_id: str
    attempt: int


class Over(NamedTuple):
    """What is remembered of a request that is over."""

    source_agent: str
    correlation_id: str


class Agent(NamedTuple):
    """All instances of an agent, and the requests that wait for one of them."""

    instances: Map[str, Instance] = Map()
    queue: Heap[Waiting] = Heap()
    queue_depth: int = 0

    def freest(self, *, besides: str | None = None) -> str | None:
        """The live instance with the most credit, the first by name among equals; none where nobody has any.

        `besides` failed at it before: it comes last, however free it is.
        """
        best: tuple[bool, int, str] | None = None
        for name, instance in self.instances.items():
            if (credit := instance.credit) > 0:
                candidate = (name == besides, -credit, name)
                if best is None or candidate < best:
                    best = candidate
        return None if best is None else best[2]

    def long_stale(self) -> list[str]:
        """Stale instances but the newest `STALE_KEPT_MAX`, oldest first: every process that crashes leaves one."""
        stale = sorted(
            (instance.epoch, name) for name, instance in self.instances.items() if instance.status == "stale"
        )
        return [name for _, name in stale[:-STALE_KEPT_MAX]][:FORGOTTEN_AT_ONCE_MAX]

    @property
    def has_work(self) -> bool:
        """Whether a request waits although an instance would take it."""
        return self.queue_depth > 0 and self.freest() is not None

    @property
    def takes_requests(self) -> bool:
        return any(instance.is_live and instance.concurrency > 0 for instance in self.instances.values())


class AgentsState(NamedTuple):
    """One partition's agents and live requests. Every name is a key, so a change shares nearly everything.

    `ready` names the agents that have work: none, once a decision has dispatched all it may.
    """

    now_ms: int = 0
    agents: Map[str, Agent] = Map()
    requests: Map[str, Pending] = Map()
    due: Heap[Due] = Heap()
    ready: frozenset[str] = frozenset()
    over: Window[Over] = Window()
    seen: Window[int] = Window()

    def is_waiting(self, waiting: Waiting) -> bool:
        """Whether a place in a queue still means something."""
        pending = self.requests.get(waiting.request_id)
        # The place too: an id that is used again, once it is forgotten, may have left an older one here.
        return pending is not None and pending.instance_id is None and pending.place == waiting

    def is_due_live(self, due: Due) -> bool:
        """Whether a deadline still means something."""
        pending = self.requests.get(due.request_id)
        return pending is not None and due in pending.dues


def dump(state: AgentsState) -> dict[str, Any]:
    """The state as JSON. Heaps are left out: they follow from the rest."""
    return {
        "now_ms": state.now_ms,
        "agents": {
            agent_id: {
                name: [instance.epoch, instance.concurrency, instance.status]
                for name, instance in sorted(agent.instances.items())
            }
            for agent_id, agent in sorted(state.agents.items())
        },
        "requests": [
            [
                pending.request.model_dump(),
                pending.submitted_ms,
                pending.deadline_ms,
                pending.attempt,
                pending.instance_id,
                pending.attempt_deadline_ms,
                pending.failed_instance_id,
            ]
            for _, pending in sorted(state.requests.items())
        ],
        "over": Window(state.over.began_ms, _as_lists(state.over.young), _as_lists(state.over.old)).dump(),
        "seen": state.seen.dump(),
    }


def load(dumped: dict[str, Any]) -> AgentsState:
    """The state from JSON."""
    requests: Map[str, Pending] = Map(
        {
            request["request_id"]: Pending(AgentRequest.model_validate(request), *rest)
            for request, *rest in dumped["requests"]
        }
    )
    in_flight: dict[tuple[str, str], set[str]] = {}
    queues: dict[str, list[Waiting]] = {}
    for request_id, pending in requests.items():
        agent_id = pending.request.target_agent
        if pending.instance_id is None:
            queues.setdefault(agent_id, []).append(pending.place)
        else:
            in_flight.setdefault((agent_id, pending.instance_id), set()).add(request_id)
    agents = {
        agent_id: Agent(
            Map(
                {
                    name: Instance(epoch, concurrency, status, frozenset(in_flight.get((agent_id, name), ())))
                    for name, (epoch, concurrency, status) in instances.items()
                }
            ),
            Heap[Waiting].of(iter(queues.get(agent_id, ()))),
            len(queues.get(agent_id, ())),
        )
        for agent_id, instances in dumped["agents"].items()
    }
    over = Window[list[str]].load(dumped["over"])
    return AgentsState(
        now_ms=dumped["now_ms"],
        agents=Map(agents),
        requests=requests,
        ready=frozenset(agent_id for agent_id, agent in agents.items() if agent.has_work),
        due=Heap[Due].of(due for pending in requests.values() for due in pending.dues),
        over=Window(over.began_ms, _as_over(over.young), _as_over(over.old)),
        seen=Window[int].load(dumped["seen"]),
    )


def _as_lists(values: Map[str, Over]) -> Map[str, list[str]]:
    return Map({key: list(value) for key, value in values.items()})


def _as_over(values: Map[str, list[str]]) -> Map[str, Over]:
    return Map({key: Over(*value) for key, value in values.items()})


def next_due_ms(state: AgentsState) -> int | None:
    """When the next deadline is; at once where work was left over for the next command."""
    if state.ready:
        return state.now_ms
    due = state.due.first
    return None if due is None else due.at_ms
