"""Three deciders own everything on a real broker and are killed with SIGKILL again and again while clients work.

Afterwards a stranger judges the log: the accepted history is the fold of the commands, every command has one answer,
no request has two ends, and a command that was answered before another was sent stands before it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from diurna_schemas.envelope import header
from diurna_schemas.message import Command
from diurna_schemas.topics import AGENTS, PARTITIONS, TOPICS, partition_of
from diurna_streams.log import TopicPartition
from diurna_streams.log.kafka import KafkaLog
from support.crowd import Crowd
from support.deciding import answers, decided, ends, judge, outgoing
from support.given import complete, register, submit
from support.stack import Embedded

pytestmark = [pytest.mark.chaos, pytest.mark.stack]
PROCESS = Path(__file__).parents[1] / "support" / "decider_process.py"
KILLS = 8


@pytest.fixture(scope="module")
async def broker() -> AsyncIterator[str]:
    """A broker of its own: what is judged is everything that stands on it."""
    stack = Embedded()
    yield (await stack.kafka()).bootstrap_servers
    await stack.close()


async def kill(owners: Crowd, chance: random.Random) -> None:
    """Kills one of the deciders now and then, so many in all."""
    while owners.kills < KILLS:
        await asyncio.sleep(chance.uniform(0.2, 1.5))
        await owners.kill_one()
    await owners.settled()


async def client(
    log: KafkaLog, agent_id: str, killing: asyncio.Task[None], chance: random.Random
) -> dict[str, tuple[float, float]]:
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
    while not killing.done():
        number += 1
        await ask(submit(f"{agent_id}-{number}", agent_id, timeout_ms=chance.choice([400, 60_000])))
        if chance.random() < 0.8:
            await ask(complete(f"{agent_id}-{number}", agent_id))
    await reader.close()
    await producer.close()
    return times


async def test_history_stays_single_and_right_while_its_deciders_are_killed(broker: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"chaos, seed {seed}")
    chance = random.Random(seed)
    async with KafkaLog(broker, client_id="chaos-client") as log:
        await log.provision(TOPICS.values())
        owners = Crowd(PROCESS, lambda _: (broker, AGENTS.name), chance, tmp_path)
        try:
            await owners.start(3)
            killing = asyncio.create_task(kill(owners, chance))
            clients = [client(log, f"agent-{number}", killing, random.Random(chance.random())) for number in range(6)]
            times: dict[str, tuple[float, float]] = {}
            for answered in await asyncio.gather(*clients):
                times |= answered
            await killing
            await decided(log, times)
        finally:
            await owners.end()
        found = [await judge(log, partition) for partition in range(PARTITIONS)]
    events = [event for judgement in found for event in judgement.events]
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
