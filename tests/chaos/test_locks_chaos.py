"""Locks on a real broker while everything dies: deciders, broker and Postgres killed with SIGKILL, holders stopped.

Model. Two owners decide every partition of the locks. Clients, in processes of their own, take locks and touch a row in
Postgres that knows the largest token it has seen. Now and then a decider is killed, or stands still and goes on as a
zombie; the broker is killed; Postgres is killed; a holder stands still for longer than its lease and then touches what
it no longer holds. Clients write down what they ask for before they ask, and what they are told.

Afterwards strangers judge: the checkers of `support.lock_checkers` what clients, guard and log say; the auditor the log
against the rules; Porcupine what clients were told. Before that each of them sees this very history with one thing
wrong in it.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from diurna_deploy.stack.node import Node
from diurna_schemas.errors import Unavailable
from diurna_schemas.locks import (
    LockExpired,
    LockQueued,
    LockRenewed,
    ResourceLocked,
    ResourceUnlocked,
)
from diurna_schemas.message import Event
from diurna_schemas.topics import LOCKS, PARTITIONS, TOPICS, partition_of
from diurna_streams.audit import Report, verify
from diurna_streams.deciders.locks import RULES
from diurna_streams.log.kafka import KafkaLog
from support import holder_process
from support.crowd import Crowd
from support.deciding import CODEC, decided, send
from support.lock_checkers import everywhere, verdicts
from support.lock_history import Decided, LockHistory, from_lines, read_history
from support.locks_given import acquire
from support.outside_judge import judge_locks
from support.stack import Embedded

pytestmark = [pytest.mark.chaos, pytest.mark.stack, pytest.mark.timeout(300)]
SUPPORT = Path(__file__).parents[1] / "support"
STORM_SECONDS = float(os.environ.get("DIURNA_CHAOS_SECONDS", "30"))
SLACK_MS = 30_000
"""A lease that only a tick ends waits for whoever is down: the broker takes seconds to come back."""
CHECKERS = everywhere(slack_ms=SLACK_MS, has_clock_steps=False)


@dataclass
class Stage:
    """Where it plays: a broker and a database of this test's own."""

    kafka: Node
    postgres: Node
    bootstrap_servers: str
    database_url: str


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stack = Embedded()
    try:
        kafka, postgres = await asyncio.gather(stack.kafka(), stack.postgres())
        yield Stage(kafka, postgres, kafka.bootstrap_servers, postgres.database_url())
    finally:
        await stack.close()


async def killed(node: Node) -> None:
    """Killed with SIGKILL, and started again with what was on its disk."""
    record = node.running()
    assert record is not None
    record.identity.send(signal.SIGKILL)
    await record.identity.ended(10)
    await node.start()


async def storm(stage: Stage, owners: Crowd, holders: Crowd, chance: random.Random) -> dict[str, int]:
    """Everything that may go wrong goes wrong, several things at a time."""
    happened: dict[str, int] = {}
    over_at = time.monotonic() + STORM_SECONDS

    async def keep(name: str, pause_s: tuple[float, float], act: Callable[[], Any]) -> None:
        while True:
            await asyncio.sleep(chance.uniform(*pause_s))
            if time.monotonic() > over_at:
                return
            await act()
            happened[name] = happened.get(name, 0) + 1

    await asyncio.gather(
        keep("owner killed", (1.0, 3.0), owners.kill_one),
        keep("owner stopped", (2.0, 5.0), lambda: owners.stop_one_for(chance.uniform(0.5, 4))),
        keep("holder stopped", (1.0, 2.0), lambda: holders.stop_one_for(chance.uniform(1.5, 5))),
        keep("holder killed", (6.0, 12.0), holders.kill_one),
        keep("broker killed", (STORM_SECONDS / 4, STORM_SECONDS / 3), lambda: killed(stage.kafka)),
        keep("Postgres killed", (STORM_SECONDS / 6, STORM_SECONDS / 4), lambda: killed(stage.postgres)),
    )
    await owners.settled()
    await holders.settled()
    return happened


async def quiet(log: KafkaLog) -> None:
    """Waits until everything that was asked is decided, and every lease has ended by itself."""
    markers = [
        next(name for n in range(1000) if partition_of(name := f"quiet:{n}") == partition)
        for partition in range(PARTITIONS)
    ]
    commands = [acquire("last", marker, lease_ms=1_000) for marker in markers]
    async with asyncio.timeout(60):
        while True:
            try:
                await send(log, *commands)
                break
            except Unavailable:
                continue
    await decided(log, [command.command_id for command in commands], rules=RULES, seconds=60)
    async with asyncio.timeout(30):
        while still_held(await read_history(log, CODEC)):  # noqa: ASYNC110 - it is on the log, later
            await asyncio.sleep(0.5)


def still_held(history: LockHistory) -> set[str]:
    """Resources that are granted and not given back."""
    held: set[str] = set()
    for event in history.events:
        if isinstance(event, ResourceLocked):
            held.add(event.resource_id)
        elif type(event).__name__ in {"ResourceUnlocked", "LockExpired", "LockForceReleased"}:
            held.discard(event.key)
    return held


