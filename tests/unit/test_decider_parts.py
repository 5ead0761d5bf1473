"""The parts deciders are made of, against simpler ones; and what every family of rules promises the runner."""

from __future__ import annotations

import base64
import heapq
import importlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diurna_schemas.agents import AgentsCommand
from diurna_schemas.envelope import GENESIS
from diurna_schemas.locks import AcquireLock, LocksCommand, TickLocks
from diurna_schemas.message import Command, Heading
from diurna_schemas.workflows import WorkflowsCommand
from diurna_streams.conduct import ALL_RULES
from diurna_streams.deciders import locks
from diurna_streams.deciders.heap import Heap
from diurna_streams.deciders.rules import Rules
from diurna_streams.deciders.window import SPAN_MS, Window
from support import agents_book, locks_book
from support.book import CODEC, check_size
from support.given import START_MS, Partition
from support.record_strategies import records_of
from support.workflows_source import WorkflowsRandom

locks_module = importlib.import_module("diurna_streams.deciders.locks.decide")
ITEMS = st.lists(st.one_of(st.tuples(st.integers(0, 20), st.integers(0, 5)), st.none()), max_size=80)


@settings(max_examples=150, deadline=None)
@given(steps=ITEMS)
def test_the_heap_gives_what_heapq_gives_and_never_changes(steps: list[tuple[int, int] | None]) -> None:
    heap: Heap[tuple[int, int]] = Heap()
    oracle: list[tuple[int, int]] = []
    kept: list[tuple[Heap[tuple[int, int]], list[tuple[int, int]]]] = []
    for item in steps:
        if item is not None:
            heap = heap.push(item)
            heapq.heappush(oracle, item)
        else:
            heap = heap.pop()
            if oracle:
                heapq.heappop(oracle)
        kept.append((heap, sorted(oracle)))
    for before, items in kept:
        assert sorted(before) == items
        assert before.size == len(items)
        assert before.first == (items[0] if items else None)


@settings(max_examples=150, deadline=None)
@given(items=st.lists(st.tuples(st.integers(0, 200)), max_size=300), live=st.sets(st.integers(0, 200)))
def test_pruning_leaves_the_living_a_live_first_and_few_dead(items: list[tuple[int]], live: set[int]) -> None:
    living = sorted(item for item in items if item[0] in live)
    pruned = Heap[tuple[int]].of(iter(items)).pruned(lambda item: item[0] in live, len(living))
    assert sorted(item for item in pruned if item[0] in live) == living
    assert pruned.first == (living[0] if living else None)
    assert pruned.size <= 2 * len(living) + 64


def test_a_heap_of_many_neither_overflows_the_stack_nor_slows_down() -> None:
    heap: Heap[tuple[int]] = Heap()
    for number in range(50_000):
        heap = heap.push((number,))
    for number in range(50_000):
        assert heap.first == (number,)
        heap = heap.pop()


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0, 1, 1_000, 60_000, SPAN_MS, 3 * SPAN_MS]))))
def test_the_window_remembers_at_least_its_span_and_the_first_value(steps: list[tuple[int, int]]) -> None:
    window: Window[int] = Window()
    now_ms = START_MS
    put_ms: dict[str, int] = {}
    first: dict[str, int] = {}
    for number, (name, step_ms) in enumerate(steps):
        now_ms += step_ms
        key = str(name)
        known = window.get(key, now_ms)
        if key in put_ms and now_ms - put_ms[key] <= SPAN_MS:
            assert known == first[key], "forgotten too early, or another value"
        window = window.put(key, number, now_ms)
        found = window.get(key, now_ms)
        assert found == (number if known is None else known), "another value than the one that was there"
        assert found is not None
        put_ms[key], first[key] = now_ms, found
        if number % 3 == 0:
            window = Window[int].load(orjson.loads(orjson.dumps(window.dump())))
    remembered = len(window.young) + len(window.old)
    assert remembered <= 2 * 9


def test_the_window_forgets() -> None:
    window: Window[int] = Window()
    window = window.put("a", 1, START_MS)
    for step in range(1, 4):
        window = window.put(f"b{step}", 0, START_MS + step * SPAN_MS)
    assert window.get("a", START_MS + 3 * SPAN_MS) is None


def test_the_window_forgets_in_silence_as_it_does_in_a_crowd() -> None:
    window: Window[int] = Window()
    window = window.put("a", 1, START_MS)
    assert window.get("a", START_MS + 2 * SPAN_MS - 1) == 1
    assert window.get("a", START_MS + 2 * SPAN_MS) is None
    older = window.put("b", 2, START_MS + SPAN_MS)
    assert older.get("a", START_MS + 2 * SPAN_MS - 1) == 1
    assert older.get("a", START_MS + 2 * SPAN_MS) is None
    assert older.get("b", START_MS + 2 * SPAN_MS) == 2


COMMANDS: dict[str, tuple[type[Command], ...]] = {
    "agents": get_args(AgentsCommand),
    "locks": get_args(LocksCommand),
    "workflows": get_args(WorkflowsCommand),
}
FEW = {
    "command_id": 12, "agent_id": 2, "instance_id": 2, "request_id": 4, "resource_id": 2, "lock_id": 3,
    "workflow_id": 2, "approval_id": 2,
}  # fmt: skip


