"""The auditor that never stops, on a log that does not always answer: it finds what is wrong, and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog

from diurna_schemas.errors import Unavailable
from diurna_schemas.locks import AcquireLock
from diurna_schemas.message import Command, Heading
from diurna_schemas.topics import LOCKS, TOPICS, partition_of
from diurna_streams.audit import Auditor
from diurna_streams.audit import service as service_module
from diurna_streams.deciders.locks import RULES
from diurna_streams.log import Outgoing, TopicPartition
from support.deciding import CODEC, RivalMemoryLog, decided, deciding, send
from support.histories import event_record
from support.locks_given import RESOURCE, acquire, release
from support.teams import eventually

HOME = partition_of(RESOURCE)


class MoodyLog(RivalMemoryLog):
    """Says where it ends only now and then, once it is moody."""

    def __init__(self) -> None:
        super().__init__()
        self.is_moody = False
        self._chance = random.Random(1)

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        if self.is_moody and self._chance.random() < 0.4:
            raise Unavailable("not now")
        return await super().ends(partitions)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {
        "LOOK_EVERY_SECONDS": 0.02, "_RETRY_SECONDS": 0.01, "PATIENCE_MS": 20, "STANDSTILL_SECONDS": 0.2,
        "QUEUED_RECORDS_MAX": 8, "READ_RECORDS_MAX": 3,
    }.items():  # fmt: skip
        monkeypatch.setattr(service_module, name, value)
    with structlog.testing.capture_logs():
        yield


async def followed(log: RivalMemoryLog) -> tuple[Auditor, asyncio.Task[None]]:
    auditor = Auditor(log, CODEC, [RULES])
    running = asyncio.create_task(auditor.run())
    await auditor.is_following.wait()
    return auditor, running


def failing_for_two(state: Any, command: Command, heading: Heading) -> Any:
    if isinstance(command, AcquireLock) and command.agent_id == "two":
        raise ValueError("a fault in the rules")
    return RULES.decide(state, command, heading)


async def test_what_does_not_answer_is_asked_again_and_is_no_divergence() -> None:
    """Dead letters to be looked up, backlogs to be caught up with, and ends to be measured, all of it now and then."""
    log = MoodyLog()
    await log.provision(TOPICS.values())
    auditor, running = await followed(log)
    commands: list[Command] = []
    for number in range(20):
        commands += [acquire("one", lock_id=f"l{number}"), acquire("two", wait_ms=9_000), release("one")]
    await send(log, *commands)
    log.is_moody = True
    await eventually(lambda: any(course.behind for course in auditor.courses))
    log.is_moody = False  # the decider's own questions are answered
    async with deciding(log, rules=replace(RULES, decide=failing_for_two)) as decider:
        log.is_moody = True
        answered = [command.command_id for command in commands if getattr(command, "agent_id", "") == "one"]
        await eventually(lambda: decider.histories[HOME].accepted_count == len(answered))
        await eventually(lambda: auditor.courses[HOME].refold.head.hash == decider.histories[HOME].head.hash)
    assert auditor.divergences == []
    assert auditor.courses[HOME].refold.counts.buried == 20
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.parametrize("kind", ["surplus", "unlinked"])
async def test_what_shows_only_in_that_nothing_follows_is_found_after_a_while(kind: str) -> None:
    log = MoodyLog()
    await log.provision(TOPICS.values())
    auditor, running = await followed(log)
    async with deciding(log, rules=RULES):
        await send(log, command := acquire("one"))
        await decided(log, [command.command_id], rules=RULES)
    (last,) = log.records(LOCKS.events, HOME)
    event: Any = CODEC.decode(last.value)
    previous = dict(last.headers)["chain_hash"].decode() if kind == "surplus" else "f" * 32
    forged = event_record(RULES, event, (9, 0), previous, offset=1, partition=HOME)
    log.append(LOCKS.events, HOME, [Outgoing(forged.key, forged.value, forged.headers, forged.timestamp_ms)])
    await eventually(lambda: bool(auditor.divergences))
    (found,) = auditor.divergences
    assert (found.kind, found.position) == (kind, forged.position)
    running.cancel()
    await asyncio.wait([running])
