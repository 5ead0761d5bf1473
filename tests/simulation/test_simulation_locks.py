"""Locks in a storm: seeds of virtual time against the real deciders, judged by checkers; and mutants they must catch.

Model. Three owners of every partition, six clients at a time, a guard that refuses smaller tokens. What goes wrong is
in `support.lock_simulation`; even seeds step the clocks. A seed is judged by everything in `support.lock_checkers`, by
a refold of the whole log, and by what is left when the wind has dropped.

`DIURNA_SIMULATION_SEEDS=500` runs more seeds, `DIURNA_SIMULATION_SEED=17` one of them.
"""

from __future__ import annotations

import os

import pytest

from support.lock_client import Habits
from support.lock_simulation import Judged, LockClimate, SimulatedGuard, simulate
from support.locks_mutants import (
    Mutate,
    barging,
    last_come_first_served,
    no_chain,
    no_clock_guard,
    no_deduplication,
    order_without_chain,
    token_without_phase,
    unclaimed_grants_last,
    unclaimed_grants_stay,
)

SEEDS = 12
MUTANT_SEEDS = 24


def seeds() -> list[int]:
    if given := os.environ.get("DIURNA_SIMULATION_SEED"):
        return [int(given)]
    return list(range(int(os.environ.get("DIURNA_SIMULATION_SEEDS", SEEDS))))


def shown(judged: Judged) -> str:
    return "\n".join(f"seed {judged.seed}, {name}: {found[:3]}" for name, found in judged.wrong.items())


@pytest.mark.parametrize("seed", seeds())
def test_nothing_that_may_go_wrong_breaks_a_promise_about_locks(seed: int) -> None:
    print(f"locks, seed {seed}")
    judged = simulate(seed)
    assert not judged.wrong, shown(judged)
    history, happened = judged.history, judged.happened
    assert {"refused", "flushed_late", "acknowledgement_lost", "sent_twice", "crash", "stop"} <= happened.keys()
    assert judged.report.total("duplicates") > 0, "the owners never met"
    assert judged.report.total("aliens") > 0, "no zombie wrote"
    assert len({access.lock_id for access in history.accesses if access.is_accepted}) > 5
    assert any(operation.outcome == "unknown" for operation in history.operations)


def test_one_seed_is_one_history() -> None:
    first, second = simulate(4), simulate(4)
    assert first.heads == second.heads
    assert first.history.operations == second.history.operations
    assert first.history.accesses == second.history.accesses


def test_nobody_breaks_a_promise_where_tokens_would_repeat_without_their_phase() -> None:
    for seed in range(4):
        judged = simulate(seed, IMPATIENT)
        assert not judged.wrong, shown(judged)


def test_guards_meet_holders_whose_lease_is_over() -> None:
    """Why a lock without a checked token is advice: somebody does come too late."""
    stale = [access for seed in range(2) for access in simulate(seed).history.accesses if not access.is_accepted]
    assert stale


# --- the judges see what is broken ---------------------------------------------------------------------------------


EXPECTED: dict[Mutate, set[str]] = {
    no_chain: {"accepted_is_the_fold"},
    order_without_chain: {"accepted_is_the_fold"},
    token_without_phase: {"tokens_grow"},
    no_deduplication: {"one_answer"},
    no_clock_guard: {"time_goes_on"},
    barging: {"first_come_first_served"},
    last_come_first_served: {"first_come_first_served"},
    unclaimed_grants_stay: {"nothing_outlasts_its_deadline"},
    unclaimed_grants_last: {"nothing_outlasts_its_deadline"},
}
"""Who must notice which mutant; others may, too."""
IMPATIENT = LockClimate(
    seconds=30,
    deciders=1,
    clients=4,
    has_clock_steps=False,
    habits=Habits(("deploy:production",), leases_s=(1.0,), waits_s=(2.0,), stranger_one_in=1, absent_one_in=1),
)
"""Nobody gives back in time or waits to the end: some leave the queue just when their turn comes, before any tick."""


@pytest.mark.parametrize("mutate", EXPECTED, ids=lambda mutate: mutate.__name__)
def test_a_mutant_of_the_rules_is_caught(mutate: Mutate, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)
    noticed: set[str] = set()
    for seed in range(MUTANT_SEEDS):
        climate = LockClimate(seconds=20, has_clock_steps=seed % 2 == 0)
        judged = simulate(seed, IMPATIENT if mutate is token_without_phase else climate)
        noticed |= judged.wrong.keys()
        if noticed >= EXPECTED[mutate]:
            print(f"{mutate.__name__}, seed {seed}: {shown(judged)}")
            return
    pytest.fail(f"after {MUTANT_SEEDS} seeds only {noticed or 'nothing'} was noticed")


def test_a_guard_that_checks_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    init = SimulatedGuard.__init__
    monkeypatch.setattr(SimulatedGuard, "__init__", lambda guard, chance: init(guard, chance, looks=False))
    assert any("guard_lets_one_in_at_a_time" in simulate(seed).wrong for seed in range(4))
