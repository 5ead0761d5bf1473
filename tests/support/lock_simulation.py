"""Locks in a storm, in virtual time: the real deciders, runners, tails and senders, and everything else against them.

Owners overlap, crash, and are stopped in the middle and go on minutes of their time too late; writes are refused, lost,
sent twice, or land long after their writer gave them up, in another order; zombies decide from what they knew; clocks
step; holders fall asleep and touch what they no longer hold. One seed is one history.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self

import structlog

from diurna.connection import Connection
from diurna_schemas.topics import LOCKS, PARTITIONS, TOPICS, Topic, partition_of
from diurna_streams.audit import Report, verify
from diurna_streams.audit.refold import state_hash
from diurna_streams.decide import Decider, runner
from diurna_streams.deciders.locks import RULES
from diurna_streams.log import Log, Outgoing, Record, TopicPartition
from diurna_streams.log.memory import MemoryReader
from support import virtual_time
from support.deciding import CODEC, Everything, outgoing
from support.lock_checkers import Checker, Found, everywhere, verdicts
from support.lock_client import Habits, LockClient
from support.lock_history import Access, LockHistory, Operation, read_history
from support.locks_given import force_release
from support.storm import StormLog, StormProducer, Weather

START_MS = 1_790_000_000_000
SLACK_MS = 15_000
"""How late a lease may end that only a tick ends: a clock step, and a pause of every decider at once."""


@dataclass(frozen=True)
class Climate:
    """What a simulation is made of. Times are virtual seconds."""

    seconds: float = 40.0
    deciders: int = 3
    clients: int = 6
    has_clock_steps: bool = True
    has_administrator: bool = True
    weather: Weather = field(
        default_factory=lambda: Weather(
            refused=30, acknowledgement_lost=25, flushed_late=25, zombies=20, sent_twice=12, crashes=0
        )
    )
    habits: Habits = field(default_factory=lambda: Habits(("deploy:production", "deploy:staging", "file:/etc/hosts")))


class Node:
    """A process on its own machine: it can be stopped and go on as if nothing had happened."""

    def __init__(self) -> None:
        self._goes_on = asyncio.Event()
        self._goes_on.set()
        self.skew_ms = 0

    async def gate(self) -> None:
        await self._goes_on.wait()

    async def stop_for(self, seconds: float) -> None:
        self._goes_on.clear()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._goes_on.set()


class SimulatedLog(StormLog):
    """A log in virtual time. Its clock is its own, and steps."""

    def __init__(self, chance: random.Random, weather: Weather) -> None:
        self.step_ms = 0
        super().__init__(chance, weather, rules=RULES, clock_ms=self.clock_ms)

    def clock_ms(self) -> int:
        return self.true_ms() + self.step_ms

    def true_ms(self) -> int:
        return START_MS + round(asyncio.get_running_loop().time() * 1000)

    async def lag(self) -> None:
        await asyncio.sleep(self.chance.uniform(0, 0.03))

    def hold_back(self, topic: str, partition: int, records: Sequence[Outgoing]) -> None:
        batch = (topic, partition, list(records))
        self.late.append(batch)

        def land() -> None:
            if batch in self.late:
                self.late.remove(batch)
                self.append(*batch)

        asyncio.get_running_loop().call_later(self.chance.uniform(0.1, 8), land)

    def append(self, topic: str, partition: int, outgoing: Sequence[Outgoing]) -> int:
        offset = super().append(topic, partition, outgoing)
        if topic == LOCKS.commands:
            if self.happens("sent_twice"):
                super().append(topic, partition, outgoing)
            if self.happens("zombies"):
                self.haunt(partition)
        return offset


class NodeLog(Log):
    """The log as one node reaches it."""

    def __init__(self, log: SimulatedLog, node: Node) -> None:
        self._log = log
        self._node = node

    async def producer(self) -> _NodeProducer:
        return _NodeProducer(self._log, self._node)

    async def reader(self, *, patience_ms: int = 0) -> _NodeReader:
        return _NodeReader(self._log, self._node)

    async def placement(self, topic: str, group: str, *, member: str | None = None) -> Everything:
        return await self._log.placement(topic, group, member=member)

    async def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await self._node.gate()
        return await self._log.starts(partitions)

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await self._node.gate()
        return await self._log.ends(partitions)

    async def offsets_at(self, partitions: Iterable[TopicPartition], at_ms: int) -> dict[TopicPartition, int]:
        return await self._log.offsets_at(partitions, at_ms)

    async def partitions(self, topic: str) -> int:
        return await self._log.partitions(topic)

    async def provision(self, topics: Iterable[Topic], *, replication: int = 1) -> list[str]:
        return await self._log.provision(topics, replication=replication)

    async def close(self) -> None:
        return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return


class _NodeProducer(StormProducer):
    def __init__(self, log: SimulatedLog, node: Node) -> None:
        super().__init__(log)
        self._node = node

    async def send_batch(self, topic: str, partition: int, records: Sequence[Outgoing]) -> int:
        await self._node.gate()
        offset = await super().send_batch(topic, partition, records)
        await self._node.gate()
        return offset


class _NodeReader(MemoryReader):
    def __init__(self, log: SimulatedLog, node: Node) -> None:
        super().__init__(log)
        self._far = log
        self._node = node

    async def start_at(self, offsets: Mapping[TopicPartition, int]) -> None:
        await self._node.gate()
        await super().start_at(offsets)

    async def read(self, *, records_max: int = 500, wait_ms: int = 200) -> list[Record]:
        await self._far.lag()
        found = await super().read(records_max=records_max, wait_ms=wait_ms)
        await self._node.gate()
        return found


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


class Simulation:
    """One seed."""

    def __init__(self, seed: int, climate: Climate) -> None:
        self.seed = seed
        self.climate = climate
        self.chance = random.Random(seed)
        self.log = SimulatedLog(self.chance, climate.weather)
        self.guard = SimulatedGuard(self.chance)
        self.operations: dict[str, Operation] = {}
        self.deciders: list[tuple[Decider, Node, asyncio.Task[None]]] = []
        self.clients: list[tuple[Connection, asyncio.Task[None]]] = []
        self.pauses: set[asyncio.Task[None]] = set()
        self.numbers = 0

    async def run(self) -> Judged:
        await self.log.provision(TOPICS.values())
        for _ in range(self.climate.deciders):
            self.start_decider()
        for _ in range(self.climate.clients):
            self.start_client()
        until_s = asyncio.get_running_loop().time() + self.climate.seconds
        while asyncio.get_running_loop().time() < until_s:
            await asyncio.sleep(self.chance.uniform(0.1, 1.0))
            await self.something_happens()
        return await self.judged()

    async def something_happens(self) -> None:
        chance, log = self.chance, self.log
        what = chance.choice(["crash", "stop", "step", "step", "client", "administrator", "nothing", "nothing"])
        log.happened[what] = log.happened.get(what, 0) + 1
        match what:
            case "crash":
                _, _, task = self.deciders.pop(chance.randrange(len(self.deciders)))
                await cancelled(task)
                self.start_decider()
            case "stop":
                _, node, _ = chance.choice(self.deciders)
                pause = asyncio.create_task(node.stop_for(chance.uniform(0.2, 5)))
                self.pauses.add(pause)
                pause.add_done_callback(self.pauses.discard)
            case "step" if self.climate.has_clock_steps:
                log.step_ms += chance.choice([-5_000, -300, 300, 4_000])
                chance.choice(self.deciders)[1].skew_ms = chance.choice([-400, 0, 250, 3_600_000, -2_000])
            case "client":
                connection, task = self.clients.pop(chance.randrange(len(self.clients)))
                await cancelled(task)
                await connection.close()
                self.start_client()
            case "administrator" if self.climate.has_administrator and chance.random() < 0.3:
                self.numbers += 1
                command = force_release(
                    chance.choice(self.climate.habits.resources), grace_ms=chance.choice([0, 2_000])
                ).model_copy(update={"command_id": f"administrator-{self.numbers}"})
                log.append(LOCKS.commands, partition_of(command.key), [outgoing(command)])
            case _:
                return

    def start_decider(self) -> None:
        node = Node()
        decider = Decider(
            NodeLog(self.log, node), CODEC, RULES, clock_ms=lambda: self.log.true_ms() + node.skew_ms
        )  # fmt: skip
        self.deciders.append((decider, node, asyncio.create_task(decider.run())))

    def start_client(self) -> None:
        self.numbers += 1
        connection = Connection(NodeLog(self.log, Node()), CODEC)
        client = LockClient(
            f"client-{self.numbers}",
            connection,
            self.guard,
            self.climate.habits,
            self.chance,
            asyncio.get_running_loop().time,
            lambda operation: self.operations.__setitem__(operation.command_id, operation),
        )
        self.clients.append((connection, asyncio.create_task(client.live())))

    async def judged(self) -> Judged:
        """Lets the wind drop: what was held back lands, leases end, and all that is left is judged."""
        for connection, task in self.clients:
            await cancelled(task)
            await connection.close()
        self.log.is_calm = True
        self.log.flush()
        for _, node, _ in self.deciders:
            node.skew_ms = 0
        await asyncio.sleep(SLACK_MS / 1000)
        await asyncio.gather(*self.pauses)
        self.log.step_ms = max(self.log.step_ms, 0)
        await asyncio.sleep(SLACK_MS / 1000)
        report = await verify(self.log, CODEC, [RULES], patience_seconds=0)
        history = await read_history(self.log, CODEC, self.operations.values(), self.guard.accesses)
        wrong = verdicts(history, self.checkers())
        if report.divergences:
            wrong["accepted_is_the_fold"] = [str(divergence) for divergence in report.divergences]
        if left := self.left():
            wrong["nothing_is_left"] = left
        if different := self.differ(report):
            wrong["states_are_equal"] = different
        for _, _, task in self.deciders:
            if task.done() and not task.cancelled():
                wrong["deciders_go_on"] = [repr(task.exception())]
            await cancelled(task)
        return Judged(
            self.seed, history, report, wrong, self.log.happened, [one.head_hash for one in report.partitions]
        )

    def checkers(self) -> dict[str, Checker]:
        return everywhere(slack_ms=SLACK_MS, has_clock_steps=self.climate.has_clock_steps)

    def left(self) -> Found:
        """Who still holds or waits long after the last client has gone."""
        states = [history.state for history in self.deciders[0][0].histories]
        return [
            f"{resource_id}: {resource.holder}, {len(resource.queue)} waiting"
            for state in states
            for resource_id, resource in state.resources.items()
            if resource.holder is not None or resource.queue
        ]

    def differ(self, report: Report) -> Found:
        """I15: deciders that lived through it, and whoever reads it now, remember the same."""
        if not report.is_clean:
            return []
        expected = [found.state_hash for found in report.partitions]
        return [
            f"partition {number}: a decider remembers something else"
            for decider, _, _ in self.deciders
            for number in range(PARTITIONS)
            if state_hash(RULES, decider.histories[number].state) != expected[number]
        ]


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])


@contextmanager
def all_from(seed: int) -> Iterator[None]:
    """What else is left to chance comes from the seed too: the ids of ticks, and how long senders wait to try again."""
    chance, whole, before = random.Random(seed), runner.uuid, random.getstate()
    random.seed(seed)
    runner.uuid = SimpleNamespace(uuid4=lambda: uuid.UUID(int=chance.getrandbits(128)))  # type: ignore[assignment]
    try:
        yield
    finally:
        runner.uuid = whole
        random.setstate(before)


def simulate(seed: int, climate: Climate | None = None) -> Judged:
    """What comes of one seed."""

    async def run() -> Judged:
        return await Simulation(seed, climate or Climate(has_clock_steps=seed % 2 == 0)).run()

    with all_from(seed), structlog.testing.capture_logs():
        return virtual_time.run(run())
