"""Whatever clocks and producers do, a lease ends soon after its time is over: the decider's ticks see to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from diurna_schemas.errors import Unavailable
from diurna_schemas.topics import LOCKS, TOPICS, partition_of
from diurna_streams.deciders.locks import RULES
from diurna_streams.log import Outgoing
from diurna_streams.log.memory import MemoryProducer
from support import virtual_time
from support.deciding import CODEC, RivalMemoryLog, deciding, send
from support.given import START_MS
from support.locks_given import RESOURCE, acquire

HOME = partition_of(RESOURCE)


def true_ms() -> int:
    return START_MS + round(asyncio.get_running_loop().time() * 1000)


class StickyLog(RivalMemoryLog):
    """Producers that fail once fail for good, as an idempotent one may after a sequence was lost."""

    def __init__(self) -> None:
        super().__init__(clock_ms=true_ms)
        self.fails_on: Callable[[str], bool] = lambda _topic: False

    async def producer(self) -> MemoryProducer:
        return _Sticky(self)


class _Sticky(MemoryProducer):
    def __init__(self, log: StickyLog) -> None:
        super().__init__(log)
        self._sticky = log
        self._is_stuck = False

    async def send_batch(self, topic: str, partition: int, records: Sequence[Outgoing]) -> int:
        self._is_stuck = self._is_stuck or self._sticky.fails_on(topic)
        if self._is_stuck:
            raise Unavailable("out of order")
        return await super().send_batch(topic, partition, records)


async def expired_after_s(log: RivalMemoryLog, seconds: float) -> float | None:
    """How long after the lease's end the log says so."""
    end_s = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end_s:
        for record in log.records(LOCKS.events, HOME):
            if type(event := CODEC.decode(record.value)).__name__ == "LockExpired":
                return (true_ms() - START_MS) / 1000 if event is not None else None
        await asyncio.sleep(0.05)
    return None


@pytest.mark.parametrize("skew_ms", [3_600_000, 60_000, 0])
def test_a_decider_whose_clock_was_ahead_and_is_put_right_ends_leases_in_time(skew_ms: int) -> None:
    async def scenario() -> float | None:
        log = RivalMemoryLog(clock_ms=true_ms)
        await log.provision(TOPICS.values())
        ahead_ms = skew_ms
        async with deciding(log, rules=RULES, clock_ms=lambda: true_ms() + ahead_ms):
            await send(log, acquire("one", lease_ms=2_000))
            await asyncio.sleep(1)
            ahead_ms = 0
            return await expired_after_s(log, 30)

    ended_s = virtual_time.run(scenario())
    assert ended_s is not None, "the lease never ended"
    assert 2.0 <= ended_s <= 3.2


@pytest.mark.parametrize("skew_ms", [-3_600_000, -700, 3_600_000])
def test_a_decider_whose_clock_is_wrong_ends_leases_by_the_log_s(skew_ms: int) -> None:
    """And one that is ahead does not fill the log with ticks that change nothing."""

    async def scenario() -> tuple[float | None, int]:
        log = RivalMemoryLog(clock_ms=true_ms)
        await log.provision(TOPICS.values())
        async with deciding(log, rules=RULES, clock_ms=lambda: true_ms() + skew_ms):
            await send(log, acquire("one", lease_ms=20_000))
            return await expired_after_s(log, 60), len(log.records(LOCKS.commands, HOME))

    ended_s, commands = virtual_time.run(scenario())
    assert ended_s is not None, "the lease never ended"
    assert 20.0 <= ended_s <= 21.2
    assert commands < 40


def test_a_tick_that_was_not_acknowledged_is_sent_by_another_producer() -> None:
    async def scenario() -> float | None:
        log = StickyLog()
        await log.provision(TOPICS.values())
        async with deciding(log, rules=RULES, clock_ms=true_ms):
            await send(log, acquire("one", lease_ms=2_000))
            failures = iter([True])
            log.fails_on = lambda topic: topic == LOCKS.commands and next(failures, False)
            return await expired_after_s(log, 30)

    ended_s = virtual_time.run(scenario())
    assert ended_s is not None, "the lease never ended"
    assert 2.0 <= ended_s <= 3.2
