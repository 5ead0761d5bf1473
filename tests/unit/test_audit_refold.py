"""The auditor's heart: it is shown histories with one thing wrong in them, and must name the place every time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diurna_schemas.catalogue import RECORDS, schema_of
from diurna_schemas.chain import Head
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import link_of
from diurna_schemas.locks import LockDenied, LockQueued, ResourceLocked, ResourceUnlocked
from diurna_schemas.message import Event
from diurna_schemas.workflows import CreateWorkflow, UpdateWorkflowState
from diurna_streams.audit.findings import Divergence
from diurna_streams.audit.refold import RELIED_ON, Refold, state_hash
from diurna_streams.deciders import locks, workflows
from diurna_streams.log import Record
from diurna_streams.snapshots import Settled
from support.book import CODEC, restarted
from support.given import START_MS
from support.histories import (
    History,
    flipped,
    history,
    of_family,
    relinked,
    renumbered,
    with_event,
    with_header,
)
from support.locks_given import acquire, release, tick

FAMILIES = ("agents", "locks", "workflows")


def audited(past: History, events: Sequence[Record] | None = None, **options: Any) -> Refold:
    """The audit of a history whose events may be others, in small pieces, as they might be read."""
    is_buried = options.pop("is_buried", False)
    codec = options.pop("codec", CODEC)
    refold = Refold(past.rules, codec, past.partition, **options)
    commands = [record for record in past.commands if record.offset >= refold.next_command]
    left = [record for record in (past.events if events is None else events) if record.offset >= refold.next_event]
    while refold.divergence is None:
        refold.advance()
        if refold.doubt is not None:
            refold.settle(is_buried=is_buried)
        elif refold.waits_for == "commands":
            if not commands:
                refold.no_more_commands()
                break
            refold.give_commands(commands[:3])
            del commands[:3]
        elif left:
            refold.give_events(left[:2])
            del left[:2]
        else:
            break
    refold.no_more_events()
    refold.stands_still()
    return refold


def wrong(refold: Refold) -> Divergence:
    assert refold.divergence is not None, "nothing was noticed"
    return refold.divergence


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(5))
def test_a_true_history_is_clean_and_every_event_is_decided_again(family: str, seed: int) -> None:
    past = of_family(family, seed, 200)
    found = audited(past)
    assert found.divergence is None
    assert found.counts.redecided == len(past.events) > 20
    assert found.counts.folded == found.counts.aliens == found.counts.duplicates == 0
    assert state_hash(past.rules, found.state) == state_hash(past.rules, past.state)
    assert found.head.hash == link_of(past.events[-1].headers).hash


@pytest.fixture(scope="module")
def past() -> History:
    return of_family("locks", 3, 150)


def middle(past: History, kind: type[Event] | None = None) -> int:
    """Somewhere in the middle, an event of this kind."""
    half = len(past.events) // 2
    return next(
        number
        for number in range(half, len(past.events))
        if kind is None or isinstance(CODEC.decode(past.events[number].value), kind)
    )


def test_a_flipped_byte_is_named(past: History) -> None:
    at, events = middle(past), list(past.events)
    value = events[at].value or b""
    events[at] = events[at]._replace(value=flipped(value, len(value) - 3))
    found = wrong(audited(past, events))
    assert (found.kind, found.position) == ("edited", events[at].position)


def test_a_wrong_holder_is_named_even_if_all_hashes_fit(past: History) -> None:
    at, events = middle(past, ResourceLocked), list(past.events)
    events[at] = with_event(events[at], lambda event: event.model_copy(update={"agent_id": "mallory"}))
    found = wrong(audited(past, relinked(events)))
    assert (found.kind, found.position) == ("differs", events[at].position)
    assert "agent_id='mallory'" in found.found
    assert "ResourceLocked(" in found.expected
    assert "mallory" not in found.expected
    assert found.command is not None
    assert found.command.offset == link_of(events[at].headers).command_offset


def test_a_missing_event_is_named_by_what_follows_it(past: History) -> None:
    at = middle(past)
    rest = [*past.events[:at], *past.events[at + 1 :]]
    gap = wrong(audited(past, rest))
    assert (gap.kind, gap.position) == ("gap", past.events[at + 1].position)
    cut = wrong(audited(past, renumbered(rest)))
    assert (cut.kind, cut.position.offset) == ("unlinked", at)
    hidden = wrong(audited(past, relinked(rest)))
    assert (hidden.kind, hidden.position.offset) == ("missing", at)
    assert hidden.command is not None
    assert hidden.command.offset == link_of(past.events[at].headers).command_offset


def test_a_forged_link_is_named(past: History) -> None:
    at, events = middle(past), list(past.events)
    events[at] = events[at]._replace(headers=with_header(events[at].headers, "chain_previous", "f" * 32))
    found = wrong(audited(past, events))
    assert (found.kind, found.position) == ("unlinked", events[at].position)
    assert found.found.endswith("f" * 32)


def test_an_event_of_a_command_that_does_not_exist_is_named(past: History) -> None:
    last, beyond = past.events[-1], len(past.commands) + 5
    event = CODEC.decode(last.value)
    assert isinstance(event, Event)
    invented = past.invented(event, (beyond, 0), offset=len(past.events))
    found = wrong(audited(past, [*past.events, invented]))
    assert (found.kind, found.position) == ("surplus", invented.position)


def test_an_event_too_many_is_named() -> None:
    """Of a command that leads to nothing, and of one that leads to less."""
    idle = history(locks.RULES, [(acquire("one"), START_MS), (tick(), START_MS + 1), (release("one"), START_MS + 2)])
    locked, unlocked = (CODEC.decode(record.value) for record in idle.events)
    assert isinstance(locked, ResourceLocked)
    assert isinstance(unlocked, ResourceUnlocked)
    for place in ((1, 0), (0, 1)):
        surplus = idle.invented(locked, place, offset=1)
        found = wrong(audited(idle, [idle.events[0], surplus]))
        assert (found.kind, found.position.offset) == ("surplus", 1)


def test_half_an_answer_at_the_end_is_named() -> None:
    torn = history(
        locks.RULES,
        [(acquire("one"), START_MS), (acquire("two", wait_ms=9_000), START_MS), (release("one"), START_MS)],
    )
    found = wrong(audited(torn, torn.events[:-1]))
    assert (found.kind, found.position.offset, found.command and found.command.offset) == ("missing", 3, 2)


def test_an_event_under_another_command_s_name_is_named(past: History) -> None:
    at, events = middle(past), list(past.events)
    for name in sorted(RELIED_ON - {"chain_at", "logicversion", "ce_type"}):
        damaged = events[at]._replace(headers=with_header(events[at].headers, name, "somebody-else"))
        found = wrong(audited(past, [*events[:at], damaged, *events[at + 1 :]]))
        assert (found.kind, found.position) == ("envelope", damaged.position), name
    late = events[at]._replace(timestamp_ms=events[at].timestamp_ms + 1)
    assert wrong(audited(past, [*events[:at], late, *events[at + 1 :]])).kind == "envelope"


def test_an_accepted_event_of_junk_is_named(past: History) -> None:
    at, events = middle(past), list(past.events)
    events[at] = events[at]._replace(value=b"\0\0\0\0\1junk")
    found = wrong(audited(past, relinked(events)))
    assert (found.kind, found.position) == ("unreadable", events[at].position)


def test_an_event_that_goes_on_from_nothing_is_named_where_it_can_only_be_folded() -> None:
    create = CreateWorkflow(command_id="c", workflow_id="w", workflow_type="t")
    update = UpdateWorkflowState(command_id="u", workflow_id="w", updates="{}")
    past = history(workflows.RULES, [(create, START_MS), (update, START_MS + 1)])
    elsewhere = with_event(past.events[1], lambda event: event.model_copy(update={"workflow_id": "another"}))
    found = wrong(audited(past, relinked([past.events[0], elsewhere]), first_command=2))
    assert (found.kind, found.position.offset) == ("unreadable", 1)
    assert "KeyError" in found.found


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_byte_of_whatever_event_is_flipped_its_place_is_named(seed: int) -> None:
    chance = random.Random(seed)
    past = of_family(chance.choice(FAMILIES), seed % 7, 60)
    at = chance.randrange(len(past.events))
    events, record = list(past.events), past.events[at]
    parts = {"key", "value", "chain_previous", "chain_hash"} | {
        name for name, text in record.headers if name in RELIED_ON and text
    }
    part = chance.choice(sorted(parts))
    if part in {"key", "value"}:
        whole = getattr(record, part)
        events[at] = record._replace(**{part: flipped(whole, chance.randrange(len(whole)))})
    else:
        headers = tuple(
            (name, flipped(text, chance.randrange(len(text))) if name == part else text)
            for name, text in record.headers
        )
        events[at] = record._replace(headers=headers)
    assert wrong(audited(past, events)).position == record.position, part


# --- what must not be taken for damage ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_commands_that_retention_took_are_folded_and_the_rest_is_decided_again(family: str) -> None:
    past = of_family(family, 2, 150)
    for first in (1, 40, len(past.commands)):
        found = audited(past, first_command=first)
        before = sum(link_of(record.headers).command_offset < first for record in past.events)
        assert found.divergence is None
        assert (found.counts.folded, found.counts.redecided) == (before, len(past.events) - before)
        assert state_hash(past.rules, found.state) == state_hash(past.rules, past.state)
    damaged = [past.events[0]._replace(value=flipped(past.events[0].value or b"", 9)), *past.events[1:]]
    assert wrong(audited(past, damaged, first_command=len(past.commands))).position.offset == 0


def test_an_audit_that_begins_at_a_snapshot_ends_where_one_from_the_beginning_does(past: History) -> None:
    half = len(past.events) // 2
    while link_of(past.events[half].headers).command_offset == link_of(past.events[half - 1].headers).command_offset:
        half += 1
    first_half = audited(past, past.events[:half])
    settled = Settled(first_half.head, restarted(past.rules, first_half.state))
    found = audited(past, start=settled)
    assert found.divergence is None
    assert found.counts.redecided == len(past.events) - half
    assert state_hash(past.rules, found.state) == state_hash(past.rules, past.state)


def test_a_snapshot_is_compared_with_what_the_events_lead_to(past: History) -> None:
    whole = audited(past)
    settled = Settled(whole.head, restarted(past.rules, past.state))
    assert audited(past, snapshot=settled).report().snapshot == "equal"
    forgetful = Settled(whole.head, replace(past.state, now_ms=past.state.now_ms + 1))
    assert wrong(audited(past, snapshot=forgetful)).kind == "snapshot"
    elsewhere = Settled(replace(whole.head, hash="0" * 31 + "1"), past.state)
    found = wrong(audited(past, snapshot=elsewhere))
    assert (found.kind, found.position) == ("snapshot", past.events[-1].position)
    later = Settled(Head(10**6, "a" * 32, 1, 10**6, 0), past.state)
    assert audited(past, snapshot=later).report().snapshot == "not reached"


def test_events_of_other_rules_are_reported_and_not_failed() -> None:
    """Whoever decided by other rules may have decided otherwise: their events count as they are."""
    commands = [
        (acquire("one", lease_ms=60_000), START_MS), (acquire("two"), START_MS + 1),
        (acquire("three", wait_ms=9_000), START_MS + 2), (release("one"), START_MS + 3),
    ]  # fmt: skip
    past = history(locks.RULES, commands)
    denied = CODEC.decode(past.events[1].value)
    assert isinstance(denied, LockDenied)
    other = denied.model_copy(update={"error": "come back on Monday"})
    events = [
        past.events[0],
        past.invented(other, (1, 0), offset=1, logic_version=2),
        *past.events[2:],
    ]
    found = audited(past, relinked(events))
    assert found.divergence is None
    assert found.logic_versions == {1: 4, 2: 1}
    assert (found.counts.folded, found.counts.redecided) == (1, 4)
    # A command of which the other rules made nothing is no missing event, as long as nobody knows who decided it.
    found = audited(past, relinked([events[0], events[1], *past.events[3:]]))
    assert wrong(found).kind in {"differs", "surplus", "missing"}, "the queue is not what these rules know"


def test_a_command_that_was_buried_leads_to_nothing_and_one_that_was_not_is_missing() -> None:
    commands = [(acquire("one"), START_MS), (acquire("two", wait_ms=5_000), START_MS), (release("one"), START_MS + 1)]
    whole = history(locks.RULES, commands)
    without = history(locks.RULES, [commands[0], commands[2]])
    queued = CODEC.decode(whole.events[1].value)
    assert isinstance(queued, LockQueued)
    unlocked = CODEC.decode(without.events[1].value)
    assert isinstance(unlocked, ResourceUnlocked)
    events = [without.events[0], without.invented(unlocked, (2, 0), offset=1, correlation_id="work-2")]
    found = audited(whole, relinked(events), is_buried=True)
    assert found.divergence is None
    assert found.counts.buried == 1
    missing = wrong(audited(whole, relinked(events)))
    assert (missing.kind, missing.command and missing.command.offset) == ("missing", 1)


def test_junk_among_the_commands_leads_to_nothing(past: History) -> None:
    first = past.events[0]
    at = link_of(first.headers).command_offset
    commands = [record._replace(value=b"junk") if record.offset == at else record for record in past.commands]
    found = wrong(audited(replace(past, commands=commands)))
    assert (found.kind, found.position) == ("surplus", first.position)
    idle = {record.offset for record in past.commands} - {
        link_of(record.headers).command_offset for record in past.events
    }
    commands = [record._replace(value=b"junk") if record.offset in idle else record for record in past.commands]
    clean = audited(replace(past, commands=commands))
    assert clean.divergence is None
    assert clean.counts.unreadable > 0


def test_duplicates_and_aliens_are_counted_and_harm_nobody(past: History) -> None:
    at = middle(past)
    link = link_of(past.events[at].headers)
    stale = link_of(past.events[0].headers).hash
    zombie = past.events[at]._replace(headers=with_header(past.events[at].headers, "chain_previous", stale))
    nothing = past.events[at]._replace(headers=())
    events = renumbered(
        [*past.events[:at], zombie, nothing, past.events[at - 1], *past.events[at:], past.events[0], *past.events[-2:]]
    )
    found = audited(past, events)
    assert found.divergence is None
    assert (found.counts.aliens, found.counts.duplicates) == (2, 4)
    assert found.counts.redecided == len(past.events)
    assert link.hash != found.head.hash


def test_an_older_schema_is_compared_by_its_meaning() -> None:
    past = history(locks.RULES, [(acquire("one"), START_MS), (release("one"), START_MS + 5)])
    newer = Codec({name: number + 1_000 for number, name in enumerate(sorted(RECORDS))})
    for number, name in enumerate(sorted(RECORDS), start=1):
        newer.learn(number, schema_of(name))
    found = audited(past, codec=newer)
    assert found.divergence is None
    assert found.counts.older_schema == found.counts.redecided == 2
    broken = relinked(
        [with_event(past.events[0], lambda event: event.model_copy(update={"agent_id": "x"})), past.events[1]]
    )
    assert wrong(audited(past, broken, codec=newer)).kind == "differs"


def test_what_waits_for_a_decision_is_no_divergence(past: History) -> None:
    keep: Callable[[Record], bool] = lambda record: link_of(record.headers).command_offset < 60  # noqa: E731
    found = audited(past, [record for record in past.events if keep(record)])
    assert found.divergence is None
    assert found.report(commands_end=len(past.commands)).undecided > 0
