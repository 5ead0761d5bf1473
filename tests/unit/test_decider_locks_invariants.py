"""Whatever happens to locks, some things never do: random partitions against books of their own, and mutants caught."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from diurna_schemas.locks import LockCommandRepeated, TickLocks
from diurna_schemas.message import Command, Heading
from diurna_streams.deciders.locks import RULES
from diurna_streams.deciders.locks.state import LocksState
from support.book import encoded, fingerprint, restarted
from support.given import START_MS
from support.locks_book import LEASES_MS, LocksBook, LocksRandom, run
from support.locks_given import acquire, force_release, release, renew, tick
from support.locks_mutants import OF_THE_RULES, Mutate, decide_module

SEEDS = range(10)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_long_random_partition_breaks_no_rule(seed: int) -> None:
    """I1, I2, I3, I5, I13; twice is decided equally; the state is the fold of the events; restarts change nothing."""
    assert run(RULES, seed, 400).grants > 50, "something must have happened"


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), commands=st.integers(1, 60))
def test_any_short_random_partition_breaks_no_rule(seed: int, commands: int) -> None:
    run(RULES, seed, commands)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), before=st.integers(0, 40), later_ms=st.sampled_from([-5_000, 0, 1, 1_000, 60_000]))
def test_every_command_is_idempotent(seed: int, before: int, later_ms: int) -> None:
    """Sent again within two minutes it is answered as repeated, and changes nothing that time does not change."""
    book, source = LocksBook(RULES), LocksRandom(random.Random(seed))
    for _ in range(before):
        book.put(*source.next(book))
    command = source.command(book)
    book.put(command, source.log_ms)
    now_ms = source.log_ms + later_ms
    without = RULES.decide(book.state, tick(), Heading(book.offset, now_ms)).state
    events = book.put(command, now_ms)
    assert what_is_held(book.state) == what_is_held(without), "it changed more than time did"
    if not command.is_tick:
        assert isinstance(events[-1], LockCommandRepeated)


def what_is_held(state: LocksState) -> bytes:
    return fingerprint(replace(state, now_ms=0, seen=RULES.initial.seen))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_decided_about_one_resource_does_not_depend_on_others(seed: int) -> None:
    """With mere time in the place of the others' commands, a resource has the same history.

    Within the time a command's id is remembered: how much longer that is depends on what else happens.
    """
    book, source = LocksBook(RULES), LocksRandom(random.Random(seed), steps_ms=(-5_000, 0, 0, 1, 999, 1_000, 3_001))
    own, alone = source.resources[0], RULES.initial
    for _ in range(60):
        command, log_ms = source.next(book)
        heading = Heading(book.offset, max(log_ms, book.now_ms))
        among = [event for event in book.put(command, log_ms) if event.key == own]
        if command.key != own:
            command = TickLocks(command_id=command.command_id, partition=0)
        decision = RULES.decide(alone, command, heading)
        alone = decision.state
        assert encoded(decision.events) == encoded(among)


class Locks(RuleBasedStateMachine):
    """Somebody does anything at any time, with clocks that step both ways; the books are kept after every step."""

    RESOURCES = st.sampled_from(["deploy:production", "deploy:staging"])
    AGENTS = st.sampled_from(["one", "two", "three"])
    LOCKS = st.integers(0, 6).map(lambda number: f"lock-{number}")

    @initialize(start_ms=st.integers(0, 2**41))
    def begin(self, start_ms: int) -> None:
        self.book = LocksBook(RULES)
        self.log_ms = start_ms
        self.last: Command | None = None

    def put(self, command: Command) -> None:
        self.book.put(command, self.log_ms)
        self.last = command

    @rule(step_ms=st.one_of(st.sampled_from([1, 999, 1_000, 2_999, 3_000]), st.integers(-10_000, 100_000)))
    def step_the_clock(self, step_ms: int) -> None:
        self.log_ms = max(self.log_ms + step_ms, 0)

    @rule(
        agent_id=AGENTS, resource_id=RESOURCES, lock_id=LOCKS, lease_ms=st.sampled_from(LEASES_MS),
        wait_ms=st.sampled_from([0, 1_000, 5_000, 60_000]),
    )  # fmt: skip
    def somebody_acquires(self, agent_id: str, resource_id: str, lock_id: str, lease_ms: int, wait_ms: int) -> None:
        self.put(acquire(agent_id, resource_id, lock_id=lock_id, lease_ms=lease_ms, wait_ms=wait_ms))

    @rule(resource_id=RESOURCES, lease_ms=st.sampled_from([None, *LEASES_MS]))
    def the_holder_renews(self, resource_id: str, lease_ms: int | None) -> None:
        holder = self.book.shelf(resource_id).holder
        if holder is not None:
            self.put(renew(holder.agent_id, resource_id, lock_id=holder.lock_id, lease_ms=lease_ms))

    @rule(resource_id=RESOURCES)
    def the_holder_releases(self, resource_id: str) -> None:
        holder = self.book.shelf(resource_id).holder
        if holder is not None:
            self.put(release(holder.agent_id, resource_id, lock_id=holder.lock_id))

    @rule(agent_id=AGENTS, resource_id=RESOURCES, lock_id=LOCKS)
    def anybody_renews(self, agent_id: str, resource_id: str, lock_id: str) -> None:
        self.put(renew(agent_id, resource_id, lock_id=lock_id))

    @rule(agent_id=AGENTS, resource_id=RESOURCES, lock_id=st.one_of(st.none(), LOCKS))
    def anybody_releases(self, agent_id: str, resource_id: str, lock_id: str | None) -> None:
        self.put(release(agent_id, resource_id, lock_id=lock_id))

    @rule(resource_id=RESOURCES, grace_ms=st.sampled_from([0, 1_000, 60_000]))
    def an_administrator_takes_it_away(self, resource_id: str, grace_ms: int) -> None:
        self.put(force_release(resource_id, grace_ms=grace_ms))

    @rule()
    def time_is_told(self) -> None:
        self.put(tick())

    @precondition(lambda self: self.last is not None)
    @rule()
    def the_last_command_comes_again(self) -> None:
        assert self.last is not None
        self.put(self.last)

    @rule()
    def the_decider_restarts(self) -> None:
        self.book.state = restarted(RULES, self.book.state)

    @invariant()
    def a_tick_is_due_exactly_when_something_would_happen(self) -> None:
        state, due_ms = self.book.state, RULES.next_due_ms(self.book.state)
        heading = Heading(self.book.offset, max(state.now_ms, self.log_ms))
        is_due = due_ms is not None and due_ms <= heading.now_ms
        assert bool(RULES.decide(state, tick(), heading).events) == is_due


Locks.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLocksOfAnyLife = Locks.TestCase


# --- the books themselves must notice what is broken ---------------------------------------------------------------


@pytest.mark.parametrize("mutate", OF_THE_RULES, ids=lambda mutate: mutate.__name__)
def test_a_mutant_of_the_rules_is_caught(mutate: Mutate, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)
    for scenario in (partial(run, RULES, seed, 400) for seed in SEEDS):  # they find nothing in the true rules, above
        try:
            scenario()
        except (AssertionError, ValueError, KeyError) as found:
            print(f"{mutate.__name__}: {str(found).splitlines()[0] if str(found) else type(found).__name__}")
            return
    pytest.fail("no seed noticed")


def test_the_bound_on_the_queue_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide_module, "QUEUE_DEPTH_MAX", 201)
    book = LocksBook(RULES)
    book.put(acquire("one", lease_ms=60_000), START_MS)
    for number in range(200):
        book.put(acquire(f"waiter-{number}", wait_ms=60_000), START_MS)
    with pytest.raises(AssertionError):
        book.put(acquire("too-many", wait_ms=60_000), START_MS)
