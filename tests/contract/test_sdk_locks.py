"""What the locks promise, on the log in memory and on a real broker alike."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from diurna import Conflict, InvalidInput, LockLost, ResourceLockError, ResourceLockManager, TooLarge
from diurna.commands import events_of
from diurna.connection import Connection
from diurna.seen import Seen
from diurna_schemas.locks import AcquireLock, LockCommandRepeated, LockRenewed, ResourceLocked
from diurna_schemas.topics import LOCKS, partition_of
from diurna_streams.log import TopicPartition
from support.teams import AnyTeam, eventually, kafka_team, memory_team


@pytest.fixture(scope="module", params=["memory", pytest.param("kafka", marks=pytest.mark.stack)])
def servers(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("kafka_bootstrap") if request.param == "kafka" else None


@pytest.fixture(scope="module")
async def team(servers: str | None) -> AsyncIterator[AnyTeam]:
    async with memory_team() if servers is None else kafka_team(servers) as found:
        yield found


@pytest.fixture
async def locks(team: AnyTeam) -> AsyncIterator[ResourceLockManager]:
    async with team.locks() as manager:
        yield manager


@pytest.fixture
def resource() -> str:
    """A resource of its own for each test: the log forgets nothing."""
    return f"repo:{uuid.uuid4().hex[:8]}/main"


class Told:
    """The events of one resource, as they come."""

    def __init__(self, connection: Connection, resource: str) -> None:
        self._connection = connection
        self._place = TopicPartition(LOCKS.events, partition_of(resource))
        self._resource = resource
        self.events: list[Any] = []

    async def __aenter__(self) -> Told:
        self._listener = self._connection.tail.listen([self._place], self._hear, key=self._resource)
        await self._connection.tail.watch([self._place])
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._connection.tail.unlisten(self._listener)

    def _hear(self, seen: Seen) -> None:
        self.events.append(seen.decoded())

    def names(self) -> list[str]:
        """Without the word that a command came twice: one that was cut off while it was sent may have been sent."""
        return [type(event).__name__ for event in self.events if not isinstance(event, LockCommandRepeated)]


async def test_a_lock_that_another_has_is_refused_at_once_and_free_after_the_body(
    locks: ResourceLockManager, resource: str
) -> None:
    async with locks.acquire(resource, "agent-1", timeout=10):
        began = time.monotonic()
        with pytest.raises(ResourceLockError, match=f"Resource {resource} is locked by agent-1") as refused:
            async with locks.acquire(resource, "agent-2", timeout=10, wait_timeout=0):
                pytest.fail("two hold one lock")
        assert time.monotonic() - began < 5
        assert (refused.value.holder, refused.value.code) == ("agent-1", "locked")
        assert isinstance(refused.value, Conflict)
    async with locks.acquire(resource, "agent-2", timeout=10) as lease:
        assert 8 < lease.remaining < 10


async def test_locks_are_not_reentrant_and_say_so(locks: ResourceLockManager, resource: str) -> None:
    async with locks.acquire(resource, "agent-1"):
        with pytest.raises(ResourceLockError, match=r"is locked by agent-1, .*not re-entrant"):
            async with locks.acquire(resource, "agent-1"):
                pytest.fail("a lock was entered twice")


async def test_every_grant_has_a_larger_token_and_one_holder_at_a_time(team: AnyTeam, resource: str) -> None:
    inside = 0
    inside_max = 0
    tokens: list[int] = []
    order: list[int] = []

    async def contend(number: int, manager: ResourceLockManager) -> None:
        nonlocal inside, inside_max
        async with manager.acquire(resource, f"agent-{number}", timeout=30, wait_timeout=30) as lease:
            inside += 1
            inside_max = max(inside_max, inside)
            tokens.append(lease.token)
            order.append(number)
            await asyncio.sleep(0.002)
            assert not lease.lost.is_set()
            inside -= 1

    async with team.locks() as one, ResourceLockManager(connection=team.connect()) as other:
        await asyncio.gather(*(contend(number, (one, other)[number % 2]) for number in range(24)))
    assert inside_max == 1
    assert len(order) == 24
    assert tokens == sorted(set(tokens))


async def test_who_came_first_is_served_first(locks: ResourceLockManager, team: AnyTeam, resource: str) -> None:
    order: list[int] = []

    async def contend(number: int) -> None:
        async with locks.acquire(resource, f"agent-{number}", wait_timeout=30):
            order.append(number)

    async with Told(team.connection, resource) as told, locks.acquire(resource, "holder"):
        waiting: list[asyncio.Task[None]] = []
        for number in range(6):
            waiting.append(asyncio.create_task(contend(number)))
            await eventually(lambda: told.names().count("LockQueued") == len(waiting))
    await asyncio.gather(*waiting)
    assert order == list(range(6))


async def test_a_wait_that_is_over_says_who_has_the_lock(
    locks: ResourceLockManager, team: AnyTeam, resource: str
) -> None:
    async with Told(team.connection, resource) as told, locks.acquire(resource, "agent-1"):
        with pytest.raises(ResourceLockError, match=r"is locked by agent-1: waited 0\.3 s") as refused:
            async with locks.acquire(resource, "agent-2", wait_timeout=0.3):
                pytest.fail("two hold one lock")
        assert refused.value.code == "wait_timed_out"
    assert told.names()[:3] == ["ResourceLocked", "LockQueued", "LockWaitTimedOut"]
    async with locks.acquire(resource, "agent-3"):
        pass


async def test_who_no_longer_wants_to_wait_leaves_the_queue(
    locks: ResourceLockManager, team: AnyTeam, resource: str
) -> None:
    async def wait() -> None:
        async with locks.acquire(resource, "agent-2", wait_timeout=60):
            pytest.fail("it was cancelled")

    async with Told(team.connection, resource) as told, locks.acquire(resource, "agent-1"):
        waiting = asyncio.create_task(wait())
        await eventually(lambda: "LockQueued" in told.names())
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await eventually(lambda: told.names()[-1] == "LockWaitCancelled")


@pytest.mark.parametrize("leaving", [ValueError("the body failed"), asyncio.CancelledError()])
async def test_however_the_body_ends_the_lock_is_free_afterwards(
    locks: ResourceLockManager, team: AnyTeam, resource: str, leaving: BaseException
) -> None:
    async def body() -> None:
        async with locks.acquire(resource, "agent-1", timeout=60):
            raise leaving

    async with Told(team.connection, resource) as told:
        with pytest.raises(type(leaving)):
            await asyncio.create_task(body())
        await eventually(lambda: told.names() == ["ResourceLocked", "ResourceUnlocked"])


async def test_a_body_that_is_cancelled_gives_the_lock_back_though_nobody_waits_for_it(
    team: AnyTeam, resource: str
) -> None:
    manager = team.locks()
    entered = asyncio.Event()

    async def body() -> None:
        async with manager.acquire(resource, "agent-1", timeout=60):
            entered.set()
            await asyncio.Event().wait()

    async with Told(team.connection, resource) as told:
        working = asyncio.create_task(body())
        await entered.wait()
        working.cancel()
        await asyncio.sleep(0)
        working.cancel()  # while it leaves
        await asyncio.wait([working])
        await manager.close()
        await eventually(lambda: told.names() == ["ResourceLocked", "ResourceUnlocked"])


async def test_a_lease_ends_by_itself_while_its_body_runs_on(
    locks: ResourceLockManager, team: AnyTeam, resource: str
) -> None:
    async with (
        Told(team.connection, resource) as told,
        locks.acquire(resource, "agent-1", timeout=1) as lease,
    ):
        assert 0 < lease.remaining < 1
        await asyncio.wait_for(lease.lost, 10)
        assert lease.remaining == 0
        assert lease.loss is not None
        await eventually(lambda: "LockExpired" in told.names())
        async with locks.acquire(resource, "agent-2", timeout=10) as later:
            assert later.token > lease.token
    assert "ResourceUnlocked" not in told.names()[:2]


async def test_a_renewed_lease_outlives_its_length(locks: ResourceLockManager, team: AnyTeam, resource: str) -> None:
    async with Told(team.connection, resource) as told:
        async with locks.acquire(resource, "agent-1", timeout=1, auto_renew=True) as lease:
            await eventually(lambda: told.names().count("LockRenewed") >= 4)
            assert lease.remaining > 0
            assert not lease.lost.is_set()
        await eventually(lambda: told.names()[-1] == "ResourceUnlocked")
    assert "LockExpired" not in told.names()


async def test_a_kept_lock_that_is_taken_away_cancels_its_body(
    locks: ResourceLockManager, team: AnyTeam, resource: str
) -> None:
    ends: list[str] = []

    async def body() -> None:
        async with locks.acquire(resource, "agent-1", timeout=60, auto_renew=True):
            await admin.force_unlock(resource, "admin-1", "it hangs")
            await asyncio.sleep(30)
            ends.append("reached")

    async with team.locks() as admin:
        with pytest.raises(LockLost, match="taken away by admin-1: it hangs") as lost:
            await body()
    assert ends == []
    assert isinstance(lost.value, ResourceLockError)
    assert lost.value.resource_id == resource


async def test_a_lock_that_is_taken_away_without_being_kept_is_told_and_the_body_runs_on(
    locks: ResourceLockManager, resource: str
) -> None:
    async with locks.acquire(resource, "agent-1", timeout=60) as lease:
        event = await locks.force_unlock(resource, "admin-1", "it hangs", grace=30)
        await asyncio.wait_for(lease.lost, 10)
        assert event.not_before_ms > event.at_ms
        with pytest.raises(LockLost):
            await lease.renew()
        # for the grace nobody gets it
        with pytest.raises(ResourceLockError, match="not given to anybody yet"):
            async with locks.acquire(resource, "agent-2"):
                pytest.fail("it was given away within the grace")


async def test_a_cancelled_body_of_a_kept_lock_stays_cancelled(locks: ResourceLockManager, resource: str) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3), locks.acquire(resource, "agent-1", timeout=60, auto_renew=True):
            await asyncio.sleep(30)


async def test_another_agent_cannot_release_a_lock_and_its_own_can_from_anywhere(
    locks: ResourceLockManager, team: AnyTeam, resource: str
) -> None:
    async with locks.acquire(resource, "agent-1", timeout=60) as lease:
        with pytest.raises(ResourceLockError, match=r"agent-2 does not hold .*; it is locked by agent-1") as refused:
            await locks.release(resource, "agent-2")
        assert refused.value.code == "not_holder"
        assert not lease.lost.is_set()
        async with ResourceLockManager(connection=team.connect()) as elsewhere:
            position = await elsewhere.release(resource, "agent-1")
        assert position.topic == "locks.events"
        await asyncio.wait_for(lease.lost, 10)
        assert lease.loss == "it was released"


async def test_a_lease_is_renewed_by_hand_and_not_after_its_end(locks: ResourceLockManager, resource: str) -> None:
    async with locks.acquire(resource, "agent-1", timeout=1) as lease:
        await lease.renew(timeout=20)
        assert 15 < lease.remaining < 20
        await lease.renew(timeout=1)
        await asyncio.wait_for(lease.lost, 10)
        with pytest.raises(LockLost):
            await lease.renew()


async def test_a_grant_that_nobody_claims_passes_to_the_next(
    locks: ResourceLockManager, team: AnyTeam, resource: str
) -> None:
    """A waiter that died costs three seconds, not its whole lease."""
    dead = AcquireLock(
        command_id=uuid.uuid4().hex,
        resource_id=resource,
        lock_id=uuid.uuid4().hex,
        agent_id="dead",
        lease_ms=600_000,
        wait_ms=60_000,
    )
    async with Told(team.connection, resource) as told:
        async with locks.acquire(resource, "agent-1"):
            await team.connection.ask(dead)
        async with locks.acquire(resource, "agent-2", wait_timeout=30):
            pass
    grants = [event for event in told.events if isinstance(event, ResourceLocked)]
    assert [(event.agent_id, event.is_provisional) for event in grants] == [
        ("agent-1", False), ("dead", True), ("agent-2", True),
    ]  # fmt: skip
    (expired,) = [event for event in told.events if type(event).__name__ == "LockExpired"]
    assert (expired.agent_id, expired.held_ms >= 3_000) == ("dead", True)


async def test_after_a_long_wait_the_grant_is_claimed_before_the_body_is_entered(
    locks: ResourceLockManager, team: AnyTeam, resource: str
) -> None:
    """By then its own few seconds cannot be counted on from the sending of the command."""
    seen_inside: list[str] = []

    async with Told(team.connection, resource) as told:

        async def wait() -> float:
            async with locks.acquire(resource, "agent-2", timeout=60, wait_timeout=30) as lease:
                seen_inside.extend(told.names())
                return lease.remaining

        async with locks.acquire(resource, "agent-1"):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(1.7)
        remaining = await waiting
    assert seen_inside[-1] == "LockRenewed"
    assert 55 < remaining < 60


async def test_after_a_short_wait_the_claim_goes_out_beside_the_body(
    locks: ResourceLockManager, team: AnyTeam, resource: str
) -> None:
    async with Told(team.connection, resource) as told:

        async def wait() -> None:
            async with locks.acquire(resource, "agent-2", timeout=60, wait_timeout=30) as lease:
                assert lease.is_provisional
                assert 0 < lease.remaining < 3
                await eventually(lambda: lease.remaining > 50)

        async with locks.acquire(resource, "agent-1"):
            waiting = asyncio.create_task(wait())
            await eventually(lambda: "LockQueued" in told.names())
        await waiting
        claims = [event for event in told.events if isinstance(event, LockRenewed)]
    assert [claim.agent_id for claim in claims] == ["agent-2"]


async def test_more_than_a_full_queue_is_refused_and_changes_nothing(
    locks: ResourceLockManager, team: AnyTeam, resource: str
) -> None:
    async with locks.acquire(resource, "agent-1"):
        for number in range(200):
            await team.connection.send(
                AcquireLock(
                    command_id=f"{resource}-{number}",
                    resource_id=resource,
                    lock_id=f"{resource}-{number}",
                    agent_id="crowd",
                    lease_ms=1_000,
                    wait_ms=60_000,
                )
            )
        with pytest.raises(ResourceLockError, match="200 wait for") as refused:
            async with locks.acquire(resource, "agent-2", wait_timeout=60):
                pytest.fail("the queue is bounded")
        assert refused.value.code == "queue_full"
        await locks.release(resource, "crowd")
    async with locks.acquire(resource, "agent-2"):
        pass


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"timeout": 0.9}, "timeout"),
        ({"timeout": 3601}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"wait_timeout": -1}, "wait_timeout"),
        ({"wait_timeout": "2"}, "wait_timeout"),
        ({"timeout": True}, "timeout"),
        ({"wait_timeout": 86_401}, "wait_timeout"),
        ({"resource_id": ""}, "resource_id"),
        ({"resource_id": "x" * 1_048_576}, "resource_id"),
        ({"resource_id": "two words"}, "resource_id"),
        ({"resource_id": "re\x00source"}, "resource_id"),
        ({"agent_id": ""}, "agent_id"),
        ({"agent_id": "agent/1"}, "agent_id"),
        ({"reason": "x" * 8_001}, "reason"),
    ],
)
async def test_bad_input_names_the_field_and_nothing_is_written(
    locks: ResourceLockManager, team: AnyTeam, arguments: dict[str, Any], field: str
) -> None:
    places = [TopicPartition(LOCKS.commands, number) for number in range(6)]

    async def written() -> int:
        return sum((await team.connection.log.ends(places)).values())

    async def quiet() -> int:
        """What is written once the ticks of other tests' locks have come."""
        before, now = -1, await written()
        while before != now:
            await asyncio.sleep(0.3)
            before, now = now, await written()
        return now

    before = await quiet()
    with pytest.raises(InvalidInput) as refused:
        async with locks.acquire(**{"resource_id": "repo:bad", "agent_id": "agent-1", **arguments}):
            pytest.fail("it was let in")
    assert refused.value.field == field
    assert len(str(refused.value)) < 400
    assert await written() == before


