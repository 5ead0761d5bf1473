"""Leases when things go wrong: a log that falls silent, writes nobody acknowledged, clocks, connections that close."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diurna import LockLost, ResourceLockError, ResourceLockManager, TimedOut, Unavailable, wishes
from diurna.leases import MARGIN_SECONDS, RATE_ERROR, Lost, now_seconds, safe_until
from diurna.testing import Team, team
from diurna_schemas.topics import LOCKS
from diurna_streams.log import Outgoing
from support.teams import eventually


class Fault:
    """Refuses writes to the commands of locks, before or after they are there."""

    def __init__(self, memory: Team) -> None:
        self._append = memory.log.append
        memory.log.append = self.append  # type: ignore[method-assign]
        self.is_silent = False
        self.lost_acknowledgements = 0

    def append(self, topic: str, partition: int, outgoing: Sequence[Outgoing]) -> int:
        if topic != LOCKS.commands or outgoing[0].key is None or outgoing[0].key.startswith(b"tick"):
            return self._append(topic, partition, outgoing)
        if self.is_silent:
            raise Unavailable("the broker is away")
        offset = self._append(topic, partition, outgoing)
        if self.lost_acknowledgements > 0:
            self.lost_acknowledgements -= 1
            raise Unavailable("the acknowledgement was lost")
        return offset


@pytest.fixture
async def memory() -> AsyncIterator[Team]:
    async with team() as found:
        yield found


@pytest.fixture
def fault(memory: Team) -> Fault:
    return Fault(memory)


@pytest.fixture
async def locks(memory: Team, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ResourceLockManager]:
    monkeypatch.setattr(wishes, "RELEASE_SECONDS", 0.3)
    async with memory.locks() as found:
        yield found


def types(memory: Team) -> list[str]:
    return [str(event["type"]) for event in memory.events(LOCKS.events)]


@given(st.floats(0, 1e6), st.integers(1_000, 3_600_000))
def test_what_is_certain_ends_before_the_lease_does(sent_at: float, lease_ms: int) -> None:
    """Whatever the log's clock does within its bound, and however late the command was stamped."""
    until = safe_until(sent_at, lease_ms)
    ends_at_the_earliest = sent_at + lease_ms / 1000 / (1 + RATE_ERROR)
    assert until <= ends_at_the_earliest - MARGIN_SECONDS + 1e-6
    assert until >= sent_at + 0.9


def test_the_clock_of_leases_only_goes_on() -> None:
    readings = [now_seconds() for _ in range(1000)]
    assert readings == sorted(readings)


async def test_a_kept_lease_is_lost_in_time_where_the_log_falls_silent(
    memory: Team, locks: ResourceLockManager, fault: Fault
) -> None:
    """Before the lease is over on the log: nobody else can be inside when the body is cancelled."""
    cancelled_at = 0.0

    async def body() -> None:
        nonlocal cancelled_at
        try:
            async with locks.acquire("repo:x", "agent-1", timeout=1, auto_renew=True):
                fault.is_silent = True
                try:
                    await asyncio.sleep(30)
                finally:
                    cancelled_at = time.time()
        finally:
            fault.is_silent = False

    with pytest.raises(LockLost, match="by our own clock"):
        await body()
    (granted,) = [event for event in memory.events(LOCKS.events) if event["type"] == "resource.locked"]
    assert granted["at_ms"] / 1000 + 0.7 < cancelled_at < granted["deadline_ms"] / 1000
    await eventually(lambda: types(memory) == ["resource.locked", "lock.expired"])


async def test_a_lease_that_was_nearly_lost_is_kept_where_the_log_speaks_again(
    memory: Team, locks: ResourceLockManager, fault: Fault
) -> None:
    async with locks.acquire("repo:x", "agent-1", timeout=2, auto_renew=True) as lease:
        fault.is_silent = True
        await eventually(lambda: lease.remaining < 0.9)
        fault.is_silent = False
        await eventually(lambda: lease.remaining > 1.2)
        assert not lease.lost.is_set()
    await eventually(lambda: types(memory)[-1] == "resource.unlocked")


async def test_a_command_nobody_acknowledged_is_sent_again_and_is_one_lock(
    memory: Team, locks: ResourceLockManager, fault: Fault
) -> None:
    fault.lost_acknowledgements = 2
    async with locks.acquire("repo:x", "agent-1", timeout=30) as lease:
        assert types(memory)[0] == "resource.locked"
        fault.lost_acknowledgements = 1
        await lease.renew()
        fault.lost_acknowledgements = 1
    await eventually(lambda: types(memory).count("locks.command_repeated") == 4)
    found = types(memory)
    assert [found.count(name) for name in ("resource.locked", "lock.renewed", "resource.unlocked")] == [1, 1, 1]


