"""A log in memory on which everything goes wrong that may: seeded, with a clock of its own that turns back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from diurna_schemas.chain import Acceptor, Head, Verdict
from diurna_schemas.envelope import link_of
from diurna_schemas.errors import Unavailable
from diurna_schemas.message import Command, Heading
from diurna_schemas.topics import TOPICS, partition_of
from diurna_streams.decide import Decider
from diurna_streams.decide.reading import read_command
from diurna_streams.deciders import agents
from diurna_streams.deciders.rules import Rules
from diurna_streams.log import Outgoing, Record
from diurna_streams.log.memory import MemoryProducer
from support.agents_book import Book, Random
from support.deciding import CODEC, RivalMemoryLog, outgoing
from support.histories import event_record

STEPS_MS = (-5_000, -300, 0, 0, 0, 1, 20, 400, 4_000)


@dataclass
class Weather:
    """How often what happens; one in so many, 0 is never."""

    refused: int = 12
    acknowledgement_lost: int = 12
    flushed_late: int = 12
    zombies: int = 10
    sent_twice: int = 6
    crashes: int = 25


class StormLog(RivalMemoryLog):
    """Memory whose writes fail, land late, or are not acknowledged, and onto which zombies write."""

    def __init__(
        self,
        chance: random.Random,
        weather: Weather,
        *,
        rules: Rules[Any, Any, Any] = agents.RULES,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        self.now_ms = 1_790_000_000_000
        super().__init__(clock_ms=clock_ms or (lambda: self.now_ms))
        self.chance = chance
        self.weather = weather
        self.rules = rules
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

    async def lag(self) -> None:
        """Others get in between."""
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)

    def hold_back(self, topic: str, partition: int, records: Sequence[Outgoing]) -> None:
        """Keeps what its writer believes to be lost."""
        self.late.append((topic, partition, list(records)))

    def flush(self) -> None:
        """Writes what was held back, in any order."""
        self.chance.shuffle(self.late)
        while self.late:
            topic, partition, records = self.late.pop()
            self.append(topic, partition, records)

    def haunt(self, partition: int) -> None:
        """A zombie decides the last command there is, from what it knew some events ago."""
        family = self.rules.family
        commands = self.records(family.commands, partition)
        acceptor = Acceptor(Head())
        accepted = [
            record
            for record in self.records(family.events, partition)
            if acceptor.accept(record.offset, record.headers) is Verdict.ACCEPTED
        ]
        if len(accepted) < 3 or not commands:
            return
        known = accepted[: self.chance.randrange(1, len(accepted))]
        written = self._decided_late(known, commands[-1])
        if written:
            self.append(family.events, partition, written)
            self.happened["haunted"] = self.happened.get("haunted", 0) + 1

    def _decided_late(self, known: Sequence[Record], command: Record) -> list[Outgoing]:
        state = self.rules.initial
        for record in known:
            state = self.rules.evolve(state, CODEC.decode(record.value), link_of(record.headers).command_offset)
        heading = Heading(command.offset, command.timestamp_ms)
        previous = link_of(known[-1].headers).hash
        written: list[Outgoing] = []
        for index, event in enumerate(self.rules.decide(state, read_command(command, CODEC), heading).events):
            place = (command.offset, index)
            made = event_record(self.rules, event, place, previous, offset=0, partition=command.partition)
            previous = link_of(made.headers).hash
            written.append(Outgoing(made.key, made.value, made.headers, made.timestamp_ms))
        return written


class StormProducer(MemoryProducer):
    """Writes when it can."""

    def __init__(self, log: StormLog) -> None:
        super().__init__(log)
        self._storm = log

    async def send_batch(self, topic: str, partition: int, records: Sequence[Outgoing]) -> int:
        storm = self._storm
        await storm.lag()
        if storm.happens("refused"):
            raise Unavailable("refused")
        if storm.happens("flushed_late"):
            storm.hold_back(topic, partition, records)
            raise Unavailable("held back")
        offset = storm.append(topic, partition, records)
        if storm.happens("acknowledgement_lost"):
            raise Unavailable("the acknowledgement was lost")
        await asyncio.sleep(0)
        return offset


@dataclass
class Storm:
    """Deciders of agents that all believe they own everything, clients that repeat themselves, and the weather."""

    seed: int
    weather: Weather = field(default_factory=Weather)
    deciders_count: int = 3

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.log = StormLog(self.chance, self.weather)
        self.sent: list[Command] = []
        self._running: list[asyncio.Task[None]] = []

    def _start(self) -> None:
        decider = Decider(self.log, CODEC, agents.RULES, clock_ms=lambda: self.log.now_ms)
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
        source, book = Random(self.chance), Book(agents.RULES)
        for _ in range(commands):
            command = source.command(book)
            source.sent.append(command)
            await self._send(command)
            log.now_ms += self.chance.choice(STEPS_MS)
            if log.happens("crashes"):
                await self._crash()
            if log.late and self.chance.random() < 0.3:
                log.flush()
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
        if self.log.happens("zombies"):
            self.log.haunt(partition_of(command.key))

    async def _calm(self) -> None:
        done = await asyncio.wait(self._running)
        for task in done[0]:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        self.log.flush()
        self.log.is_calm = True