async def test_bad_metadata_and_addresses_are_refused(locks: ResourceLockManager) -> None:
    with pytest.raises(TooLarge, match="metadata"):
        locks.acquire("repo:bad", "agent-1", metadata={"x": "y" * 20_000})
    with pytest.raises(InvalidInput, match="metadata"):
        locks.acquire("repo:bad", "agent-1", metadata={"x": object()})
    with pytest.raises(InvalidInput, match="address"):
        ResourceLockManager("localhost:5432")
    for grace in (-1, 3_601, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match=r"^grace: 0 to 3600 seconds are allowed"):
            await locks.force_unlock("repo:bad", "admin", grace=grace)
    with pytest.raises(InvalidInput, match="admin_agent_id"):
        await locks.force_unlock("repo:bad", "")
    with pytest.raises(InvalidInput, match="resource_id"):
        await locks.is_locked("")


async def test_a_lock_nobody_holds_cannot_be_taken_away(locks: ResourceLockManager, resource: str) -> None:
    with pytest.raises(ResourceLockError, match=f"nobody holds {resource}") as refused:
        await locks.force_unlock(resource, "admin-1", "tidying up")
    assert refused.value.code == "not_held"


async def test_a_command_repeated_is_answered_with_the_first_answer_and_where_the_lock_stands(
    team: AnyTeam, resource: str
) -> None:
    command = AcquireLock(
        command_id=uuid.uuid4().hex, resource_id=resource, lock_id="mine", agent_id="agent-1", lease_ms=60_000
    )
    first = await team.connection.answer(command)
    again = await team.connection.answer(command)
    assert again.event == first.event
    assert again.repetition is not None
    assert (again.repetition.standing, again.repetition.fencing_token) == ("held", first.event.fencing_token)  # type: ignore[union-attr, attr-defined]


