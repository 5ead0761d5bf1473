"""Events about locks to rows, on tables that are dictionaries."""

from __future__ import annotations

import random

import pytest

from diurna_projections import lock_documents
from diurna_projections.memory import MemoryTables
from diurna_projections.rows import LockHistory, LockStatistics
from diurna_streams.deciders.locks import RULES
from support.locking import Locksmith, busy_locks
from support.projecting import batches


def folded(smith: Locksmith) -> MemoryTables:
    tables = MemoryTables(smith.history.codec)
    tables.apply(smith.history.records)
    return tables


def wishes(tables: MemoryTables) -> list[LockHistory]:
    return list(tables.tables.lock_history)


def statistics(tables: MemoryTables, resource: str = "repo:x") -> LockStatistics:
    found = tables.tables.lock_statistics.get(resource)
    assert found is not None
    return found


def test_a_granted_lock_is_a_row_until_it_is_free() -> None:
    smith = Locksmith()
    smith.acquire("repo:x", "one", reason="a reason", metadata='{"pr":1}')
    lock = folded(smith).tables.locks.get("repo:x")
    assert lock is not None
    assert (lock.lock_id, lock.agent_id, lock.reason, lock.metadata) == ("one", "agent-1", "a reason", '{"pr":1}')
    assert lock.deadline_ms == lock.acquired_at_ms + 10_000
    smith.release("repo:x", "one", after_ms=993)
    tables = folded(smith)
    assert len(tables.tables.locks) == 0
    (wish,) = wishes(tables)
    assert (wish.status, wish.held_ms, wish.ended_by, wish.waited_ms) == ("released", 1_000, "agent-1", 0)
    assert (wish.ended_at_ms or 0) - (wish.acquired_at_ms or 0) == 1_000


def test_a_queue_is_rows_in_order_and_each_wish_keeps_its_beginning() -> None:
    smith = Locksmith()
    smith.acquire("repo:x", "one")
    smith.acquire("repo:x", "two", "agent-2", wait_ms=60_000, reason="me next")
    smith.acquire("repo:x", "three", "agent-3", wait_ms=60_000)
    tables = folded(smith)
    waiting = sorted(tables.tables.lock_waiters, key=lambda row: row.asked_offset)
    assert [row.lock_id for row in waiting] == ["two", "three"]
    smith.release("repo:x", "one", after_ms=100)
    tables = folded(smith)
    assert [row.lock_id for row in tables.tables.lock_waiters] == ["three"]
    lock = tables.tables.locks.get("repo:x")
    assert lock is not None
    assert (lock.lock_id, lock.is_provisional, lock.reason) == ("two", 1, "me next")
    assert lock.waited_ms > 100
    second = next(row for row in wishes(tables) if row.lock_id == "two")
    assert (second.status, second.asked_at_ms + lock.waited_ms) == ("held", second.acquired_at_ms)
    smith.renew("repo:x", "two", "agent-2")
    smith.renew("repo:x", "two", "agent-2")
    lock = folded(smith).tables.locks.get("repo:x")
    assert lock is not None
    assert (lock.is_provisional, lock.renewals) == (0, 1), "the first only claims it"
    smith.release("repo:x", "two", "agent-2")
    wish = next(row for row in wishes(folded(smith)) if row.lock_id == "two")
    assert (wish.status, wish.is_provisional, wish.renewals, wish.reason) == ("released", 0, 1, "me next")


