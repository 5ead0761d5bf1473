"""What is decided about locks: given what happened, when a command comes, then these events."""

from __future__ import annotations

import pytest

from diurna_schemas.locks import (
    LockCommandRefused,
    LockCommandRepeated,
    LockDenied,
    LockExpired,
    LockForceReleased,
    LockQueued,
    LockRenewed,
    LockWaitCancelled,
    LockWaitTimedOut,
    ResourceLocked,
    ResourceUnlocked,
)
from diurna_schemas.message import Heading
from diurna_streams.deciders.locks import RULES
from support.given import Partition, names, only
from support.locks_given import RESOURCE, acquire, force_release, release, renew, tick


@pytest.fixture
def here() -> Partition:
    return Partition(RULES)


def test_a_free_lock_is_given_at_once_with_a_token_and_a_deadline(here: Partition) -> None:
    locked = only(ResourceLocked, here.when(acquire("one", lease_ms=5_000)))
    assert (locked.agent_id, locked.is_provisional, locked.waited_ms) == ("one", False, 0)
    assert locked.deadline_ms == here.now_ms + 5_000
    assert locked.fencing_token == 1 << 44 | 1


def test_who_does_not_wait_is_told_who_holds_it(here: Partition) -> None:
    here.when(acquire("one", lease_ms=5_000))
    denied = only(LockDenied, here.when(acquire("two")))
    assert denied.error == f"Resource {RESOURCE} is locked by one"
    assert (denied.code, denied.holder_agent_id) == ("locked", "one")
    assert denied.holder_deadline_ms == here.now_ms + 5_000


def test_who_waits_gets_it_in_order_of_coming_and_must_claim_it(here: Partition) -> None:
    here.when(acquire("one"))
    second = only(LockQueued, here.when(acquire("two", wait_ms=60_000)))
    third = only(LockQueued, here.when(acquire("three", wait_ms=60_000)))
    assert [(event.position, event.holder_agent_id) for event in (second, third)] == [(1, "one"), (2, "one")]
    events = here.when(release("one"), after_ms=700)
    assert names(events) == ["ResourceUnlocked", "ResourceLocked"]
    granted = only(ResourceLocked, events)
    assert (granted.agent_id, granted.is_provisional, granted.waited_ms) == ("two", True, 700)
    assert granted.deadline_ms == here.now_ms + 3_000, "unclaimed, it is given on soon"
    claimed = only(LockRenewed, here.when(renew("two"), after_ms=100))
    assert claimed.deadline_ms == here.now_ms + 10_000
    assert claimed.fencing_token == granted.fencing_token


def test_an_unclaimed_grant_costs_three_seconds_and_not_a_lease(here: Partition) -> None:
    here.when(acquire("one"), acquire("dead", wait_ms=60_000, lease_ms=600_000), acquire("three", wait_ms=60_000))
    here.when(release("one"))
    assert here.when(tick(), after_ms=2_999) == []
    assert names(here.when(tick(), after_ms=1)) == ["LockExpired", "ResourceLocked"]
    assert only(ResourceLocked, here.history[-1:]).agent_id == "three"


def test_a_lease_ends_by_itself_and_its_late_holder_is_refused(here: Partition) -> None:
    here.when(acquire("one", lease_ms=2_000))
    assert here.when(tick(), after_ms=1_999) == []
    expired = only(LockExpired, here.when(tick(), after_ms=1))
    assert (expired.agent_id, expired.held_ms) == ("one", 2_000)
    for late in (renew("one"), release("one")):
        refused = only(LockCommandRefused, here.when(late))
        assert (refused.code, "one does not hold" in refused.reason) == ("not_holder", True)


def test_a_command_that_comes_after_the_deadline_finds_the_lock_free_without_any_tick(here: Partition) -> None:
    here.when(acquire("one", lease_ms=2_000))
    events = here.when(acquire("two"), after_ms=2_000)
    assert names(events) == ["LockExpired", "ResourceLocked"]


def test_one_late_release_that_grants_twice_gives_two_tokens(here: Partition) -> None:
    """The holder's time is over, so the first waiter gets it; the command is that waiter's own release."""
    here.when(acquire("one", lease_ms=1_000), acquire("two", wait_ms=60_000), acquire("three", wait_ms=60_000))
    events = here.when(release("two"), after_ms=1_000)
    assert names(events) == ["LockExpired", "ResourceLocked", "ResourceUnlocked", "ResourceLocked"]
    tokens = [event.fencing_token for event in events if isinstance(event, ResourceLocked)]
    assert tokens == [1 << 44 | 6, 1 << 44 | 7]


def test_a_new_incarnation_of_the_log_goes_on_above_all_tokens_of_the_old_one() -> None:
    old = RULES.decide(RULES.initial, acquire("one"), Heading(2**43 - 1, 1, incarnation=1))
    new = RULES.decide(RULES.initial, acquire("two"), Heading(0, 1, incarnation=2))
    assert only(ResourceLocked, old.events).fencing_token < only(ResourceLocked, new.events).fencing_token < 2**53


def test_waiting_ends_when_its_time_is_over_and_before_anything_is_granted(here: Partition) -> None:
    here.when(acquire("one", lease_ms=5_000), acquire("two", wait_ms=5_000), acquire("three", wait_ms=6_000))
    events = here.when(tick(), after_ms=5_000)
    assert names(events) == ["LockWaitTimedOut", "LockExpired", "ResourceLocked"]
    assert only(LockWaitTimedOut, events).agent_id == "two"
    assert only(ResourceLocked, events).agent_id == "three"


