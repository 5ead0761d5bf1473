"""Whatever happens, some things never do: random partitions against books of their own, and mutants that are caught."""

# The mutants reach into what is private.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownVariableType=false
from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diurna_schemas.agents import RequestDispatched, RequestSubmitted, RequestTimedOut
from diurna_schemas.message import Command, Event
from diurna_streams.deciders.agents import RULES, state
from diurna_streams.deciders.heap import Heap
from diurna_streams.deciders.window import Window
from support.agents_book import Book, run
from support.book import check_size
from support.given import START_MS, Partition, cancel, complete, deregister, mark_stale, register, submit, tick

decide_module = importlib.import_module("diurna_streams.deciders.agents.decide")
evolve_module = importlib.import_module("diurna_streams.deciders.agents.evolve")


SEEDS = range(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_long_random_partition_breaks_no_rule(seed: int) -> None:
    book = run(RULES, seed, 400)
    assert book.ended_count > 20, "something must have happened"


def crowded_by_the_urgent() -> None:
    """One instance, one low request, and something urgent every ten seconds."""
    book = Book(RULES)
    book.put(register(), START_MS)
    book.put(submit("running", timeout_ms=10**8), START_MS)
    book.put(submit("low", priority="low", timeout_ms=10**8), START_MS)
    for number in range(20):
        now_ms = START_MS + 10_000 * number
        book.put(submit(f"urgent-{number}", priority="urgent", timeout_ms=10**8), now_ms)
        (running,) = [job for job in book.live.values() if job.instance_id is not None]
        book.put(complete(running.request.request_id), now_ms)
    assert "low" in book.ended_ms


def test_low_never_starves_among_the_urgent() -> None:
    crowded_by_the_urgent()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), commands=st.integers(1, 60))
def test_any_short_random_partition_breaks_no_rule(seed: int, commands: int) -> None:
    run(RULES, seed, commands)


# --- bounds -------------------------------------------------------------------------------------------------

LONG_ID, AGENT = "i" * 190, "a" * 128


def crowd(here: Partition, count: int, **fields: Any) -> None:
    for number in range(count):
        request_id = f"{LONG_ID}{number:05}"
        put(here, submit(request_id, AGENT, correlation_id="c" * 200, source_agent="s" * 128, **fields))


def put(here: Partition, command: Command, after_ms: int = 0) -> list[Event]:
    events = here.when(command, after_ms=after_ms)
    check_size(events)
    return events


def drain(here: Partition, after_ms: int = 0) -> int:
    """Ticks until nothing is due any more, as the runner sends them; how many that took."""
    put(here, tick(), after_ms)
    for number in range(1, 500):
        due_ms = RULES.next_due_ms(here.state)
        if due_ms is None or due_ms > here.now_ms:
            return number
        assert put(here, tick()), "something is due, and nothing happens"
    raise AssertionError("time never gets done")


@pytest.fixture
def here() -> Partition:
    return Partition(RULES)


def test_a_crowd_of_deadlines_is_settled_in_batches_that_can_be_written(here: Partition) -> None:
    put(here, register(AGENT, "n" * 200, concurrency=1_000))
    crowd(here, 1_200, attempt_timeout_ms=1_000, attempts_max=1, timeout_ms=60_000)
    assert drain(here, 1_000) > 1
    assert drain(here, 60_000) > 1
    assert not here.state.requests


def test_a_newcomer_with_room_for_everything_gets_it_in_batches_that_can_be_written(here: Partition) -> None:
    put(here, register(AGENT, "n" * 200))
    crowd(here, 120, metadata='"' + "m" * 15_000 + '"', payload='"' + "ä" * 5_000 + '"', timeout_ms=60_000)
    put(here, register(AGENT, "o" * 200, concurrency=1_000))
    assert drain(here) > 1
    assert {pending.instance_id for pending in here.state.requests.values()} == {"n" * 200, "o" * 200}


@pytest.mark.parametrize("leaving", [deregister(AGENT, "n" * 200), mark_stale(AGENT, "n" * 200, epoch=0)])
def test_who_goes_with_a_thousand_spent_requests_leaves_no_more_than_can_be_written(
    here: Partition, leaving: Any
) -> None:
    put(here, register(AGENT, "n" * 200, concurrency=1_000))
    crowd(here, 1_000, attempts_max=1, timeout_ms=60_000)
    put(here, leaving)
    assert here.state.requests, "not all of them fit"
    put(here, register(AGENT, "p" * 200, concurrency=1))
    drain(here)
    assert not here.state.requests, "and the rest is dead-lettered as it comes to the head of the queue"
    assert not [event for event in here.history if isinstance(event, RequestDispatched) and event.attempt > 1]


def test_what_is_overdue_is_not_given_to_anybody(here: Partition) -> None:
    put(here, register(AGENT, "m" * 200, concurrency=1))
    crowd(here, 900, timeout_ms=1_000)
    events = put(here, register(AGENT, "n" * 200, concurrency=1_000), after_ms=5_000)
    assert any(isinstance(event, RequestTimedOut) for event in events)
    assert not any(isinstance(event, RequestDispatched) for event in events)
    drain(here)
    assert not here.state.requests


def test_the_largest_command_fits_beside_all_that_time_may_add(here: Partition) -> None:
    put(here, register(AGENT, "n" * 200, concurrency=1_000))
    crowd(here, 500, timeout_ms=1_000)
    put(here, submit("large", AGENT, payload='"' + "p" * 262_000 + '"', metadata='"' + "m" * 16_000 + '"'), 5_000)
    put(here, submit("larger", AGENT, payload='"' + "p" * 262_000 + '"', metadata='"' + "m" * 16_000 + '"'))
    drain(here)
    assert {pending.attempt for pending in here.state.requests.values()} == {1}