def test_every_way_a_wish_ends_is_told_apart() -> None:
    smith = Locksmith()
    smith.acquire("repo:x", "expires", lease_ms=1_000)
    smith.acquire("repo:x", "denied", "agent-2")
    smith.acquire("repo:x", "gives-up", "agent-3", wait_ms=60_000)
    smith.release("repo:x", "gives-up", "agent-3")
    smith.acquire("repo:x", "too-late", "agent-4", wait_ms=500)
    smith.tick("repo:x", after_ms=700)
    smith.tick("repo:x", after_ms=700)
    smith.acquire("repo:x", "taken")
    smith.force("repo:x")
    smith.acquire("repo:x", "released")
    smith.release("repo:x", "released")
    smith.acquire("repo:x", "held")
    tables = folded(smith)
    found = {row.lock_id: (row.status, row.ended_by, row.end_reason) for row in wishes(tables)}
    assert found == {
        "expires": ("expired", None, None),
        "denied": ("denied", None, "Resource repo:x is locked by agent-1"),
        "gives-up": ("wait_cancelled", "agent-3", None),
        "too-late": ("wait_timed_out", None, "locked by agent-1"),
        "taken": ("force_released", "admin", "it hangs"),
        "released": ("released", "agent-1", None),
        "held": ("held", None, None),
    }
    counted = statistics(tables)
    assert (counted.wishes, counted.acquisitions, counted.queued, counted.denials) == (7, 4, 2, 1)
    assert (counted.releases, counted.expirations, counted.forced_releases) == (1, 1, 1)
    assert (counted.wait_timeouts, counted.wait_cancellations) == (1, 1)
    assert counted.held_ms_max == max(row.held_ms or 0 for row in wishes(tables))


def test_refusals_and_repetitions_change_nothing_but_the_log() -> None:
    smith = Locksmith()
    smith.acquire("repo:x", "one")
    before = folded(smith)
    smith.release("repo:x", "one", "agent-2")
    smith.renew("repo:x", "another")
    smith.force("repo:nobody")
    after = folded(smith)
    for table in ("locks", "lock_waiters", "lock_history", "lock_statistics"):
        assert after.checksums()[table] == before.checksums()[table]
    assert len(after.tables.events) == len(before.tables.events) + 3


@pytest.mark.parametrize("seed", range(5))
def test_the_tables_say_what_the_decider_remembers(seed: int) -> None:
    """At every moment: the same holders and queues as the state that decides, in whatever batches it was folded."""
    chance = random.Random(seed)
    history = busy_locks(seed, 400)
    tables = MemoryTables(history.codec)
    states = dict.fromkeys(range(6), RULES.initial)
    for batch in batches(history.records, chance, 30):
        tables.apply(batch)
        for record in batch:
            event = history.codec.decode(record.value)
            states[record.partition] = RULES.evolve(states[record.partition], event, 0)  # type: ignore[arg-type]
        held = {
            (resource_id, resource.holder.lock_id, resource.holder.token, resource.holder.deadline_ms)
            for state in states.values()
            for resource_id, resource in state.resources.items()
            if resource.holder is not None
        }
        queued = {
            resource_id: [waiter.lock_id for waiter in resource.queue]
            for state in states.values()
            for resource_id, resource in state.resources.items()
            if resource.queue
        }
        rows = tables.tables
        assert {(row.resource_id, row.lock_id, row.fencing_token, row.deadline_ms) for row in rows.locks} == held
        found: dict[str, list[str]] = {}
        for row in sorted(rows.lock_waiters, key=lambda row: row.asked_offset):
            found.setdefault(row.resource_id, []).append(row.lock_id)
        assert found == queued
    open_wishes = [row for row in tables.tables.lock_history if row.ended_at_ms is None]
    assert len(open_wishes) == len(tables.tables.locks) + len(tables.tables.lock_waiters)
    counted = list(tables.tables.lock_statistics)
    assert sum(row.wishes for row in counted) == len(tables.tables.lock_history)
    ended = sum(row.releases + row.expirations + row.forced_releases for row in counted)
    assert sum(row.acquisitions for row in counted) == ended + len(tables.tables.locks)
    assert ended > 50


def test_a_lease_whose_time_has_passed_is_told_as_over_though_no_event_says_so() -> None:
    smith = Locksmith()
    smith.acquire("repo:x", "one", lease_ms=1_000)
    (wish,) = wishes(folded(smith))
    deadline_ms = wish.deadline_ms or 0
    before = lock_documents.history_document(wish._asdict(), deadline_ms - 1)
    after = lock_documents.history_document(wish._asdict(), deadline_ms)
    assert (before["status"], before["held_seconds"], before["ended_at"]) == ("held", None, None)
    assert (after["status"], after["held_seconds"], after["ended_at"]) == ("expired", 1.0, before["expires_at"])