async def test_whoever_asks_does_not_take_the_grant_of_another_for_its_own(team: AnyTeam, resource: str) -> None:
    """A command that comes after a lease is over gives the lock to who waits, under its own id."""
    short = AcquireLock(
        command_id=uuid.uuid4().hex, resource_id=resource, lock_id="short", agent_id="agent-1", lease_ms=1_000
    )
    waits = short.model_copy(update={"command_id": uuid.uuid4().hex, "lock_id": "waits", "wait_ms": 60_000})
    late = short.model_copy(update={"command_id": uuid.uuid4().hex, "lock_id": "late"})
    await team.connection.ask(short)
    await team.connection.ask(waits)
    answers = [await team.connection.ask(late.model_copy(update={"command_id": uuid.uuid4().hex})) for _ in range(40)]
    assert {type(answer).__name__ for answer in answers} == {"LockDenied"}
    assert events_of(short) == events_of(late)


async def test_what_is_counted(locks: ResourceLockManager) -> None:
    kind = f"kind-{uuid.uuid4().hex[:6]}"
    resource = f"{kind}:one"

    def count(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"resource_type": kind, **labels}) or 0

    active = REGISTRY.get_sample_value("resource_locks_active")
    assert active is not None
    async with locks.acquire(resource, "agent-1"):
        assert REGISTRY.get_sample_value("resource_locks_active") == active + 1
        with pytest.raises(ResourceLockError):
            async with locks.acquire(resource, "agent-2"):
                pass
        with pytest.raises(ResourceLockError):
            async with locks.acquire(resource, "agent-2", wait_timeout=0.1):
                pass
    assert REGISTRY.get_sample_value("resource_locks_active") == active
    assert count("resource_lock_acquisitions_total", agent_id="agent-1", status="success") == 1
    assert count("resource_lock_acquisitions_total", agent_id="agent-2", status="denied") == 1
    assert count("resource_lock_acquisitions_total", agent_id="agent-2", status="timeout") == 1
    assert count("resource_lock_wait_seconds_count") == 1
    assert count("resource_lock_contentions_total") == 2
