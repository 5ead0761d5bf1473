"""What stands in the deciders' states at this moment: counted when Prometheus asks, so that deciding costs nothing.

States are immutable and replaced as a whole, so another thread may read them while deciding goes on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from weakref import WeakSet

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from diurna_schemas.topics import FamilyName
from diurna_streams.bounded import OTHER
from diurna_streams.deciders.agents.state import AgentsState
from diurna_streams.deciders.locks.state import LocksState
from diurna_streams.deciders.workflows.state import WorkflowsState

AGENTS_MAX: Final = 500
"""So many agents have series of their own; the others, by their ids' order, are told as one."""


class Conducts(Protocol):
    """The deciders of a process, as far as their states are of interest."""

    def states(self, family: FamilyName) -> Sequence[Any]: ...
    def silences_ms(self) -> Mapping[str, int]: ...
    def now_ms(self) -> int: ...


@dataclass(slots=True)
class _OfAgents:
    """Sums and extremes, by agent."""

    instances: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    capacity: Counter[str] = field(default_factory=Counter[str])
    in_flight: Counter[str] = field(default_factory=Counter[str])
    queued: Counter[str] = field(default_factory=Counter[str])
    oldest_ms: dict[str, int] = field(default_factory=dict[str, int])
    silent_ms: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, conductor: Conducts) -> None:
        states: Sequence[AgentsState] = conductor.states("agents")
        now_ms, silences = conductor.now_ms(), conductor.silences_ms()
        names = sorted(agent_id for state in states for agent_id in state.agents)
        told = {agent_id: agent_id if at < AGENTS_MAX else OTHER for at, agent_id in enumerate(names)}
        for state in states:
            for agent_id, agent in state.agents.items():
                name = told[agent_id]
                self.queued[name] += agent.queue_depth
                self.oldest_ms.setdefault(name, 0)
                if agent_id in silences:
                    _raise(self.silent_ms, name, silences[agent_id])
                for instance in agent.instances.values():
                    self.instances[name, instance.status] += 1
                    self.in_flight[name] += len(instance.in_flight)
                    self.capacity[name] += instance.concurrency if instance.is_live else 0
            for pending in state.requests.values():
                if pending.instance_id is None:
                    name = told.get(pending.request.target_agent, OTHER)
                    _raise(self.oldest_ms, name, now_ms - pending.submitted_ms)

    def families(self) -> Iterable[GaugeMetricFamily]:
        instances = GaugeMetricFamily(
            "diurna_agent_instances", "Instances the log knows, by status.", labels=["agent_id", "status"]
        )
        for (agent_id, status), count in self.instances.items():
            instances.add_metric([agent_id, status], count)
        yield instances
        for name, words, values, unit in (
            ("diurna_agent_capacity", "Requests the live instances take at once.", self.capacity, 1),
            ("diurna_agent_in_flight", "Requests that instances have and did not answer yet.", self.in_flight, 1),
            ("diurna_agent_queue_depth", "Requests that wait for an instance with room.", self.queued, 1),
            ("diurna_agent_queue_age_seconds", "How long the oldest of them has waited.", self.oldest_ms, 1000),
            (
                "diurna_agent_heartbeat_age_seconds",
                "How long ago the instance that was heard last was heard.",
                self.silent_ms,
                1000,
            ),
        ):
            family = GaugeMetricFamily(name, words, labels=["agent_id"])
            for agent_id, value in values.items():
                family.add_metric([agent_id], value / unit)
            yield family


@dataclass(slots=True)
class _OfRest:
    """What is counted over all partitions."""

    held: int = 0
    waiters: int = 0
    oldest_ms: int = 0
    approvals: int = 0
    workflows: defaultdict[str, int] = field(default_factory=lambda: defaultdict[str, int](int))

    def add(self, conductor: Conducts) -> None:
        locks: Sequence[LocksState] = conductor.states("locks")
        now_ms = conductor.now_ms()
        for resource in (resource for state in locks for resource in state.resources.values()):
            self.held += resource.holder is not None
            self.waiters += len(resource.queue)
            if resource.queue:
                self.oldest_ms = max(self.oldest_ms, now_ms - resource.queue[0].since_ms)
        workflows: Sequence[WorkflowsState] = conductor.states("workflows")
        for state in workflows:
            self.approvals += state.open_approvals
            for workflow in state.workflows.values():
                self.workflows[workflow.status] += 1

    def families(self) -> Iterable[GaugeMetricFamily]:
        yield GaugeMetricFamily("diurna_locks_held", "Locks that somebody holds, in the whole team.", self.held)
        yield GaugeMetricFamily("diurna_lock_waiters", "Wishes that wait for a lock.", self.waiters)
        yield GaugeMetricFamily(
            "diurna_lock_wait_age_seconds", "How long the oldest of them has waited.", self.oldest_ms / 1000
        )
        yield GaugeMetricFamily("diurna_workflow_approvals_waiting", "Questions nobody decided yet.", self.approvals)
        workflows = GaugeMetricFamily("diurna_workflows", "Workflows the log knows, by status.", labels=["status"])
        for status in ("running", "paused", "completed", "failed", "cancelled"):
            workflows.add_metric([status], self.workflows[status])
        yield workflows


class Standing(Collector):
    """Looks into the states of every `Conductor` of this process."""

    def __init__(self) -> None:
        self._conductors: WeakSet[Conducts] = WeakSet()

    def watch(self, conductor: Conducts) -> None:
        """Counts what stands there, too, for as long as it is there."""
        self._conductors.add(conductor)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The families without values."""
        yield from _OfAgents().families()
        yield from _OfRest().families()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The families as things stand now; none in a process that decides nothing."""
        conductors = list(self._conductors)
        if not conductors:
            return
        of_agents, of_rest = _OfAgents(), _OfRest()
        for conductor in conductors:
            of_agents.add(conductor)
            of_rest.add(conductor)
        yield from of_agents.families()
        yield from of_rest.families()


def _raise(greatest: dict[str, int], name: str, value: int) -> None:
    greatest[name] = max(greatest.get(name, 0), value)


STANDING: Final = Standing()
REGISTRY.register(STANDING)