def test_an_id_that_is_used_again_after_it_is_forgotten_lives_a_life_of_its_own() -> None:
    """What the first life left in the heaps (a deadline, a place in the queue) must not count in the second."""
    book = Book(RULES)
    book.put(register(concurrency=1), START_MS)
    book.put(submit("long", timeout_ms=86_400_000), START_MS)
    book.put(submit("again", timeout_ms=3_600_000, priority="urgent"), START_MS)
    book.put(submit("first", timeout_ms=10_000, priority="urgent"), START_MS - 1)
    book.put(cancel("again"), START_MS)
    for step in range(1, 4):  # long enough for the window to forget
        book.put(submit(f"x{step}", "nobody"), START_MS + step * 400_000)
    now_ms = START_MS + 1_600_000
    submitted = book.put(submit("again", timeout_ms=80_000_000, priority="low"), now_ms)
    assert isinstance(submitted[0], RequestSubmitted)
    assert not any(isinstance(event, RequestTimedOut) for event in book.put(tick(), START_MS + 3_700_000))
    assert "again" in book.live


# --- mutants: each checker is first shown a broken world --------------------------------------------------------

Mutate = Callable[[pytest.MonkeyPatch], None]


def no_deduplication(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Window, "get", lambda _self, _key, _now_ms: None)


def no_clock_guard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide_module, "max", lambda _before, now: now, raising=False)


def dispatch_without_credit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state.Agent, "freest", lambda agent, **_besides: min(agent.instances, default=None))


def stale_instances_get_work(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state.Instance, "is_live", property(lambda _instance: True))


def credits_never_return(patch: pytest.MonkeyPatch) -> None:
    over = evolve_module._over

    def leaking(before: Any, request_id: str, at_ms: int) -> Any:
        after = over(before, request_id, at_ms)
        pending = before.requests[request_id]
        agent_id = pending.request.target_agent
        if pending.instance_id is None:
            return after
        agent = after.agents[agent_id]
        instance = before.agents[agent_id].instances[pending.instance_id]
        return evolve_module._with_agent(
            after, agent_id, evolve_module._with_instance(agent, pending.instance_id, instance)
        )

    patch.setattr(evolve_module, "_over", leaking)


def two_ends(patch: pytest.MonkeyPatch) -> None:
    over = evolve_module._over

    def undying(before: Any, request_id: str, at_ms: int) -> Any:
        after = over(before, request_id, at_ms)
        lives = after.requests.set(request_id, before.requests[request_id]._replace(instance_id=None))
        return after._replace(requests=lives)

    patch.setattr(evolve_module, "_over", undying)


def low_starves(patch: pytest.MonkeyPatch) -> None:
    head_start_ms = {"low": 0, "normal": 10**9, "high": 2 * 10**9, "urgent": 3 * 10**9}
    patch.setattr(state, "HEAD_START_MS", head_start_ms)


def priorities_upside_down(patch: pytest.MonkeyPatch) -> None:
    head_start_ms = {"low": 90_000, "normal": 60_000, "high": 30_000, "urgent": 0}
    patch.setattr(state, "HEAD_START_MS", head_start_ms)


def dead_items_stay_on_top(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Heap, "pruned", lambda heap, _is_live, _live_count: heap)


def one_attempt_too_many(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide_module._Draft, "_give_up", lambda _draft, _ids, _why: None)
    patch.setattr(decide_module._Draft, "_dead_letter", lambda draft, pending, _why: _given_away(draft, pending))


def _given_away(draft: Any, pending: Any) -> bool:
    draft.emit(
        RequestDispatched(
            **draft._about(pending.request.target_agent),
            request=pending.request,
            instance_id=min(draft.state.agents[pending.request.target_agent].instances, default="nobody"),
            attempt=pending.attempt + 1,
            deadline_ms=pending.deadline_ms,
        )
    )
    return True


def late_answers_count(patch: pytest.MonkeyPatch) -> None:
    record_late = decide_module._Draft._record_late

    def ends_again(draft: Any, command: Any) -> None:
        record_late(draft, command)
        draft.state = draft.state._replace(over=Window())

    patch.setattr(decide_module._Draft, "_record_late", ends_again)


MUTANTS: list[Mutate] = [
    no_deduplication, no_clock_guard, dispatch_without_credit, stale_instances_get_work, credits_never_return,
    two_ends, low_starves, priorities_upside_down, dead_items_stay_on_top, one_attempt_too_many, late_answers_count,
]  # fmt: skip


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__)
def test_a_mutant_of_the_rules_is_caught(mutate: Mutate, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)
    caught: list[str] = []
    scenarios = [crowded_by_the_urgent, *(partial(run, RULES, seed, 400) for seed in SEEDS)]
    for scenario in scenarios:  # the same ones find nothing in the true rules, above
        try:
            scenario()  # type: ignore[operator]
        except (AssertionError, KeyError) as found:
            caught.append(str(found).splitlines()[0] if str(found) else type(found).__name__)
            break
    assert caught, "no seed noticed"
    if mutate is low_starves:
        assert "starves" in caught[0]


def test_the_bound_on_the_queue_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide_module, "QUEUE_DEPTH_MAX", 3)
    book = Book(RULES)
    book.put(register(), START_MS)
    for number in range(10):
        book.put(submit(f"r{number}"), START_MS)
    assert book.state.agents["worker"].queue_depth == 3
    book.put(complete("r0"), START_MS)
    assert book.state.agents["worker"].queue_depth == 2
