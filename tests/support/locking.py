"""Seeded histories of locks, decided by the real decider: contenders, renewals, crashes, administrators, time."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from diurna_schemas.locks import (
    AcquireLock,
    ForceReleaseLock,
    LocksCommand,
    LocksEvent,
    ReleaseLock,
    RenewLock,
    TickLocks,
)
from diurna_schemas.message import Heading
from diurna_schemas.topics import partition_of
from diurna_streams.deciders.locks import RULES
from diurna_streams.deciders.locks.state import LocksState
from support.projecting import History


@dataclass
class Locksmith:
    """Puts commands to the decider, partition by partition, and writes what comes of them into a history."""

    history: History = field(default_factory=History)
    states: dict[int, LocksState] = field(default_factory=dict[int, LocksState])

    def put(self, command: LocksCommand, *, after_ms: int = 0) -> list[LocksEvent]:
        """What this command leads to."""
        self.history.next_command()
        self.history.at_ms += after_ms
        partition = command.partition if isinstance(command, TickLocks) else partition_of(command.key)
        state = self.states.get(partition, RULES.initial)
        heading = Heading(self.history._commands, self.history.at_ms)  # pyright: ignore[reportPrivateUsage]
        decision = RULES.decide(state, command, heading)
        self.states[partition] = decision.state
        self.history.add(*decision.events)
        return list(decision.events)

    def acquire(
        self, resource_id: str, lock_id: str, agent_id: str = "agent-1", *, after_ms: int = 0, **fields: Any
    ) -> list[LocksEvent]:
        given: dict[str, Any] = {"lease_ms": 10_000, **fields}
        command = AcquireLock(
            command_id=self._id(), resource_id=resource_id, lock_id=lock_id, agent_id=agent_id, **given
        )
        return self.put(command, after_ms=after_ms)

    def renew(
        self,
        resource_id: str,
        lock_id: str,
        agent_id: str = "agent-1",
        *,
        after_ms: int = 0,
        lease_ms: int | None = None,
    ) -> list[LocksEvent]:
        command = RenewLock(
            command_id=self._id(), resource_id=resource_id, lock_id=lock_id, agent_id=agent_id, lease_ms=lease_ms
        )
        return self.put(command, after_ms=after_ms)

    def release(
        self, resource_id: str, lock_id: str | None, agent_id: str = "agent-1", *, after_ms: int = 0
    ) -> list[LocksEvent]:
        command = ReleaseLock(command_id=self._id(), resource_id=resource_id, lock_id=lock_id, agent_id=agent_id)
        return self.put(command, after_ms=after_ms)

    def force(self, resource_id: str, *, after_ms: int = 0, grace_ms: int = 0) -> list[LocksEvent]:
        command = ForceReleaseLock(
            command_id=self._id(), resource_id=resource_id, released_by="admin", reason="it hangs", grace_ms=grace_ms
        )
        return self.put(command, after_ms=after_ms)

    def tick(self, resource_id: str, *, after_ms: int = 0) -> list[LocksEvent]:
        """Time passes in the partition of a resource."""
        return self.put(TickLocks(command_id=self._id(), partition=partition_of(resource_id)), after_ms=after_ms)

    def _id(self) -> str:
        return f"lock-command-{self.history._commands + 1}"  # pyright: ignore[reportPrivateUsage]


def busy_locks(seed: int, steps: int, *, resources: int = 6) -> History:
    """A seeded history of agents fighting over a few resources."""
    chance = random.Random(seed)
    smith = Locksmith()
    names = [f"repo:{number}" for number in range(resources)]
    for step in range(steps):
        resource = chance.choice(names)
        after_ms = chance.choice([0, 1, 5, 40, 400, 2_500])
        resource_state = smith.states.get(partition_of(resource), RULES.initial).resources.get(resource)
        holder = resource_state.holder if resource_state is not None else None
        match chance.randrange(10):
            case 0 | 1 | 2 | 3:
                wait_ms = chance.choice([0, 0, 1_000, 20_000])
                agent_id = f"agent-{chance.randrange(5)}"
                smith.acquire(
                    resource, f"lock-{step}", agent_id, after_ms=after_ms, wait_ms=wait_ms, reason=f"step {step}",
                    lease_ms=chance.choice([1_000, 5_000, 60_000]),
                )  # fmt: skip
            case 4 | 5 if holder is not None:
                smith.renew(resource, holder.lock_id, holder.agent_id, after_ms=after_ms)
            case 6 | 7 if holder is not None:
                smith.release(resource, holder.lock_id, holder.agent_id, after_ms=after_ms)
            case 8:
                smith.release(resource, None, f"agent-{chance.randrange(5)}", after_ms=after_ms)
            case 9 if chance.random() < 0.3:
                smith.force(resource, after_ms=after_ms, grace_ms=chance.choice([0, 3_000]))
            case _:
                smith.tick(resource, after_ms=after_ms)
    return smith.history
