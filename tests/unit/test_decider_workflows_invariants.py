"""Whatever is said to a workflow, some things never happen: random partitions against books, and mutants."""

# The mutants reach into what is private.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diurna_schemas.message import Command
from diurna_schemas.workflows import CancelWorkflow, RemoveWorkflow, TickWorkflows, WorkflowRestored
from diurna_streams.deciders.window import Window
from diurna_streams.deciders.workflows import RULES, state
from support.book import check_size
from support.given import START_MS, Partition, new_command_id
from support.workflows_book import (
    WorkflowsBook,
    ask,
    checkpoint,
    complete,
    create,
    fail,
    pause,
    restore,
    resume,
    say,
    step,
    update,
)

decide_module = importlib.import_module("diurna_streams.deciders.workflows.decide")
approvals_module = importlib.import_module("diurna_streams.deciders.workflows.approvals")
evolve_module = importlib.import_module("diurna_streams.deciders.workflows.evolve")
documents_module = importlib.import_module("diurna_streams.deciders.workflows.documents")


class Talk:
    """Says something about one of three workflows: mostly sense, sometimes again, late, or too much."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.said: list[Command] = []
        self.names = 0

    def next(self, book: WorkflowsBook) -> Command:
        if self.said and self.chance.random() < 0.08:
            return self.chance.choice(self.said[-20:])
        command = self.new(book)
        self.said.append(command)
        return command

    def new(self, book: WorkflowsBook) -> Command:
        chance = self.chance
        workflow_id = chance.choice("abc")
        paper = book.papers.get(workflow_id)
        if paper is None or chance.random() < 0.02:
            return create(workflow_id, self.document())
        at = chance.choice([None, paper.version, paper.version, max(1, paper.version - 1)])
        self.names += 1
        kept = [*paper.checkpoints, "never-taken"]
        asked = [*paper.open, *paper.settled, "never-asked"]
        sayings: list[tuple[int, Callable[[], Command]]] = [
            (30, lambda: update(self.document(), workflow_id, at=at)),
            (5, lambda: update(chance.choice(["", "[]", '{"a":NaN}', '{"a":' * 120 + "1" + "}" * 120]), workflow_id)),
            (5, lambda: update({chance.choice("xy"): "x" * chance.randrange(100_000, 200_000)}, workflow_id)),
            (10, lambda: step(chance.choice(["plan", "test", "ship"]), workflow_id, at=at)),
            (12, lambda: checkpoint(f"c{self.names // 2}", self.document(), workflow_id)),
            (12, lambda: restore(chance.choice(kept), workflow_id, at=at)),
            (4, lambda: pause(workflow_id)),
            (8, lambda: resume(workflow_id)),
            (6, lambda: self.question(workflow_id)),
            (10, lambda: say(chance.choice(asked), workflow_id, roles=chance.choice([[], ["release"]]))),
            (2, lambda: complete(workflow_id, self.document())),
            (1, lambda: fail(workflow_id)),
            (1, lambda: CancelWorkflow(command_id=new_command_id(), workflow_id=workflow_id)),
            (2, lambda: RemoveWorkflow(command_id=new_command_id(), workflow_id=workflow_id, older_than_ms=1_000)),
            (3, lambda: TickWorkflows(command_id=new_command_id(), partition=0)),
        ]
        weights = [weight for weight, _ in sayings]
        ((_, chosen),) = chance.choices(sayings, weights)
        return chosen()

    def question(self, workflow_id: str) -> Command:
        wait_ms = self.chance.choice([None, 500, 5_000])
        return ask(
            f"q{self.names // 2}", workflow_id, expires_after_ms=wait_ms, roles=self.chance.choice([[], ["release"]])
        )

    def document(self, levels: int = 3) -> dict[str, Any]:
        chance = self.chance
        values: list[Callable[[], Any]] = [
            lambda: None, lambda: chance.randrange(9), lambda: "ü" * chance.randrange(4), lambda: [chance.random()],
        ]  # fmt: skip
        if levels:
            values.append(lambda: self.document(levels - 1))
        return {name: chance.choice(values)() for name in chance.sample("pqrs", chance.randrange(4))}


def run(seed: int, commands: int) -> WorkflowsBook:
    chance = random.Random(seed)
    book, talk = WorkflowsBook(RULES), Talk(chance)
    now_ms = START_MS
    for _ in range(commands):
        now_ms += chance.choice([0, 0, 1, 300, -200])
        book.put(talk.next(book), now_ms)
    book.check_versions()
    return book


def run_all(seeds: range, commands: int) -> None:
    for seed in seeds:
        run(seed, commands)


@pytest.mark.parametrize("seed", range(6))
def test_a_long_random_partition_breaks_no_rule(seed: int) -> None:
    book = run(seed, 300)
    assert book.events > 150, "something must have happened"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), commands=st.integers(1, 60))
def test_any_short_random_partition_breaks_no_rule(seed: int, commands: int) -> None:
    run(seed, commands)


@settings(max_examples=60, deadline=None)
@given(writers=st.integers(2, 8), rounds=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_of_many_writers_at_one_version_exactly_one_wins_and_all_others_are_told_it(
    writers: int, rounds: int, seed: int
) -> None:
    chance, book = random.Random(seed), WorkflowsBook(RULES)
    book.put(create())
    for version in range(1, rounds + 1):
        writes: list[Any] = [update({f"w{number}": version}, at=version) for number in range(writers)]
        writes[chance.randrange(writers)] = step("on", at=version)
        answers = [book.put(write)[0] for write in writes]
        won = [answer for answer in answers if type(answer).__name__ != "WorkflowCommandRefused"]
        assert [answer.version for answer in won] == [version + 1]
        lost = [answer for answer in answers if answer not in won]
        assert {(answer.code, answer.version) for answer in lost} == {("version_conflict", version + 1)}


def test_every_version_of_a_crowded_life_is_folded_from_the_events_alone() -> None:
    checked = sum(run(seed, 250).check_versions() for seed in range(100, 103))
    assert checked > 100


def test_the_largest_decision_fits_beside_all_that_time_may_add() -> None:
    here, name = Partition(RULES), "i" * 198
    for number in range(2):
        here.when(create(f"{name}{number}"))
        questions = [f"{'q' * 198}{question:02}" for question in range(99)]
        here.when(*[ask(question, f"{name}{number}", expires_after_ms=1_000) for question in questions])
    here.when(create("w", {"a": "x" * 262_000}), checkpoint("c", {"a": None, "b": "y" * 262_000}))
    events = here.when(restore("c"), after_ms=5_000)
    assert len(events) == decide_module.DUE_MAX + 1
    assert isinstance(events[-1], WorkflowRestored)
    check_size(events)


# --- mutants: each checker is first shown a broken world --------------------------------------------------------

Mutate = Callable[[pytest.MonkeyPatch], None]


def no_deduplication(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Window, "get", lambda _self, _key, _now_ms: None)


def every_version_wins(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide_module, "_AtVersion", ())


def a_flat_merge(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(documents_module, "merged", lambda before, updates: {**before, **updates})


def no_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(documents_module, "STATE_BYTES_MAX", 10**9)


def work_goes_on_in_a_pause(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide_module, "_Work", ())


def nothing_is_ever_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state.Workflow, "is_over", property(lambda _workflow: False))


def restored_without_its_data(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide_module, "patched", lambda before, _updates: before)


def checkpoints_follow_the_state(patch: pytest.MonkeyPatch) -> None:
    """The checkpoint of now instead of then."""
    real = state.Workflow.checkpoint

    def present(workflow: Any, checkpoint_id: str) -> Any:
        found = real(workflow, checkpoint_id)
        return found and found._replace(state=workflow.state)

    patch.setattr(state.Workflow, "checkpoint", present)


def roles_do_not_matter(patch: pytest.MonkeyPatch) -> None:
    real = evolve_module.Approval
    patch.setattr(evolve_module, "Approval", lambda expires_at_ms, _roles: real(expires_at_ms, ()))


def what_lives_may_be_removed(patch: pytest.MonkeyPatch) -> None:
    real = decide_module._remove

    def removing(draft: Any, command: Any, workflow: Any) -> None:
        real(draft, command, workflow._replace(ended_ms=workflow.ended_ms or 0))

    patch.setattr(decide_module, "_remove", removing)


MUTANTS = [
    no_deduplication, every_version_wins, a_flat_merge, no_bound, work_goes_on_in_a_pause, nothing_is_ever_over,
    restored_without_its_data, checkpoints_follow_the_state, roles_do_not_matter, what_lives_may_be_removed,
]  # fmt: skip


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__)
def test_the_books_notice_broken_rules(mutate: Mutate, monkeypatch: pytest.MonkeyPatch) -> None:
    documents_module.patched.cache_clear()
    mutate(monkeypatch)
    try:
        with pytest.raises((AssertionError, KeyError)):
            run_all(range(12), 200)
    finally:
        monkeypatch.undo()
        documents_module.patched.cache_clear()


def test_the_books_notice_a_version_that_is_left_out() -> None:
    book = run(1, 200)
    paper = next(paper for paper in book.papers.values() if len(paper.versions) > 3)
    paper.versions[2] = ({"not": "so"}, None, "running")
    with pytest.raises(AssertionError):
        book.check_versions()