def test_who_no_longer_wants_to_wait_leaves_the_queue(here: Partition) -> None:
    here.when(acquire("one"), acquire("two", wait_ms=60_000), acquire("three", wait_ms=60_000))
    cancelled = only(LockWaitCancelled, here.when(release("two"), after_ms=40))
    assert (cancelled.agent_id, cancelled.waited_ms) == ("two", 40)
    assert only(ResourceLocked, here.when(release("one"))[1:]).agent_id == "three"


def test_who_gives_back_whatever_it_has_is_not_given_the_lock_again(here: Partition) -> None:
    here.when(acquire("one", lock_id="first"), acquire("one", lock_id="second", wait_ms=60_000))
    here.when(acquire("two", wait_ms=60_000), acquire("one", lock_id="third", wait_ms=60_000))
    events = here.when(release("one"))
    assert names(events) == ["LockWaitCancelled", "LockWaitCancelled", "ResourceUnlocked", "ResourceLocked"]
    assert only(ResourceLocked, events[-1:]).agent_id == "two"
    assert only(LockCommandRefused, here.when(release("one"))).code == "not_holder"
    here.when(acquire("two", lock_id="again", wait_ms=60_000))
    assert names(here.when(release("two", lock_id="lock-two"))) == ["ResourceUnlocked", "ResourceLocked"]


def test_only_the_holder_renews_and_releases(here: Partition) -> None:
    here.when(acquire("one"))
    strangers = (renew("two"), renew("one", lock_id="other"), release("two"), release("one", lock_id="other"))
    for stranger in strangers:
        refused = only(LockCommandRefused, here.when(stranger))
        assert refused.code == "not_holder"
    assert "it is locked by one" in refused.reason
    assert only(ResourceUnlocked, here.when(release("one"))).agent_id == "one"


def test_an_administrator_takes_it_away_and_leaves_the_holder_time_to_stop(here: Partition) -> None:
    here.when(acquire("one", lease_ms=60_000), acquire("two", wait_ms=90_000))
    taken = only(LockForceReleased, here.when(force_release(grace_ms=5_000)))
    assert (taken.agent_id, taken.released_by, taken.not_before_ms) == ("one", "admin", here.now_ms + 5_000)
    assert only(LockDenied, here.when(acquire("three"))).error == f"Resource {RESOURCE} is not given to anybody yet"
    assert here.when(tick(), after_ms=4_999) == []
    assert only(ResourceLocked, here.when(tick(), after_ms=1)).agent_id == "two"


def test_grace_never_lasts_longer_than_the_lease_would_have(here: Partition) -> None:
    here.when(acquire("one", lease_ms=2_000))
    assert only(LockForceReleased, here.when(force_release(grace_ms=60_000))).not_before_ms == here.now_ms + 2_000
    assert only(LockCommandRefused, here.when(force_release())).code == "not_held"


def test_a_lock_id_in_use_is_refused_and_a_lock_is_not_reentrant(here: Partition) -> None:
    here.when(acquire("one"))
    assert only(LockCommandRefused, here.when(acquire("one"))).code == "lock_id_used"
    assert only(LockDenied, here.when(acquire("one", lock_id="another"))).holder_agent_id == "one"


def test_a_repeated_command_is_answered_by_what_it_is_now_and_changes_nothing(here: Partition) -> None:
    first = acquire("one", lease_ms=5_000)
    granted = only(ResourceLocked, here.when(first))
    again = only(LockCommandRepeated, here.when(first, after_ms=1_000))
    assert (again.first_offset, again.standing, again.fencing_token) == (0, "held", granted.fencing_token)
    assert again.deadline_ms == granted.deadline_ms, "asking again renews nothing"
    waiting = acquire("two", wait_ms=60_000)
    here.when(waiting)
    assert only(LockCommandRepeated, here.when(waiting)).standing == "queued"
    here.when(release("two"))
    assert only(LockCommandRepeated, here.when(waiting)).standing == "gone"


def test_a_clock_that_turns_back_lengthens_leases_and_shortens_none(here: Partition) -> None:
    here.when(acquire("one", lease_ms=5_000))
    start_ms = here.now_ms
    assert only(LockDenied, here.when(acquire("two"), after_ms=-60_000)).at_ms == start_ms
    here.now_ms = start_ms + 4_999
    assert here.when(tick()) == []


def test_the_queue_is_bounded(here: Partition) -> None:
    here.when(acquire("one", lease_ms=60_000))
    for number in range(200):
        here.when(acquire(f"waiter-{number}", wait_ms=60_000))
    denied = only(LockDenied, here.when(acquire("too-many", wait_ms=60_000)))
    assert (denied.code, denied.error) == ("queue_full", f"200 wait for {RESOURCE} already")


def test_locks_of_other_resources_are_nobody_s_business(here: Partition) -> None:
    here.when(acquire("one", "deploy:a"))
    assert names(here.when(acquire("two", "deploy:b"))) == ["ResourceLocked"]


def test_free_locks_are_forgotten(here: Partition) -> None:
    for number in range(50):
        here.when(acquire("one", f"file:{number}", lease_ms=1_000), release("one", f"file:{number}"))
    here.when(acquire("one", "file:left", lease_ms=1_000))
    here.when(tick(), after_ms=1_000)
    assert len(here.state.resources) == 0
    assert here.state.due_count == 0
