"""What the lists of locks answer about past moments, wherever they are read.

For modules that give a `locks` fixture, and the `connection` its manager has.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from diurna import InvalidInput, NotFound, ResourceLockManager
from diurna.connection import Connection
from diurna_schemas.topics import LOCKS, partition_of
from diurna_streams.log import TopicPartition
from support.stack import eventually


async def test_who_held_and_who_waited_is_read_at_any_past_moment(
    locks: ResourceLockManager, connection: Connection
) -> None:
    resource = f"repo:{uuid.uuid4().hex[:8]}/main"

    async def wait_and_hold() -> None:
        async with locks.acquire(resource, "waiter", timeout=60, wait_timeout=60):
            pass

    async def is_queued() -> bool:
        return [one.agent_id for one in await locks.get_wait_queue(resource)] == ["waiter"]

    async with locks.acquire(resource, "holder", timeout=60) as lease:
        granted = await last_event(connection, resource)
        waiting = asyncio.create_task(wait_and_hold())
        await eventually(is_queued)
        queued = await last_event(connection, resource)
        assert queued != granted
    await waiting
    assert await locks.is_locked(resource) is False

    info = await locks.get_lock_info(resource, as_of=queued)
    assert info is not None
    assert (info.agent_id, info.fencing_token) == ("holder", lease.token)
    assert await locks.is_locked(resource, as_of=granted) is True
    assert resource in [one.resource_id for one in await locks.list_locks("holder", as_of=queued)]
    assert [one.agent_id for one in await locks.get_wait_queue(resource, as_of=granted)] == []
    assert [one.agent_id for one in await locks.get_wait_queue(resource, as_of=queued)] == ["waiter"]
    assert [one.status for one in await locks.get_lock_history(resource, as_of=granted)] == ["held"]
    assert [one.agent_id for one in await locks.get_lock_history(resource, as_of=queued)] == ["waiter", "holder"]
    (counts,) = await locks.get_lock_statistics(resource, as_of=granted)
    assert (counts.wishes, counts.queued, counts.releases) == (1, 0, 0)

    acquired_at = info.acquired_at
    assert await locks.is_locked(resource, as_of=acquired_at) is True
    assert await locks.is_locked(resource, as_of=acquired_at - timedelta(days=1)) is False
    assert await locks.is_locked(resource, as_of=acquired_at + timedelta(days=400)) is False, "what is to come is now"


async def last_event(connection: Connection, resource: str) -> str:
    """Where the newest event of a resource's partition stands."""
    place = TopicPartition(LOCKS.events, partition_of(resource))
    return f"{place.topic}:{place.partition}:{(await connection.log.ends([place]))[place] - 1}"


READS: list[Callable[[ResourceLockManager, Any], Any]] = [
    lambda locks, moment: locks.is_locked("repo:x", as_of=moment),
    lambda locks, moment: locks.get_lock_info("repo:x", as_of=moment),
    lambda locks, moment: locks.list_locks(as_of=moment),
    lambda locks, moment: locks.get_wait_queue(as_of=moment),
    lambda locks, moment: locks.get_lock_history(as_of=moment),
    lambda locks, moment: locks.get_lock_statistics(as_of=moment),
]


async def test_what_is_no_moment_is_refused_by_every_list_of_locks(locks: ResourceLockManager) -> None:
    forgotten = datetime(2026, 1, 1)
    for moment, shown in (("then", "then"), (forgotten, "2026-01-01"), (datetime(1960, 1, 1, tzinfo=UTC), "1960")):
        for read in READS:
            with pytest.raises(InvalidInput) as refused:
                await read(locks, moment)
            assert refused.value.field == "as_of"
            assert shown in str(refused.value)


async def test_of_a_position_at_which_nothing_stands_there_is_no_list_of_locks(locks: ResourceLockManager) -> None:
    with pytest.raises(NotFound, match=r"locks\.events:0:1000000000"):
        await locks.get_lock_history(as_of="locks.events:0:1000000000")
