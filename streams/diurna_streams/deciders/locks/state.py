"""What the decider of locks remembers: who holds what until when, who waits, and what is due."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from immutables import Map

from diurna_streams.deciders.heap import Heap
from diurna_streams.deciders.window import Window


class Holder(NamedTuple):
    """Who holds a lock. A provisional holder came from the queue and has not claimed it yet."""

    lock_id: str
    agent_id: str
    token: int
    lease_ms: int
    deadline_ms: int
    granted_ms: int
    is_provisional: bool


class Waiter(NamedTuple):
    """Who waits for a lock, since when and until when."""

    lock_id: str
    agent_id: str
    lease_ms: int
    since_ms: int
    until_ms: int
    reason: str
    metadata: str


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource: its holder, its queue in order of arrival, and the time before which nobody gets it."""

    holder: Holder | None = None
    queue: tuple[Waiter, ...] = ()
    not_before_ms: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing need be remembered: tokens come from offsets, so a free lock has no state."""
        return self.holder is None and not self.queue and self.not_before_ms == 0

    def is_due_at(self, at_ms: int) -> bool:
        """Whether something of this resource happens at exactly this time."""
        return (
            (self.holder is not None and self.holder.deadline_ms == at_ms)
            or (self.holder is None and self.not_before_ms == at_ms and bool(self.queue))
            or any(waiter.until_ms == at_ms for waiter in self.queue)
        )


class Due(NamedTuple):
    """A lease, a wait or a grace that is over at `at_ms`, unless things have changed by then."""

    at_ms: int
    resource_id: str


@dataclass(frozen=True, slots=True)
class LocksState:
    """One partition's locks. Free ones are not here."""

    now_ms: int = 0
    resources: Map[str, Resource] = field(default_factory=lambda: cast("Map[str, Resource]", Map()))
    due_count: int = 0
    due: Heap[Due] = Heap()  # noqa: RUF009 - frozen
    seen: Window[int] = field(default_factory=lambda: cast("Window[int]", Window()))

    def is_due_live(self, due: Due) -> bool:
        """Whether a time still means something."""
        resource = self.resources.get(due.resource_id)
        return resource is not None and resource.is_due_at(due.at_ms)


def next_due_ms(state: LocksState) -> int | None:
    """When the next lease, wait or grace is over."""
    due = state.due.first
    return None if due is None else due.at_ms


def dues_of(resource_id: str, resource: Resource) -> list[Due]:
    """Every time at which something happens to a resource."""
    holder = resource.holder
    if not resource.queue:
        return [] if holder is None else [Due(holder.deadline_ms, resource_id)]
    times = [waiter.until_ms for waiter in resource.queue]
    if holder is not None:
        times.append(holder.deadline_ms)
    elif resource.not_before_ms:
        times.append(resource.not_before_ms)
    return [Due(at_ms, resource_id) for at_ms in times]


def dump(state: LocksState) -> dict[str, Any]:
    """The state as JSON. The heap is left out: it follows from the rest."""
    return {
        "now_ms": state.now_ms,
        "resources": {
            resource_id: [
                None if resource.holder is None else list(resource.holder),
                [list(waiter) for waiter in resource.queue],
                resource.not_before_ms,
            ]
            for resource_id, resource in sorted(state.resources.items())
        },
        "seen": state.seen.dump(),
    }


def load(dumped: dict[str, Any]) -> LocksState:
    """The state from JSON."""
    resources: dict[str, Resource] = {}
    dues: list[Due] = []
    for resource_id, (holder, queue, not_before_ms) in dumped["resources"].items():
        resource = Resource(
            None if holder is None else Holder._make(holder), tuple(map(Waiter._make, queue)), not_before_ms
        )
        resources[resource_id] = resource
        dues += dues_of(resource_id, resource)
    return LocksState(
        now_ms=dumped["now_ms"],
        resources=Map(resources),
        due_count=len(dues),
        due=Heap[Due].of(iter(dues)),
        seen=Window[int].load(dumped["seen"]),
    )
