"""What the auditor promises, on memory and on a real broker: true histories are clean, and a forged event is named."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from diurna_schemas.locks import AcquireLock
from diurna_schemas.message import Command, Event, Heading
from diurna_schemas.topics import partition_of
from diurna_schemas.workflows import CreateWorkflow, UpdateWorkflowState, WorkflowStateUpdated
from diurna_streams import snapshots
from diurna_streams.audit import Auditor, Report, metrics, verify
from diurna_streams.audit import service as service_module
from diurna_streams.audit.refold import state_hash
from diurna_streams.decide import runner
from diurna_streams.deciders import agents, locks, workflows
from diurna_streams.deciders.rules import Rules
from diurna_streams.log import Log, Outgoing, Record, TopicPartition
from support.deciding import CODEC, decided, deciding, read_all, send
from support.given import complete, register, submit
from support.histories import event_record
from support.locks_given import acquire, release, renew
from support.teams import eventually

MakeLog = Callable[[], Log]
AnyRules = Rules[Any, Any, Any]


@pytest.fixture
def name() -> str:
    """Of this test's own: on a broker the topics are shared."""
    return uuid.uuid4().hex[:10]


def work(rules: AnyRules, name: str, count: int) -> list[Command]:
    """Commands of one family about a few things."""
    commands: list[Command] = []
    if rules is agents.RULES:
        commands.append(register(name, concurrency=3))
    for number in range(count):
        if rules is agents.RULES:
            commands += [submit(f"{name}-{number}", name), complete(f"{name}-{number}", name)]
        elif rules is locks.RULES:
            resource = f"file:{name}-{number % 5}"
            lock_id = f"{name}-{number}"
            commands += [
                acquire("one", resource, lock_id=lock_id),
                acquire("two", resource, lock_id=f"{lock_id}-w", wait_ms=60_000),
                release("one", resource),
                renew("two", resource, lock_id=f"{lock_id}-w"),
                release("two", resource),
            ]
        else:
            workflow_id = f"{name}-{number}"
            commands += [
                CreateWorkflow(command_id=f"{workflow_id}-c", workflow_id=workflow_id, workflow_type="t"),
                UpdateWorkflowState(command_id=f"{workflow_id}-u", workflow_id=workflow_id, updates="{}",
                                    expected_version=1),
            ]  # fmt: skip
    return commands


@asynccontextmanager
async def two_owners(new_log: MakeLog, rules: AnyRules) -> AsyncIterator[Any]:
    async with deciding(new_log(), rules=rules) as one, deciding(new_log(), rules=rules):
        yield one


async def done(log: Log, rules: AnyRules, commands: Sequence[Command]) -> None:
    await send(log, *commands)
    await decided(log, [command.command_id for command in commands], rules=rules)


def clean(report: Report) -> Report:
    assert report.is_clean, "\n".join(map(str, report.divergences))
    return report


