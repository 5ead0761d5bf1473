"""Porcupine, which others wrote, is asked whether what clients were told could have happened.

Model. `lock.go` is a lock with growing tokens and leases that end by themselves no earlier than their holder was told;
`register.go` is a compare-and-set register, the version of a workflow. The judge knows nothing else, and is first shown
histories that could not have happened.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest

from support.lock_history import Operation
from support.lock_simulation import LockClimate, simulate
from support.locks_mutants import anybody_releases
from support.outside_judge import Update, built, judge_locks, judge_versions
from support.version_simulation import simulate_versions

pytestmark = pytest.mark.timeout(600)
STEADY = LockClimate(has_clock_steps=False, has_administrator=False)


@pytest.fixture(autouse=True, scope="module")
def _judge() -> None:
    built()


def did(
    client: str, kind: Any, called_s: float, returned_s: float | None, outcome: Any = "ok", **more: Any
) -> Operation:
    """What a client did with its lock on the one resource there is; the lease is ten seconds."""
    lock_id = more.pop("lock_id", f"lock-{client}")
    made = Operation(client, kind, "r", lock_id, f"{client}-{kind}-{called_s}", 10.0, called_s, returned_s=returned_s)
    return replace(made, outcome=outcome, **more)


A_TAKES = did("a", "acquire", 0, 1, token=5)
A_LEAVES = did("a", "release", 2, 3)
B_TAKES = did("b", "acquire", 4, 5, token=7)
LATER = {"called_s": 9, "returned_s": 11}
UNHEARD = {"outcome": "unknown", "returned_s": None}


@pytest.mark.parametrize(
    "told",
    {
        "one after the other": [A_TAKES, A_LEAVES, B_TAKES],
        "at the same time, in one of two orders": [A_TAKES, replace(A_LEAVES, returned_s=4.5), B_TAKES],
        "a lease that ended by itself": [A_TAKES, replace(B_TAKES, **LATER)],
        "an end nobody heard of": [A_TAKES, replace(A_LEAVES, **UNHEARD), B_TAKES],
        "a grant nobody heard of": [replace(A_TAKES, **UNHEARD, token=None), replace(B_TAKES, **LATER)],
        "who is refused because its lease is over": [A_TAKES, did("a", "renew", 10.5, 11, "no")],
        "renewed in time": [A_TAKES, did("a", "renew", 9, 9.5, token=5), did("a", "release", 18, 18.5)],
        "claimed out of the queue": [
            A_TAKES, A_LEAVES, replace(B_TAKES, is_claimed=False), did("b", "claim", 5.5, 6, token=7),
            did("b", "release", 14, 15),
        ],
        "never claimed": [A_TAKES, A_LEAVES, replace(B_TAKES, is_claimed=False), did("c", "acquire", 7, 8.5, token=9)],
        "denied": [A_TAKES, did("b", "acquire", 1.5, 1.6, "no")],
    }.items(),
    ids=lambda told: told[0].replace(" ", "-"),
)  # fmt: skip
def test_what_may_happen_to_a_lock_is_let_pass(told: tuple[str, list[Operation]]) -> None:
    assert judge_locks(told[1]) == "ok"


@pytest.mark.parametrize(
    "told",
    {
        "two hold it at once": [A_TAKES, B_TAKES],
        "a lease that ended too early": [A_TAKES, replace(B_TAKES, called_s=7, returned_s=9)],
        "a token that shrinks": [A_TAKES, A_LEAVES, replace(B_TAKES, token=4)],
        "a token twice": [A_TAKES, A_LEAVES, replace(B_TAKES, token=5)],
        "who holds it is refused": [A_TAKES, did("a", "renew", 2, 3, "no")],
        "given back twice": [A_TAKES, A_LEAVES, did("a", "release", 4, 5)],
        "renewed after it was given back": [A_TAKES, A_LEAVES, did("a", "renew", 4, 5, token=5)],
        "another's lock is renewed": [A_TAKES, did("b", "renew", 2, 3, token=5)],
        "the renewal was forgotten": [
            A_TAKES, did("a", "renew", 9, 9.5, token=5), did("b", "acquire", 11, 12, token=7),
        ],
        "the claim was forgotten": [
            A_TAKES, A_LEAVES, replace(B_TAKES, is_claimed=False), did("b", "claim", 5.5, 6, token=7),
            did("c", "acquire", 8, 9, token=9),
        ],
        "one unknown end for two": [
            A_TAKES, replace(A_LEAVES, **UNHEARD), B_TAKES, did("c", "acquire", 5.5, 6, token=9),
        ],
    }.items(),
    ids=lambda told: told[0].replace(" ", "-"),
)  # fmt: skip
def test_what_cannot_happen_to_a_lock_is_rejected(told: tuple[str, list[Operation]]) -> None:
    assert judge_locks(told[1]) == "illegal"


def wrote(client: str, kind: Any, called_s: float, returned_s: float | None, outcome: Any, **more: Any) -> Update:
    return Update(client, "w", kind, called_s, returned_s, outcome, **more)


CREATED = wrote("a", "create", 0, 1, "ok")
A_FIRST = wrote("a", "update", 2, 3, "ok", expected=1, version=2)
A_UNHEARD = wrote("a", "update", 2, None, "unknown", expected=1)
B_TOO_LATE = wrote("b", "update", 2, 3, "no", expected=1, version=2)


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ([CREATED, A_FIRST, B_TOO_LATE], "ok"),
        ([CREATED, A_FIRST, replace(B_TOO_LATE, **UNHEARD)], "ok"),
        ([CREATED, A_UNHEARD, wrote("b", "update", 4, 5, "no", expected=1, version=2)], "ok"),
        ([CREATED, wrote("a", "update", 2, 3, "ok", version=2), wrote("b", "update", 2, 3, "ok", version=3)], "ok"),
        ([CREATED, A_FIRST, wrote("b", "update", 2, 3, "ok", expected=1, version=2)], "illegal"),
        ([CREATED, A_FIRST, wrote("b", "update", 4, 5, "no", expected=2, version=3)], "illegal"),
        ([CREATED, A_FIRST, wrote("b", "update", 4, 5, "ok", expected=1, version=2)], "illegal"),
        ([CREATED, wrote("b", "update", 2, 3, "no", expected=1, version=1)], "illegal"),
        ([CREATED, wrote("b", "create", 2, 3, "ok")], "illegal"),
        ([A_FIRST], "illegal"),
    ],
)  # fmt: skip
def test_versions_go_up_by_one_and_one_of_those_who_expect_the_same_wins(told: list[Update], verdict: str) -> None:
    assert judge_versions(told) == verdict


# --- and then it is shown what the deciders did ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_what_clients_of_locks_were_told_in_a_storm_could_have_happened(seed: int, tmp_path: Any) -> None:
    print(f"locks, seed {seed}")
    history = simulate(seed, STEADY).history
    assert sum(operation.outcome == "ok" for operation in history.operations) > 100
    assert any(operation.outcome == "unknown" for operation in history.operations)
    assert judge_locks(history.operations, picture=tmp_path / "history.html") == "ok"


@pytest.mark.parametrize("seed", [0, 1])
def test_what_writers_of_workflows_were_told_in_a_storm_could_have_happened(seed: int) -> None:
    """I9, with clock steps and without: versions have nothing to do with time."""
    print(f"versions, seed {seed}")
    updates, wrong = simulate_versions(seed)
    assert not wrong, wrong
    assert sum(update.outcome == "ok" for update in updates) > 100
    assert judge_versions(updates) == "ok"


# --- mutants --------------------------------------------------------------------------------------------------------


def verdicts_on_locks() -> set[str]:
    return {judge_locks(simulate(seed, replace(STEADY, seconds=20)).history.operations) for seed in (1, 3)}


def test_locks_that_anybody_may_give_back_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    anybody_releases(monkeypatch)
    assert "illegal" in verdicts_on_locks()


def test_leases_that_end_early_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    evolve_module = importlib.import_module("diurna_streams.deciders.locks.evolve")
    granted = evolve_module._locked

    def shorter(resource: Any, event: Any) -> Any:
        after = granted(resource, event)
        deadline_ms = event.at_ms + (event.deadline_ms - event.at_ms) // 4
        return replace(after, holder=after.holder._replace(deadline_ms=deadline_ms))

    monkeypatch.setattr(evolve_module, "_locked", shorter)
    assert "illegal" in verdicts_on_locks()


def test_writers_whose_expectation_is_ignored_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    decide_module = importlib.import_module("diurna_streams.deciders.workflows.decide")
    change = decide_module._change

    def careless(draft: Any, command: Any, workflow: Any) -> None:
        fields = {"expected_version": None} if hasattr(command, "expected_version") else {}
        change(draft, command.model_copy(update=fields), workflow)

    monkeypatch.setattr(decide_module, "_change", careless)
    assert judge_versions(simulate_versions(1)[0]) == "illegal"
