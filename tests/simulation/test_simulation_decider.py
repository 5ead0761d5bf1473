"""The decision path in a storm: seeded overlaps, crashes, late flushes, zombies, repetitions, clocks that turn back.

Everything real but the log: the runner, the follower, the histories and the rules. Afterwards a stranger reads the log
and folds the commands anew. Whatever happened, the accepted history must be exactly that fold.
"""

from __future__ import annotations

import asyncio

import pytest
import structlog

from diurna_schemas.topics import PARTITIONS, partition_of
from diurna_streams.deciders import agents
from diurna_streams.log import Record
from diurna_streams.log.memory import MemoryReader
from support.book import fingerprint
from support.chain_mutants import Rule, everything, have_readers_judge_by, order_only
from support.deciding import BESIDE, CODEC, Judgement, answers, decided, deciding, ends, fold, judge, send
from support.given import change_status
from support.storm import Storm, StormLog, Weather

SEEDS = range(16)


async def weathered(seed: int, weather: Weather | None = None, commands: int = 120) -> tuple[StormLog, list[Judgement]]:
    """A storm, then one decider that finishes, then the judgement."""
    with structlog.testing.capture_logs():
        log = await Storm(seed, weather or Weather()).run(commands)
        marker = [change_status("busy", agent_id) for agent_id in ("worker", "other")]
        async with deciding(log, clock_ms=lambda: log.now_ms) as last:
            await send(log, *marker)
            await decided(log, [command.command_id for command in marker], seconds=3)
            found = [await judge(log, partition) for partition in range(PARTITIONS)]
            for partition, judgement in enumerate(found):
                if judgement.accepted:
                    assert last.histories[partition].head.hash == judgement.accepted[-1].hash
    return log, found


def check(log: StormLog, found: list[Judgement]) -> None:
    for partition, judgement in enumerate(found):
        assert judgement.accepted == judgement.folded, "something was never decided"
        assert max(ends(judgement.events).values(), default=1) == 1
        folded = fold(log.records("agents.commands", partition), agents.RULES, CODEC, partition)[0]
        assert folded == judgement.accepted
        several = {command: count for command, count in answers(judgement.events).items() if count > 1}
        kinds = {type(event).__name__ for event in judgement.events if event.command_id in several}
        # What speaks of all instances is answered for each of them.
        assert kinds <= {"AgentStatusChanged", "AgentDeregistered", "AgentCommandRepeated"} | BESIDE, several


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_accepted_history_is_the_fold_of_the_commands_in_any_weather(seed: int) -> None:
    print(f"storm, seed {seed}")
    log, found = await weathered(seed)
    check(log, found)
    storm = log.happened
    assert {"refused", "acknowledgement_lost", "flushed_late", "sent_twice"} <= storm.keys(), storm
    assert sum(judgement.duplicates for judgement in found) > 0, "the owners never met"
    if "haunted" in storm:
        assert sum(judgement.aliens for judgement in found) > 0


async def test_a_restarted_state_is_the_state_of_who_never_stopped() -> None:
    with structlog.testing.capture_logs():
        log = await Storm(99).run(150)
        async with deciding(log, clock_ms=lambda: log.now_ms) as one, deciding(log, clock_ms=lambda: log.now_ms) as two:
            partition = partition_of("worker")
            async with asyncio.timeout(10):
                while one.histories[partition].head != two.histories[partition].head:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            assert fingerprint(one.histories[partition].state) == fingerprint(two.histories[partition].state)


# --- the storm itself must be able to break what is broken ---------------------------------------------------------


async def broken_by(weather: Weather | None = None) -> str | None:
    for seed in range(6):
        try:
            async with asyncio.timeout(5):  # a history that is broken may also never be finished
                log, found = await weathered(seed, weather)
            check(log, found)
        except (AssertionError, TimeoutError, KeyError) as error:
            return type(error).__name__
        except BaseExceptionGroup as errors:
            return str(errors)
    return None


@pytest.mark.parametrize("rule", [order_only, everything])
async def test_a_reader_without_the_chain_is_caught(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    log, found = await weathered(0)
    check(log, found)
    assert "haunted" in log.happened
    have_readers_judge_by(rule, monkeypatch)
    with pytest.raises(AssertionError, match="the fold"):
        await judge(log, partition_of("worker"))


async def test_a_decider_that_skips_a_command_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    read, count = MemoryReader.read, 0

    async def skipping(reader: MemoryReader, *, records_max: int = 500, wait_ms: int = 200) -> list[Record]:
        nonlocal count
        records = await read(reader, records_max=records_max, wait_ms=wait_ms)
        if records and records[0].topic == "agents.commands" and records_max == 500:
            count += 1
            return records[1:] if count % 9 == 0 else records
        return records

    monkeypatch.setattr(MemoryReader, "read", skipping)
    assert await broken_by() is not None
