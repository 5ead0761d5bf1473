"""Three deciders own everything on a real broker and are killed with SIGKILL again and again while clients work.

Afterwards a stranger judges the log: the accepted history is the fold of the commands, every command has one answer,
no request has two ends, and a command that was answered before another was sent stands before it.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from diurna_schemas.envelope import header
from diurna_schemas.message import Command
from diurna_schemas.topics import AGENTS, PARTITIONS, TOPICS, partition_of
from diurna_streams.log import TopicPartition
from diurna_streams.log.kafka import KafkaLog
from support.deciding import answers, decided, ends, judge, outgoing
from support.given import complete, register, submit
from support.stack import Embedded

pytestmark = [pytest.mark.chaos, pytest.mark.stack]
PROCESS = Path(__file__).parents[1] / "support" / "decider_process.py"
STORM_SECONDS = 20.0


@pytest.fixture(scope="module")
async def broker() -> AsyncIterator[str]:
    """A broker of its own: what is judged is everything that stands on it."""
    stack = Embedded()
    yield (await stack.kafka()).bootstrap_servers
    await stack.close()


class Owners:
    """Three deciders as processes; one of them is killed now and then, and another takes its place."""

    def __init__(self, bootstrap_servers: str, chance: random.Random) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._chance = chance
        self._alive: list[asyncio.subprocess.Process] = []
        self._started: list[asyncio.subprocess.Process] = []
        self._drains: set[asyncio.Task[bytes]] = set()
        self.kills = 0

    async def start(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROCESS), self._bootstrap_servers, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, limit=2**24,
        )  # fmt: skip
        assert process.stdout is not None
        self._started.append(process)
        async with asyncio.timeout(60):
            while b"ready" not in await process.stdout.readline():
                assert process.returncode is None, "the decider ended"
        self._alive.append(process)
        self._drains.add(asyncio.create_task(process.stdout.read()))

    async def kill_until(self, over_at: float) -> None:
        starting: set[asyncio.Task[None]] = set()
        while time.monotonic() < over_at:
            await asyncio.sleep(self._chance.uniform(0.2, 1.5))
            if len(self._alive) < 2:
                continue  # the one that takes its place is still starting
            victim = self._alive.pop(self._chance.randrange(len(self._alive)))
            victim.kill()
            await victim.wait()
            self.kills += 1
            starting.add(asyncio.create_task(self.start()))
        await asyncio.gather(*starting)

    async def stop(self) -> None:
        for process in self._started:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def client(log: KafkaLog, agent_id: str, over_at: float, chance: random.Random) -> dict[str, tuple[float, float]]:
    """Works one request after another and waits for each answer; when each command was sent, and when answered."""
    producer, times = await log.producer(), dict[str, tuple[float, float]]()
    place = TopicPartition(AGENTS.events, partition_of(agent_id))
    reader = await log.reader()
    await reader.start_at(await log.ends([place]))

    async def ask(command: Command) -> None:
        sent_at = time.monotonic()
        record = outgoing(command)
        for _ in range(chance.choice([1, 1, 1, 2])):  # some clients do not trust the first acknowledgement
            await producer.send(AGENTS.commands, partition_of(agent_id), record)
        async with asyncio.timeout(60):
            while True:
                found = await reader.read()
                if any(header(event.headers, "causationid") == command.command_id for event in found):
                    break
        times[command.command_id] = (sent_at, time.monotonic())

    await ask(register(agent_id, concurrency=2))
    number = 0
    while time.monotonic() < over_at:
        number += 1
        await ask(submit(f"{agent_id}-{number}", agent_id, timeout_ms=chance.choice([400, 60_000])))
        if chance.random() < 0.8:
            await ask(complete(f"{agent_id}-{number}", agent_id))
    await reader.close()
    await producer.close()
    return times


async def test_history_stays_single_and_right_while_its_deciders_are_killed(broker: str) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"chaos, seed {seed}")
    chance = random.Random(seed)
    async with KafkaLog(broker, client_id="chaos-client") as log:
        await log.provision(TOPICS.values())
        owners = Owners(broker, chance)
        try:
            await asyncio.gather(owners.start(), owners.start(), owners.start())
            over_at = time.monotonic() + STORM_SECONDS
            killing = asyncio.create_task(owners.kill_until(over_at))
            clients = [client(log, f"agent-{number}", over_at, random.Random(chance.random())) for number in range(6)]
            times: dict[str, tuple[float, float]] = {}
            for answered in await asyncio.gather(*clients):
                times |= answered
            await killing
            await decided(log, times)
        finally:
            await owners.stop()
        found = [await judge(log, partition) for partition in range(PARTITIONS)]
    events = [event for judgement in found for event in judgement.events]
    assert owners.kills >= 5
    assert len(times) > 50
    counted = answers(events)
    assert {command: counted[command] for command in times} == dict.fromkeys(times, 1)
    assert max(ends(events).values()) == 1
    for judgement in found:
        order = [event.command_id for event in judgement.events if event.command_id in times]
        latest_sent = 0.0
        for command_id in dict.fromkeys(order):
            sent_at, answered_at = times[command_id]
            assert answered_at >= latest_sent, f"{command_id} was answered before one that stands before it was sent"
            latest_sent = max(latest_sent, sent_at)
    print(
        f"{len(times)} commands, {owners.kills} kills, {sum(j.duplicates for j in found)} duplicates, "
        f"{sum(j.aliens for j in found)} aliens dropped"
    )
