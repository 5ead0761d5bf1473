"""Locks in a storm: clients that take them, sleep through them, and touch what they guard; and who judges that."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from diurna.connection import Connection
from diurna_schemas.topics import LOCKS, partition_of
from diurna_streams.audit import Report
from diurna_streams.deciders.locks import RULES
from support.deciding import CODEC, outgoing
from support.lock_checkers import Found, everywhere, verdicts
from support.lock_client import Habits, LockClient
from support.lock_history import Access, LockHistory, Operation, read_history
from support.locks_given import force_release
from support.simulation import CALM_S, Climate, Simulation, lived


@dataclass(frozen=True)
class LockClimate(Climate):
    """With those who take locks, and an administrator who takes them away."""

    has_administrator: bool = True
    habits: Habits = field(default_factory=lambda: Habits(("deploy:production", "deploy:staging", "file:/etc/hosts")))


class SimulatedGuard:
    """What the locks protect, at the end of a slow line; `looks` is false for a guard that checks nothing."""

    def __init__(self, chance: random.Random, *, looks: bool = True) -> None:
        self._chance = chance
        self._looks = looks
        self._largest: dict[str, int] = {}
        self.accesses: list[Access] = []

    async def access(self, resource_id: str, lock_id: str, token: int) -> bool:
        await asyncio.sleep(self._chance.uniform(0, 0.05))
        is_accepted = not self._looks or token >= self._largest.get(resource_id, -1)
        if is_accepted:
            self._largest[resource_id] = token
        self.accesses.append(Access(resource_id, lock_id, token, is_accepted))
        await asyncio.sleep(self._chance.uniform(0, 0.05))
        return is_accepted


@dataclass
class Judged:
    """What came of one seed."""

    seed: int
    history: LockHistory
    report: Report
    wrong: dict[str, Found]
    happened: dict[str, int]
    heads: list[str]


class LockSimulation(Simulation):
    """One seed of locks."""

    def __init__(self, seed: int, climate: LockClimate) -> None:
        super().__init__(seed, climate, RULES)
        self.climate = climate
        self.guard = SimulatedGuard(self.chance)
        self.operations: dict[str, Operation] = {}
        self.numbers = 0

    def start_client(self) -> tuple[Connection, asyncio.Task[None]]:
        self.numbers += 1
        connection = self.connect()
        client = LockClient(
            f"client-{self.numbers}",
            connection,
            self.guard,
            self.climate.habits,
            self.chance,
            self.now_s,
            lambda operation: self.operations.__setitem__(operation.command_id, operation),
        )
        return connection, asyncio.create_task(client.live())

    def happenings(self) -> dict[str, Callable[[], None]]:
        return {"administrator": self.take_away} if self.climate.has_administrator else {}

    def take_away(self) -> None:
        self.numbers += 1
        resource_id, grace_ms = self.chance.choice(self.climate.habits.resources), self.chance.choice([0, 2_000])
        command = force_release(resource_id, grace_ms=grace_ms)
        command = command.model_copy(update={"command_id": f"administrator-{self.numbers}"})
        self.log.append(LOCKS.commands, partition_of(command.key), [outgoing(command)])

    async def judged(self) -> Judged:
        await self.live()
        report, wrong = await self.audited()
        history = await read_history(self.log, CODEC, self.operations.values(), self.guard.accesses)
        slack_ms = round(CALM_S * 1000)
        wrong |= verdicts(history, everywhere(slack_ms=slack_ms, has_clock_steps=self.climate.has_clock_steps))
        wrong |= {"nothing_is_left": left} if (left := self.left()) else {}
        wrong |= {"deciders_go_on": fallen} if (fallen := await self.end()) else {}
        heads = [found.head_hash for found in report.partitions]
        return Judged(self.seed, history, report, wrong, self.log.happened, heads)

    def left(self) -> Found:
        """Who still holds or waits long after the last client has gone."""
        return [
            f"{resource_id}: {resource.holder}, {len(resource.queue)} waiting"
            for history in self.deciders[0][0].histories
            for resource_id, resource in history.state.resources.items()
            if resource.holder is not None or resource.queue
        ]


def simulate(seed: int, climate: LockClimate | None = None) -> Judged:
    """What comes of one seed; even ones step the clocks, unless told otherwise."""
    weathered = climate or LockClimate(has_clock_steps=seed % 2 == 0)
    judged: Judged = lived(seed, lambda: LockSimulation(seed, weathered).judged())
    return judged
