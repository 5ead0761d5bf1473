"""The judges of lock histories are judged: each is shown a history that is broken in its own way, and must say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from diurna_schemas.locks import (
    LockCommandRepeated,
    LockExpired,
    LockRenewed,
    LockWaitTimedOut,
    ResourceLocked,
    ResourceUnlocked,
)
from diurna_schemas.message import Command, Event
from diurna_streams.deciders.locks import RULES
from support.given import START_MS, Partition
from support.lock_checkers import Found, everywhere, verdicts
from support.lock_history import Access, Decided, LockHistory, Operation, Sent, from_lines, to_line
from support.lock_history import Partition as Lane
from support.locks_given import RESOURCE, acquire, release, renew, tick

CHECKERS = everywhere(slack_ms=1_000, has_clock_steps=False)


def lane(*commands: tuple[Command, int]) -> Lane:
    """One partition, truly decided: commands, each so many milliseconds after the one before."""
    here, found = Partition(RULES), Lane(0)
    for command, after_ms in commands:
        offset = here.offset
        events = here.when(command, after_ms=after_ms)
        found.commands.append(Sent(offset, here.now_ms, command))
        found.events += [Decided(offset, event) for event in events]
    return found


FIRST, WAITS, LEAVES = acquire("one", lease_ms=5_000), acquire("two", wait_ms=9_000), release("one")
CLAIMS, ENDS = renew("two"), release("two")


def true_lane() -> Lane:
    return lane((FIRST, 0), (WAITS, 100), (LEAVES, 400), (CLAIMS, 100), (ENDS, 1_000), (tick(), 100))


def operations() -> list[Operation]:
    """What the clients of the true lane would have written down."""
    tokens = [event.fencing_token for _, event in true_lane().events if isinstance(event, ResourceLocked)]
    one = ("client-1", "acquire", RESOURCE, "lock-one")
    two = ("client-2", "acquire", RESOURCE, "lock-two")

    def operation(who: Any, kind: Any, command: Command, called_s: float, returned_s: float, **more: Any) -> Operation:
        made = Operation(who[0], kind, who[2], who[3], command.command_id, 5.0, called_s, returned_s=returned_s)
        return replace(made, **{"outcome": "ok", **more})

    return [
        operation(one, "acquire", FIRST, 0.0, 0.01, token=tokens[0]),
        operation(two, "acquire", WAITS, 0.1, 0.51, token=tokens[1], is_claimed=False),
        operation(one, "release", LEAVES, 0.5, 0.52),
        operation(two, "claim", CLAIMS, 0.6, 0.61, token=tokens[1]),
        operation(two, "release", ENDS, 1.6, 1.61),
    ]


def accesses() -> list[Access]:
    first, second = (event.fencing_token for _, event in true_lane().events if isinstance(event, ResourceLocked))
    return [
        Access(RESOURCE, "lock-one", first, is_accepted=True),
        Access(RESOURCE, "lock-two", second, is_accepted=True),
        Access(RESOURCE, "lock-one", first, is_accepted=False),
    ]


def whole(
    lanes: Sequence[Lane] | None = None, ops: list[Operation] | None = None, touched: list[Access] | None = None
) -> LockHistory:
    return LockHistory(
        list(lanes if lanes is not None else [true_lane()]),
        operations() if ops is None else ops,
        accesses() if touched is None else touched,
    )


def wrong(checker: str, history: LockHistory) -> Found:
    found = verdicts(history, CHECKERS)
    assert checker in found, f"{checker} found nothing; others: {found}"
    return found[checker]


def changed(found: Lane, at: int, **fields: Any) -> Lane:
    """The lane with another event in the place of one."""
    offset, event = found.events[at]
    found.events[at] = Decided(offset, event.model_copy(update=fields))
    return found


def without(found: Lane, kind: type[Event], at: int = 0) -> Lane:
    """The lane without the nth event of this kind."""
    places = [number for number, (_, event) in enumerate(found.events) if isinstance(event, kind)]
    del found.events[places[at]]
    return found


def test_nobody_finds_anything_in_a_true_history() -> None:
    assert verdicts(whole(), CHECKERS) == {}
    kinds = [type(event).__name__ for _, event in true_lane().events]
    assert kinds == [
        "ResourceLocked",
        "LockQueued",
        "ResourceUnlocked",
        "ResourceLocked",
        "LockRenewed",
        "ResourceUnlocked",
    ]


def test_two_holders_are_seen() -> None:
    assert "while lock-one holds it" in wrong("one_holder", whole([without(true_lane(), ResourceUnlocked)]))[0]


def test_the_end_of_another_s_lock_is_seen() -> None:
    assert "lock-two ends, and None" in " ".join(wrong("one_holder", whole([without(true_lane(), ResourceLocked, 1)])))


@pytest.mark.parametrize("token", [0, 1 << 44 | 1, 2**53])
def test_a_token_that_does_not_grow_is_seen(token: int) -> None:
    assert f"token {token}" in wrong("tokens_grow", whole([changed(true_lane(), 3, fencing_token=token)]))[0]


def test_barging_is_seen() -> None:
    barged = changed(true_lane(), 3, lock_id="lock-three", is_provisional=False)
    assert "granted to lock-three, and the next is lock-two" in wrong("first_come_first_served", whole([barged]))[0]


def test_the_last_before_the_first_is_seen() -> None:
    three = acquire("three", wait_ms=9_000)
    lanes = [lane((FIRST, 0), (WAITS, 1), (three, 1), (LEAVES, 1))]
    assert verdicts(whole(lanes, [], []), CHECKERS) == {}
    assert wrong("first_come_first_served", whole([changed(lanes[0], 4, lock_id="lock-three")], [], []))


def test_a_command_that_is_answered_twice_or_never_is_seen() -> None:
    twice = true_lane()
    twice.events.insert(1, twice.events[0])
    assert wrong("one_answer", whole([twice])) == [f"2 answers to {FIRST.command_id} at offset 0"]
    assert "0 answers" in wrong("one_answer", whole([without(true_lane(), LockRenewed)]))[0]


def test_a_command_that_is_decided_twice_is_seen() -> None:
    lanes = [lane((FIRST, 0), (LEAVES, 100), (FIRST, 100))]
    assert verdicts(whole(lanes, [], []), CHECKERS) == {}
    again = lanes[0].events[2][1]
    assert isinstance(again, LockCommandRepeated)
    granted = lanes[0].events[0][1].model_copy(update={"fencing_token": 1 << 44 | 5, "at_ms": again.at_ms})
    lanes[0].events[2] = Decided(2, granted)
    assert "decided again" in wrong("one_answer", whole(lanes, [], []))[0]


LATER = acquire("later", "file:elsewhere")
"""Something that is decided at the end: what nobody decided yet is no fault."""


def test_a_lease_that_outlasts_its_deadline_is_seen() -> None:
    lanes = [lane((FIRST, 0), (acquire("three"), 4_999), (LATER, 1_500))]
    assert verdicts(whole(lanes, [], []), CHECKERS) == {}
    asked_late = Sent(1, START_MS + 5_000, lanes[0].commands[1].command)
    denied = lanes[0].events[1].event.model_copy(update={"at_ms": START_MS + 5_000})
    late = Lane(0, [lanes[0].commands[0], asked_late], [lanes[0].events[0], Decided(1, denied)])
    assert "lock-one holds it 0 ms past" in wrong("nothing_outlasts_its_deadline", whole([late], [], []))[0]
    unticked = without(lane((FIRST, 0), (tick(), 5_000), (LATER, 1_000)), LockExpired)
    assert "lock-one holds it 1000 ms past" in wrong("nothing_outlasts_its_deadline", whole([unticked], [], []))[0]


def test_a_grant_that_is_never_claimed_and_never_ends_is_seen() -> None:
    lanes = [lane((FIRST, 0), (WAITS, 1), (LEAVES, 1), (tick(), 3_000), (LATER, 2_000))]
    assert verdicts(whole(lanes, [], []), CHECKERS) == {}
    kept = without(lanes[0], LockExpired)
    assert "lock-two holds it" in wrong("nothing_outlasts_its_deadline", whole([kept], [], []))[0]


@pytest.mark.parametrize("kind", [LockExpired, LockWaitTimedOut])
def test_an_end_that_comes_too_early_is_seen(kind: type[Event]) -> None:
    lanes = [lane((FIRST, 0), (acquire("two", wait_ms=4_000), 1), (tick(), 5_000))]
    assert verdicts(whole(lanes, [], []), CHECKERS) == {}
    at = next(number for number, (_, event) in enumerate(lanes[0].events) if isinstance(event, kind))
    early = changed(lanes[0], at, at_ms=START_MS + 3_000)
    assert "too early" in " ".join(wrong("nothing_outlasts_its_deadline", whole([early], [], [])))


def test_a_wait_without_end_is_seen() -> None:
    lanes = [lane((FIRST, 0), (acquire("two", wait_ms=2_000), 1), (tick(), 2_000), (LATER, 1_500))]
    assert "waits past its time" in wrong(
        "nothing_outlasts_its_deadline", whole([without(lanes[0], LockWaitTimedOut)], [], [])
    )[0]  # fmt: skip


def test_time_that_goes_back_is_seen() -> None:
    assert wrong("time_goes_on", whole([changed(true_lane(), 4, at_ms=START_MS)]))


def test_an_order_that_contradicts_the_clients_is_seen() -> None:
    swapped = operations()
    swapped[0] = replace(swapped[0], called_s=2.0, returned_s=2.1)
    assert "was answered before" in wrong("real_time_order", whole(ops=swapped))[0]
    unknown = [replace(swapped[1], outcome="unknown", returned_s=None), swapped[0]]
    assert "real_time_order" not in verdicts(whole(ops=unknown), CHECKERS), "what is unknown contradicts nothing"


def test_a_client_that_was_told_something_else_is_seen() -> None:
    told = operations()
    told[0] = replace(told[0], token=7)
    assert "was told token 7" in wrong("told_what_is_on_the_log", whole(ops=told))[0]


def test_a_guard_that_lets_the_past_in_is_seen() -> None:
    first, second, third = accesses()
    assert (
        "let in after"
        in wrong("guard_lets_one_in_at_a_time", whole(touched=[second, replace(third, is_accepted=True)]))[0]
    )
    assert "was refused after" in wrong(
        "guard_lets_one_in_at_a_time", whole(touched=[first, replace(second, is_accepted=False)])
    )[0]  # fmt: skip
    shared = [second, replace(second, lock_id="lock-one")]
    assert "share token" in wrong("guard_lets_one_in_at_a_time", whole(touched=shared))[0]
    invented = [replace(first, token=first.token + 1)]
    assert "never granted" in wrong("guard_lets_one_in_at_a_time", whole(touched=invented))[0]


def test_two_who_are_certain_at_once_are_seen() -> None:
    told = operations()
    told[2] = replace(told[2], called_s=3.0)
    assert "are both certain for" in wrong("leases_are_disjoint", whole(ops=told))[0]
    told[3] = replace(told[3], outcome="unknown", returned_s=None)
    assert "leases_are_disjoint" not in verdicts(whole(ops=told), CHECKERS), (
        "a grant that was not claimed is not certain"
    )


def test_operations_travel_as_lines_and_the_last_word_counts() -> None:
    begun = replace(operations()[0], returned_s=None, outcome="unknown", token=None)
    text = to_line(begun) + to_line(operations()[1]) + to_line(operations()[0])
    assert sorted(from_lines(text + '{"client": "cut o'), key=lambda one: one.called_s) == operations()[:2]
