"""What the bench of locks judges by: it sees two holders at once, and unfairness, where they are."""

from __future__ import annotations

from collections import Counter

import pytest

from diurna_deploy.bench.rounds import Rounds
from diurna_deploy.bench.w2_locks import Hold, fairness, holders_max, judged, summary


def test_one_after_the_other_is_one_holder_and_two_at_once_are_seen() -> None:
    handed_over = [Hold(0, 0.0, 1.0, 2.0), Hold(1, 0.0, 2.0, 3.0)]
    assert holders_max(handed_over) == 1
    assert holders_max([*handed_over, Hold(2, 0.0, 2.9, 4.0)]) == 2
    assert holders_max([Hold(0, 0, 1, 9), Hold(1, 0, 2, 3), Hold(2, 0, 2.5, 4)]) == 3


def test_fairness_is_one_where_all_had_as_much_and_small_where_one_had_it_all() -> None:
    assert fairness(Counter({0: 5, 1: 5, 2: 5, 3: 5}), 4) == 1
    assert fairness(Counter({0: 20}), 4) == pytest.approx(0.25)
    assert fairness(Counter(), 4) == 0


def test_a_hand_over_is_from_one_contender_to_another() -> None:
    holds = [Hold(0, 0.0, 0.0, 0.1), Hold(0, 0.1, 0.5, 0.6), Hold(1, 0.0, 0.62, 0.7)]
    found = judged(holds, 2)
    assert found["handover_p50_ms"] == pytest.approx(20)
    assert found["wait_p99_ms"] == pytest.approx(620)
    assert found["contended_pairs"] == pytest.approx(3 / 0.7)
    assert found["fairness"] == pytest.approx(0.9)


def measures(**given: float) -> dict[str, float]:
    return {
        "one_p50_ms": 1.0,
        "contended_pairs": 100.0,
        "many_pairs": 100.0,
        "fairness": 1.0,
        "holders_max": 1.0,
        **given,
    }


@pytest.mark.parametrize(
    ("given", "is_reached"),
    [
        ({}, True),
        ({"one_p50_ms": 1.6}, False),
        ({"contended_pairs": 50.0}, False),
        ({"many_pairs": 30.0}, False),
        ({"fairness": 0.9}, False),
        ({"holders_max": 2.0}, False),
    ],
)
def test_the_targets_are_reached_or_not(given: dict[str, float], is_reached: bool) -> None:
    found = summary(Rounds(({"floor": measures(), "diurna": measures(**given)},)))
    assert found["is_reached"] is is_reached
    assert found["floor_one_p50_ms"] == 1.0