@pytest.mark.parametrize("rules", [agents.RULES, locks.RULES], ids=["agents", "locks"])
async def test_what_two_owners_wrote_is_clean_and_every_state_is_the_same(
    new_log: MakeLog, rules: AnyRules, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I6 and I15: the auditor's state, the live one, the recovered one and the snapshot's have one hash."""
    monkeypatch.setattr(runner, "SNAPSHOT_EVERY_EVENTS", 25)
    log = new_log()
    async with two_owners(new_log, rules) as live:
        await done(log, rules, work(rules, name, 30))
        report = clean(await verify(log, CODEC, [rules]))
        for number in range(50):  # a snapshot is written when a command comes and one is due
            if has_snapshot(report) and report.total("duplicates") > 0:
                break
            await done(log, rules, work(rules, f"{name}-{number}", 1))
            report = clean(await verify(log, CODEC, [rules]))
        assert has_snapshot(report)
        await eventually(lambda: [history.head.hash for history in live.histories] == heads(report))
        live_hashes = [state_hash(rules, history.state) for history in live.histories]
    assert report.total("redecided") > 60
    assert report.total("folded") == 0
    assert report.total("duplicates") > 0, "both must have written"
    assert hashes(report) == live_hashes
    for from_events in (False, True):
        if from_events:
            monkeypatch.setattr(snapshots, "load", no_snapshot)
        async with deciding(new_log(), rules=rules) as recovered:
            assert [state_hash(rules, history.state) for history in recovered.histories] == live_hashes


def has_snapshot(report: Report) -> bool:
    return any(found.snapshot == "equal" for found in report.partitions)


def heads(report: Report) -> list[str]:
    return [found.head_hash for found in report.partitions]


def hashes(report: Report) -> list[str]:
    return [found.state_hash for found in report.partitions]


async def no_snapshot(*_arguments: object) -> None:
    return None


async def test_a_command_that_was_buried_is_no_missing_event(new_log: MakeLog, name: str) -> None:
    """The rules failed on it that day and do not today: its dead letter says so, and the audit looks it up."""
    log, resource = new_log(), f"file:{name}"

    def failing(state: Any, command: Command, heading: Heading) -> Any:
        if isinstance(command, AcquireLock) and command.agent_id == "two":
            raise ValueError("a fault in the rules")
        return locks.RULES.decide(state, command, heading)

    async with deciding(log, rules=replace(locks.RULES, decide=failing)):
        await send(log, acquire("one", resource), acquire("two", resource, wait_ms=60_000))
        await done(log, locks.RULES, [release("one", resource)])
    report = clean(await verify(log, CODEC, [locks.RULES]))
    assert report.total("buried") == 1


async def append(log: Log, record: Record) -> None:
    producer = await log.producer()
    written = Outgoing(record.key, record.value, record.headers, record.timestamp_ms)
    assert await producer.send_batch(record.topic, record.partition, [written]) == record.offset
    await producer.close()


async def test_the_service_follows_what_is_decided_and_alarms_on_a_forged_event(
    new_log: MakeLog, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "LOOK_EVERY_SECONDS", 0.05)
    log, rules = new_log(), workflows.RULES
    auditor = Auditor(new_log(), CODEC, [rules])
    auditing = asyncio.create_task(auditor.run())
    async with asyncio.timeout(30):
        await auditor.is_following.wait()
    async with two_owners(new_log, rules):
        await done(log, rules, work(rules, name, 30))
        report = clean(await verify(log, CODEC, [rules]))
        await eventually(lambda: [course.refold.head.hash for course in auditor.courses] == heads(report))
        assert auditor.divergences == []
        decided_again = sum(course.refold.counts.redecided for course in auditor.courses)
        assert decided_again == report.total("redecided")
    # Only now, with both owners gone, does the log stand still: the slower one may repeat events after the report.
    ends = await log.ends(TopicPartition(rules.family.events, found.partition) for found in report.partitions)
    await eventually(lambda: sample(metrics.POSITION) == sum(ends.values()))
    assert sample(metrics.LAG) == sample(metrics.DIVERGED) == 0

    # An event that links, from somebody who knows the chain: the command after the last one, with an answer of its own.
    victim = f"{name}-0"
    partition = partition_of(victim)
    update = UpdateWorkflowState(command_id=f"{name}-x", workflow_id=victim, updates="{}")
    (at,) = await send(log, update)
    # Not the last event on the log: that may be one which the slower owner began to repeat.
    head, offset = heads(report)[partition], ends[TopicPartition(rules.family.events, partition)]
    record = (await read_all(log, TopicPartition(rules.family.commands, partition)))[-1]
    forged = WorkflowStateUpdated(
        command_id=update.command_id, at_ms=record.timestamp_ms, workflow_id=victim, updates='{"paid":true}',
        agent_id=None, version=3,
    )  # fmt: skip
    await append(log, event_record(rules, forged, (at, 0), head, offset=offset, partition=partition))
    await eventually(lambda: bool(auditor.divergences))
    (alarm,) = auditor.divergences
    (named,) = (await verify(log, CODEC, [rules])).divergences
    assert alarm == named
    assert (alarm.kind, alarm.position.offset, alarm.position.partition) == ("differs", offset, partition)
    assert '{"paid":true}' in alarm.found
    await eventually(lambda: sample(metrics.DIVERGED) == 1)
    others = [course for course in auditor.courses if course.refold.partition != partition]
    untouched = next(f"other-{n}" for n in range(99) if partition_of(f"other-{n}") != partition)
    before = sum(course.refold.counts.commands for course in others)
    async with deciding(new_log(), rules=rules):
        await done(log, rules, [CreateWorkflow(command_id=f"{name}-o", workflow_id=untouched, workflow_type="t")])
    await eventually(lambda: sum(course.refold.counts.commands for course in others) > before)
    assert not auditing.done()
    auditing.cancel()
    await asyncio.wait([auditing])


async def test_commands_that_pile_up_undecided_are_left_on_the_log_until_they_are_decided(
    new_log: MakeLog, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "QUEUED_RECORDS_MAX", 20)
    monkeypatch.setattr(service_module, "READ_RECORDS_MAX", 10)
    log, rules = new_log(), locks.RULES
    auditor = Auditor(new_log(), CODEC, [rules])
    auditing = asyncio.create_task(auditor.run())
    commands = work(rules, name, 60)
    await send(log, *commands)
    await eventually(lambda: any(course.behind for course in auditor.courses))
    assert all(sum(course.refold.queued) <= 20 + 10 for course in auditor.courses)
    async with two_owners(new_log, rules):
        await decided(log, [command.command_id for command in commands], rules=rules)
        report = clean(await verify(log, CODEC, [rules]))
        await eventually(lambda: [course.refold.head.hash for course in auditor.courses] == heads(report))
    assert auditor.divergences == []
    auditing.cancel()
    await asyncio.wait([auditing])


def sample(gauge: Any) -> float:
    """The sum over the partitions of workflows."""
    (family,) = gauge.collect()
    return sum(found.value for found in family.samples if found.labels["topic"] == "workflows.events")


async def test_history_that_stands_still_behind_a_forged_link_is_named(new_log: MakeLog, name: str) -> None:
    log, rules = new_log(), agents.RULES
    partition = partition_of(name)
    async with deciding(log, rules=rules):
        await done(log, rules, work(rules, name, 3))
    last = (await read_all(log, TopicPartition(rules.family.events, partition)))[-1]
    place = (int(dict(last.headers)["chain_at"].split(b".")[1]) + 1, 0)
    event = CODEC.decode(last.value)
    assert isinstance(event, Event)
    forged = event_record(rules, event, place, "f" * 32, offset=last.offset + 1, partition=partition)
    await append(log, forged)
    (named,) = (await verify(log, CODEC, [rules], patience_seconds=0.2)).divergences
    assert (named.kind, named.position) == ("unlinked", forged.position)
    async with deciding(log, rules=rules):  # an owner that goes on passes over it, and so does everybody
        await done(log, rules, [register(name, "another")])
    assert clean(await verify(log, CODEC, [rules])).total("aliens") > 0