async def test_locks_hold_while_everything_around_them_dies(stage: Stage, tmp_path: Path) -> None:
    seed = int(os.environ.get("DIURNA_CHAOS_SEED", time.time_ns() % 1_000_000))
    print(f"chaos of locks, seed {seed}")
    chance = random.Random(seed)
    journals = tmp_path / "journals"
    journals.mkdir()
    database = await asyncpg.connect(stage.database_url)
    await database.execute(holder_process.TABLES)
    await database.close()

    def holder(number: int) -> tuple[str, ...]:
        name = f"holder-{number}"
        return (
            stage.bootstrap_servers, stage.database_url, name, str(chance.randrange(2**32)),
            str(journals / f"{name}.jsonl"),
        )  # fmt: skip

    owners = Crowd(SUPPORT / "decider_process.py", lambda _: (stage.bootstrap_servers, LOCKS.name), chance, tmp_path)
    holders = Crowd(SUPPORT / "holder_process.py", holder, chance, tmp_path)
    async with KafkaLog(stage.bootstrap_servers, client_id="judge") as log:
        await log.provision(TOPICS.values())
        try:
            await owners.start(2)
            await holders.start(3)
            happened = await storm(stage, owners, holders, chance)
            await holders.end()
            await quiet(log)
            report = await verify(log, CODEC, [RULES])
        finally:
            await holders.end()
            await owners.end()
        operations = [one for path in sorted(journals.iterdir()) for one in from_lines(path.read_text())]
        history = await read_history(log, CODEC, operations, await holder_process.accesses_of(stage.database_url))
    print(told(history, report, happened))
    every_judge_sees_what_is_broken(history)
    assert verdicts(history, CHECKERS) == {}
    assert report.is_clean, "\n".join(map(str, report.divergences))
    assert happened.keys() >= {"owner killed", "owner stopped", "holder stopped", "broker killed", "Postgres killed"}
    assert sum(operation.outcome == "ok" for operation in operations) > 20
    assert len({access.lock_id for access in history.accesses if access.is_accepted}) > 5
    if shutil.which("go"):
        verdict = judge_locks(operations, picture=tmp_path / "history.html")
        print(f"Porcupine says {verdict}")
        assert verdict != "illegal"


def told(history: LockHistory, report: Report, happened: dict[str, int]) -> str:
    outcomes = {
        outcome: sum(operation.outcome == outcome for operation in history.operations)
        for outcome in ("ok", "no", "unknown")
    }
    stale = sum(not access.is_accepted for access in history.accesses)
    return (
        f"{happened}; {report.total('commands')} commands, {len(history.events)} events, "
        f"{report.total('duplicates')} duplicates, {report.total('aliens')} aliens dropped; clients were told "
        f"{outcomes}; the guard saw {len(history.accesses)} accesses and refused {stale}"
    )


def every_judge_sees_what_is_broken(history: LockHistory) -> None:
    """This very history, with one thing wrong at a time."""

    def without(kind: type[Event]) -> Callable[[LockHistory], None]:
        def cut(broken: LockHistory) -> None:
            lane, at = place_of(broken, kind)
            del lane.events[at]

        return cut

    def with_fields(kind: type[Event], **fields: Any) -> Callable[[LockHistory], None]:
        def change(broken: LockHistory) -> None:
            lane, at = place_of(broken, kind)
            offset, event = lane.events[at]
            lane.events[at] = Decided(offset, event.model_copy(update=fields))

        return change

    def swap(broken: LockHistory) -> None:
        broken.accesses.append(replace(broken.accesses[0], is_accepted=True))

    def stretch(broken: LockHistory) -> None:
        for operation in broken.operations:
            operation.lease_s += 60

    def later(broken: LockHistory) -> None:
        last = max((one for one in broken.operations if one.outcome == "ok"), key=lambda one: one.called_s)
        first = min((one for one in broken.operations if one.outcome == "ok"), key=lambda one: one.called_s)
        first.called_s, first.returned_s = last.called_s + 500, last.called_s + 501

    def otherwise(broken: LockHistory) -> None:
        next(one for one in broken.operations if one.outcome == "ok" and one.token).token = 1

    for name, damage in {
        "one_holder": without(ResourceUnlocked),
        "tokens_grow": with_fields(ResourceLocked, fencing_token=1),
        "first_come_first_served": without(LockQueued),
        "one_answer": without(LockRenewed),
        "nothing_outlasts_its_deadline": with_fields(LockExpired, at_ms=0),
        "time_goes_on": with_fields(LockRenewed, at_ms=0),
        "guard_lets_one_in_at_a_time": swap,
        "leases_are_disjoint": stretch,
        "real_time_order": later,
        "told_what_is_on_the_log": otherwise,
    }.items():
        broken = deepcopy(history)
        damage(broken)
        assert name in verdicts(broken, CHECKERS), f"{name} does not see what is broken"


def place_of(history: LockHistory, kind: type[Event]) -> tuple[Any, int]:
    """The middle one of these events."""
    found = [
        (lane, at)
        for lane in history.partitions
        for at, (_, event) in enumerate(lane.events)
        if isinstance(event, kind)
    ]  # fmt: skip
    return found[len(found) // 2]
