"""A log in memory on which everything goes wrong that may: seeded, with a clock of its own that turns back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from diurna_schemas.agents import AgentStatusChanged
from diurna_schemas.chain import Acceptor, Head, Verdict
from diurna_schemas.envelope import Link, chain_hash, event_headers, link_of
from diurna_schemas.errors import Unavailable
from diurna_schemas.message import Command
from diurna_schemas.topics import AGENTS, TOPICS, partition_of
from diurna_streams.decide import Decider
from diurna_streams.deciders.agents import RULES
from diurna_streams.log import Outgoing
from diurna_streams.log.memory import MemoryProducer
from support.agents_book import Book, Random
from support.deciding import CODEC, RivalMemoryLog, outgoing

STEPS_MS = (-5_000, -300, 0, 0, 0, 1, 20, 400, 4_000)


@dataclass
class Weather:
    """How often what happens; one in so many."""

    refused: int = 12
    acknowledgement_lost: int = 12
    flushed_late: int = 12
    zombies: int = 10
    sent_twice: int = 6
    crashes: int = 25
    skipped: int = 0


class StormLog(RivalMemoryLog):
    """Memory whose writes fail, land late, or are not acknowledged, and onto which zombies write."""

    def __init__(self, chance: random.Random, weather: Weather) -> None:
        self.now_ms = 1_790_000_000_000
        super().__init__(clock_ms=lambda: self.now_ms)
        self.chance = chance
        self.weather = weather
        self.is_calm = False
        self.late: list[tuple[str, int, list[Outgoing]]] = []
        self.happened: dict[str, int] = {}

    def happens(self, what: str) -> bool:
        one_in = int(getattr(self.weather, what))
        is_now = not self.is_calm and one_in > 0 and self.chance.randrange(one_in) == 0
        if is_now:
            self.happened[what] = self.happened.get(what, 0) + 1
        return is_now

    async def producer(self) -> StormProducer:
        return StormProducer(self)

    def flush(self) -> None:
        """Writes what was held back, in any order."""
        self.chance.shuffle(self.late)
        while self.late:
            topic, partition, records = self.late.pop()
            self.append(topic, partition, records)

    def haunt(self, partition: int) -> None:
        """A zombie decides a command to come, from what it knew some events ago."""
        records = self.records(AGENTS.events, partition)
        acceptor = Acceptor(Head())
        accepted = [record for record in records if acceptor.accept(record.offset, record.headers) is Verdict.ACCEPTED]
        if len(accepted) < 3:
            return
        known = link_of(self.chance.choice(accepted[:-1]).headers)
        offset = len(self.records(AGENTS.commands, partition))
        event = AgentStatusChanged(
            command_id="zombie", at_ms=self.now_ms, agent_id="worker", instance_id="one", previous="active",
            status="offline", reason="from the grave",
        )  # fmt: skip
        value, at = CODEC.encode(event), f"1.{offset}.0"
        digest = chain_hash(known.hash, at, event.type_name, b"worker", value)
        link = Link(1, offset, 0, known.hash, digest)
        headers = event_headers(event, link, partition=partition, correlation_id=None, traceparent=None)
        self.append(AGENTS.events, partition, [Outgoing(b"worker", value, headers, event.at_ms)])


class StormProducer(MemoryProducer):
    """Writes when it can."""

    def __init__(self, log: StormLog) -> None:
        super().__init__(log)
        self._storm = log

    async def send_batch(self, topic: str, partition: int, records: Sequence[Outgoing]) -> int:
        storm = self._storm
        for _ in range(storm.chance.randrange(4)):
            await asyncio.sleep(0)  # others get in between
        if storm.happens("refused"):
            raise Unavailable("refused")
        if storm.happens("flushed_late"):
            storm.late.append((topic, partition, list(records)))
            raise Unavailable("held back")
        offset = storm.append(topic, partition, records)
        if storm.happens("acknowledgement_lost"):
            raise Unavailable("the acknowledgement was lost")
        await asyncio.sleep(0)
        return offset


@dataclass
class Storm:
    """Deciders that all believe they own everything, clients that repeat themselves, and the weather."""

    seed: int
    weather: Weather = field(default_factory=Weather)
    deciders_count: int = 3

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.log = StormLog(self.chance, self.weather)
        self.sent: list[Command] = []
        self._running: list[asyncio.Task[None]] = []

    def _start(self) -> None:
        decider = Decider(self.log, CODEC, RULES, clock_ms=lambda: self.log.now_ms)
        self._running.append(asyncio.create_task(decider.run()))

    async def _crash(self) -> None:
        task = self._running.pop(self.chance.randrange(len(self._running)))
        task.cancel()
        await asyncio.wait([task])
        self._start()

    async def run(self, commands: int) -> StormLog:
        """Lets it blow over `commands` commands, and then has one decider finish what is left."""
        log = self.log
        await log.provision(TOPICS.values())
        try:
            await self._blow(commands)
        finally:
            for task in self._running:
                task.cancel()
        await self._calm()
        return log

    async def _blow(self, commands: int) -> None:
        log = self.log
        for _ in range(self.deciders_count):
            self._start()
        source, book = Random(self.chance), Book(RULES)
        for _ in range(commands):
            command = source.command(book)
            source.sent.append(command)
            await self._send(command)
            log.now_ms += self.chance.choice(STEPS_MS)
            if log.happens("crashes"):
                await self._crash()
            if log.late and self.chance.random() < 0.3:
                log.flush()
            if log.happens("zombies"):
                log.haunt(partition_of("worker"))
            for _ in range(self.chance.randrange(6)):
                await asyncio.sleep(0)

    async def _send(self, command: Command) -> None:
        """Sends a command; some are sent again later, some beside others that came after them."""
        self.sent.append(command)
        for _ in range(2 if self.log.happens("sent_twice") else 1):
            self.log.append(command.topic, partition_of(command.key), [outgoing(command)])
        if self.log.happens("sent_twice"):
            again = self.chance.choice(self.sent)
            self.log.append(again.topic, partition_of(again.key), [outgoing(again)])

    async def _calm(self) -> None:
        done = await asyncio.wait(self._running)
        for task in done[0]:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        self.log.flush()
        self.log.is_calm = True