@st.composite
def commands_of(draw: st.DrawFn, family: str) -> tuple[Command, int]:
    """Any command a client may send, its ids from a few, so that they meet; and how much later it comes."""
    command = draw(st.one_of([records_of(kind) for kind in COMMANDS[family]]))
    few: dict[str, Any] = {
        name: f"{name[:2]}{draw(st.integers(0, count - 1))}" for name, count in FEW.items() if hasattr(command, name)
    }
    if hasattr(command, "expected_version"):
        few["expected_version"] = draw(st.sampled_from([None, None, 1, 2]))
    if hasattr(command, "request"):
        request_id = f"re{draw(st.integers(0, 3))}"
        few["request"] = command.request.model_copy(update={"target_agent": few["agent_id"], "request_id": request_id})
    return command.model_copy(update=few), draw(st.sampled_from([-5_000, 0, 1, 2_000, 700_000]))


@pytest.mark.parametrize("rules", ALL_RULES, ids=lambda rules: rules.family.name)
def test_every_family_is_pure_folds_its_events_and_restarts_as_it_was(rules: Rules[Any, Any, Any]) -> None:
    @settings(max_examples=60, deadline=None)
    @given(commands=st.lists(commands_of(rules.family.name), max_size=25))
    def holds(commands: list[tuple[Command, int]]) -> None:
        state = twin = rules.initial
        now_ms = START_MS
        for offset, (command, step_ms) in enumerate(commands):
            now_ms += step_ms
            heading = Heading(offset, now_ms)
            decision = rules.decide(state, command, heading)
            assert rules.decide(state, command, heading).events == decision.events
            folded = state
            for event in decision.events:
                assert event.at_ms == max(state.now_ms, now_ms)
                folded = rules.evolve(folded, event, offset)
            assert dumped(rules, folded) == dumped(rules, decision.state)
            twin = rules.load(orjson.loads(dumped(rules, twin)))
            assert dumped(rules, twin) == dumped(rules, state), "a restart changes what is remembered"
            assert rules.next_due_ms(twin) == rules.next_due_ms(state)
            again = rules.decide(twin, command, heading)
            assert again.events == decision.events, "a restarted decider decides something else"
            state, twin = decision.state, again.state
            if not decision.events:
                assert command.is_tick or type(command).__name__ == "MarkStale", "nobody answered"
            due_ms = rules.next_due_ms(state)
            assert due_ms is None or due_ms > max(state.now_ms, now_ms) or not decision.events

    holds()


def test_what_is_decided_does_not_depend_on_the_order_of_hashes() -> None:
    """Every process hashes text differently: an order that comes from a set or a map would differ between owners."""
    commands: dict[str, list[tuple[str, int]]] = {}
    sources: dict[str, Callable[[], tuple[Command, int]]] = {
        "agents": _of_a_book(agents_book.Book(ALL_RULES[0]), agents_book.Random(random.Random(5))),
        "locks": _of_a_book(locks_book.LocksBook(locks.RULES), locks_book.LocksRandom(random.Random(5))),
        "workflows": WorkflowsRandom(random.Random(5)).next,
    }
    for family, source in sources.items():
        drawn = [source() for _ in range(400)]
        commands[family] = [(base64.b64encode(CODEC.encode(command)).decode(), log_ms) for command, log_ms in drawn]
    process = Path(__file__).parents[1] / "support" / "fold_process.py"
    chains = [
        subprocess.run(
            [sys.executable, str(process)], input=json.dumps(commands), capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    ]  # fmt: skip
    assert chains[0] == chains[1]
    assert GENESIS not in json.loads(chains[0]).values()


def _of_a_book(book: Any, source: Any) -> Callable[[], tuple[Command, int]]:
    def draw() -> tuple[Command, int]:
        command, log_ms = source.next(book)
        book.put(command, log_ms)
        return command, log_ms

    return draw


def test_a_crowd_of_leases_and_waits_is_settled_in_batches_that_can_be_written() -> None:
    here = Partition(locks.RULES)
    everything: dict[str, Any] = {"lease_ms": 5_000, "wait_ms": 5_000, "metadata": '"' + "m" * 16_000 + '"'}
    for number in range(60):
        for lock_id in ("first", "second"):
            here.when(acquire(f"{number:03}" + "r" * 197, lock_id, **everything, reason="ü" * 8_000))
    for number in range(locks_module.QUEUE_DEPTH_MAX + 5):
        here.when(acquire("q" * 200, f"{number:03}" + "l" * 197, **everything))
    for ticks in range(1, 500):
        check_size(here.when(TickLocks(command_id=f"tick-{ticks}", partition=0), after_ms=60_000 if ticks == 1 else 0))
        due_ms = locks.RULES.next_due_ms(here.state)
        if due_ms is None or due_ms > here.now_ms:
            break
    else:
        raise AssertionError("time never gets done")
    assert ticks > 1


def acquire(resource_id: str, lock_id: str, **fields: Any) -> AcquireLock:
    return AcquireLock(
        command_id=f"{resource_id[:90]}-{lock_id[:90]}", resource_id=resource_id, lock_id=lock_id, agent_id="a" * 128,
        **fields,
    )  # fmt: skip


def dumped(rules: Rules[Any, Any, Any], state: Any) -> bytes:
    return orjson.dumps(rules.dump(state), option=orjson.OPT_SORT_KEYS)
