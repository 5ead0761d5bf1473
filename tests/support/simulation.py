"""Deciders in a storm, in virtual time: the real runners, tails and senders, and everything else against them.

Owners overlap, crash, and are stopped in the middle and go on seconds too late; writes are refused, lost, sent twice,
or land long after their writer gave them up, in another order; zombies decide from what they knew; clocks step. One
seed is one history.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self

import structlog

from diurna.connection import Connection
from diurna_schemas.topics import PARTITIONS, TOPICS, Topic
from diurna_streams.audit import Report, verify
from diurna_streams.audit.refold import state_hash
from diurna_streams.decide import Decider, runner
from diurna_streams.deciders.rules import Rules
from diurna_streams.log import Log, Outgoing, Record, TopicPartition
from diurna_streams.log.memory import MemoryReader
from support import virtual_time
from support.deciding import CODEC, Everything
from support.lock_checkers import Found
from support.storm import StormLog, StormProducer, Weather

START_MS = 1_790_000_000_000
CALM_S = 15.0
"""How long it takes until everything has ended that only a tick ends: a clock step, and a pause of all deciders."""


@dataclass(frozen=True)
class Climate:
    """What a simulation is made of. Times are virtual seconds."""

    seconds: float = 40.0
    deciders: int = 3
    clients: int = 6
    has_clock_steps: bool = True
    weather: Weather = field(
        default_factory=lambda: Weather(
            refused=30, acknowledgement_lost=25, flushed_late=25, zombies=20, sent_twice=12, crashes=0
        )
    )


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

    def __init__(self, chance: random.Random, weather: Weather, rules: Rules[Any, Any, Any]) -> None:
        self.step_ms = 0
        super().__init__(chance, weather, rules=rules, clock_ms=self.clock_ms)

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
        if topic == self.rules.family.commands:
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


class Simulation:
    """One seed. What a family adds: its clients, what else may happen, and how what came of it is judged."""

    def __init__(self, seed: int, climate: Climate, rules: Rules[Any, Any, Any]) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.rules = rules
        self.log = SimulatedLog(self.chance, climate.weather, rules)
        self.deciders: list[tuple[Decider, Node, asyncio.Task[None]]] = []
        self.clients: list[tuple[Connection, asyncio.Task[None]]] = []
        self._basics = climate
        self._pauses: set[asyncio.Task[None]] = set()

    async def live(self) -> None:
        """Lets it blow, and then lets the wind drop: what was held back lands, and what must end has ended."""
        await self.log.provision(TOPICS.values())
        for _ in range(self._basics.deciders):
            self.start_decider()
        for _ in range(self._basics.clients):
            self.clients.append(self.start_client())
        until_s = self.now_s() + self._basics.seconds
        while self.now_s() < until_s:
            await asyncio.sleep(self.chance.uniform(0.1, 1.0))
            await self.something_happens()
        for connection, task in self.clients:
            await cancelled(task)
            await connection.close()
        self.log.is_calm = True
        self.log.flush()
        for _, node, _ in self.deciders:
            node.skew_ms = 0
        await asyncio.sleep(CALM_S)
        await asyncio.gather(*self._pauses)
        self.log.step_ms = max(self.log.step_ms, 0)
        await asyncio.sleep(CALM_S)

    async def end(self) -> Found:
        """Stops the deciders; which of them had stopped by themselves."""
        fallen = [repr(task.exception()) for _, _, task in self.deciders if task.done() and not task.cancelled()]
        for _, _, task in self.deciders:
            await cancelled(task)
        return fallen

    def start_client(self) -> tuple[Connection, asyncio.Task[None]]:
        raise NotImplementedError

    def happenings(self) -> dict[str, Callable[[], None]]:
        """What else may happen, by its name."""
        return {}

    async def something_happens(self) -> None:
        chance, log, others = self.chance, self.log, self.happenings()
        what = chance.choice(["crash", "stop", "step", "step", "client", "nothing", "nothing", *others])
        log.happened[what] = log.happened.get(what, 0) + 1
        match what:
            case "crash":
                _, _, task = self.deciders.pop(chance.randrange(len(self.deciders)))
                await cancelled(task)
                self.start_decider()
            case "stop":
                _, node, _ = chance.choice(self.deciders)
                pause = asyncio.create_task(node.stop_for(chance.uniform(0.2, 5)))
                self._pauses.add(pause)
                pause.add_done_callback(self._pauses.discard)
            case "step" if self._basics.has_clock_steps:
                log.step_ms += chance.choice([-5_000, -300, 300, 4_000])
                chance.choice(self.deciders)[1].skew_ms = chance.choice([-400, 0, 250, 3_600_000, -2_000])
            case "client":
                connection, task = self.clients.pop(chance.randrange(len(self.clients)))
                await cancelled(task)
                await connection.close()
                self.clients.append(self.start_client())
            case _ if what in others:
                others[what]()
            case _:
                return

    def start_decider(self) -> None:
        node = Node()
        decider = Decider(
            NodeLog(self.log, node), CODEC, self.rules, clock_ms=lambda: self.log.true_ms() + node.skew_ms
        )  # fmt: skip
        self.deciders.append((decider, node, asyncio.create_task(decider.run())))

    def connect(self) -> Connection:
        """A client's own way to the log, from a machine of its own."""
        return Connection(NodeLog(self.log, Node()), CODEC)

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def audited(self) -> tuple[Report, dict[str, Found]]:
        """I6 and I15: the whole log decided anew, and whether deciders that lived through it remember the same."""
        report = await verify(self.log, CODEC, [self.rules], patience_seconds=0)
        if report.divergences:
            return report, {"accepted_is_the_fold": [str(divergence) for divergence in report.divergences]}
        expected = [found.state_hash for found in report.partitions]
        different = [
            f"partition {number}: a decider remembers something else"
            for decider, _, _ in self.deciders
            for number in range(PARTITIONS)
            if state_hash(self.rules, decider.histories[number].state) != expected[number]
        ]
        return report, {"states_are_equal": different} if different else {}


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


def lived(seed: int, work: Callable[[], Any]) -> Any:
    """Runs a simulation in virtual time, with all chance from the seed."""
    with all_from(seed), structlog.testing.capture_logs():
        return virtual_time.run(work())