async def test_nothing_is_entered_where_the_log_does_not_answer(
    memory: Team, locks: ResourceLockManager, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wishes, "ANSWER_SECONDS", 0.3)
    fault.is_silent = True
    with pytest.raises(TimedOut, match="the lock on repo:x: no answer within"):
        async with locks.acquire("repo:x", "agent-1", timeout=30):
            pytest.fail("nobody granted it")
    fault.is_silent = False
    async with locks.acquire("repo:x", "agent-2", timeout=30):
        pass


async def test_a_lock_that_was_granted_too_late_for_whoever_asked_is_given_back(
    memory: Team, locks: ResourceLockManager, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is on the log, the acknowledgement never came: its effect is unknown, so it is undone."""
    monkeypatch.setattr(wishes, "ANSWER_SECONDS", 0.3)
    waiting = asyncio.Event()
    listen = memory.connection.tail.listen

    def deaf(*arguments: object, **options: object) -> object:
        listener = listen(*arguments, **options)  # type: ignore[arg-type]
        listener.callback = lambda seen: waiting.set()
        return listener

    monkeypatch.setattr(memory.connection.tail, "listen", deaf)
    with pytest.raises(TimedOut):
        async with locks.acquire("repo:x", "agent-1", timeout=600):
            pytest.fail("nobody heard that it was granted")
    assert waiting.is_set()
    await eventually(lambda: types(memory) == ["resource.locked", "resource.unlocked"])


async def test_leaving_a_body_while_the_log_is_silent_takes_a_moment_and_is_no_error(
    memory: Team, locks: ResourceLockManager, fault: Fault
) -> None:
    async with locks.acquire("repo:x", "agent-1", timeout=1):
        fault.is_silent = True
        left_at = time.monotonic()
    assert time.monotonic() - left_at < 5
    fault.is_silent = False
    await eventually(lambda: types(memory) == ["resource.locked", "lock.expired"])


async def test_time_that_jumps_on_the_log_is_heard_of_at_once(memory: Team, locks: ResourceLockManager) -> None:
    """Our own clock says that much is left; the log's word counts."""
    async with locks.acquire("repo:x", "agent-1", timeout=600) as lease:
        memory.clock.advance(700)
        await asyncio.wait_for(lease.lost, 10)
        assert (lease.remaining, lease.loss) == (0, "its lease is over")
        with pytest.raises(LockLost, match="its lease is over"):
            await lease.renew()


async def test_a_waiter_whose_connection_closes_is_told(memory: Team) -> None:
    connection = memory.connect()
    elsewhere = ResourceLockManager(connection=connection)
    async with memory.locks() as locks, locks.acquire("repo:x", "agent-1", timeout=60):
        waiting = asyncio.create_task(_enter(elsewhere))
        await eventually(lambda: "lock.queued" in types(memory))
        await connection.close()
        with pytest.raises(Unavailable, match="closed while waiting for repo:x"):
            await asyncio.wait_for(waiting, 10)


async def test_a_lease_that_is_made_shorter_is_over_earlier(locks: ResourceLockManager) -> None:
    async with locks.acquire("repo:x", "agent-1", timeout=600) as lease:
        await lease.renew(timeout=1)
        await asyncio.wait_for(lease.lost, 5)


async def _enter(locks: ResourceLockManager) -> None:
    async with locks.acquire("repo:x", "agent-2", timeout=60, wait_timeout=60):
        pass


async def test_an_error_of_the_body_s_own_is_not_taken_for_a_lost_lock(locks: ResourceLockManager) -> None:
    with pytest.raises(TimeoutError, match="mine"):
        async with locks.acquire("repo:x", "agent-1", auto_renew=True):
            raise TimeoutError("mine")


async def test_a_body_that_does_not_let_itself_be_cancelled_is_told_when_it_ends(locks: ResourceLockManager) -> None:
    async def stubborn() -> None:
        async with locks.acquire("repo:x", "agent-1", timeout=60, auto_renew=True):
            await locks.force_unlock("repo:x", "admin", "it hangs")
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                return

    with pytest.raises(LockLost, match="it hangs"):
        await stubborn()


async def test_nobody_can_be_named_in_another_lock_s_error(memory: Team, locks: ResourceLockManager) -> None:
    async with locks.acquire("repo:x", "agent-1"):
        with pytest.raises(ResourceLockError) as refused:
            async with locks.acquire("repo:x", "agent-2"):
                pytest.fail("two hold one lock")
    assert (refused.value.resource_id, refused.value.holder) == ("repo:x", "agent-1")


async def test_the_word_that_a_lease_is_over_can_be_awaited_itself() -> None:
    lost = Lost()
    waiting = asyncio.ensure_future(lost.wait())
    lost.set()
    assert await lost is True
    assert await waiting is True
