"""Decisions about workflows, one rule at a time: given a state, when a command comes, then these events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diurna_schemas.message import Event
from diurna_schemas.workflows import (
    STATE_BYTES_MAX,
    CancelWorkflow,
    CheckpointTaken,
    RemoveWorkflow,
    TickWorkflows,
    WorkflowCommandRefused,
    WorkflowCommandRepeated,
    WorkflowCompleted,
    WorkflowRestored,
    WorkflowsCommand,
    WorkflowStateUpdated,
)
from diurna_streams.deciders.workflows import RULES
from diurna_streams.deciders.workflows.state import CHECKPOINT_BYTES_MAX, CHECKPOINTS_MAX
from support.given import Partition, names, new_command_id, only
from support.workflows_book import (
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


@pytest.fixture
def here() -> Partition:
    return Partition(RULES)


def refusal(events: list[Event]) -> tuple[str, str, int]:
    """Code, reason and version of a refusal, where there is nothing but one."""
    (event,) = events
    assert isinstance(event, WorkflowCommandRefused), event
    return event.code, event.reason, event.version


def state_of(here: Partition, workflow_id: str = "w") -> dict[str, Any]:
    return json.loads(here.state.workflows[workflow_id].state)


def remove(older_than_ms: int = 0) -> RemoveWorkflow:
    return RemoveWorkflow(command_id=new_command_id(), workflow_id="w", older_than_ms=older_than_ms)


def cancel() -> CancelWorkflow:
    return CancelWorkflow(command_id=new_command_id(), workflow_id="w", cancelled_by="ada", reason="enough")


# --- versions -----------------------------------------------------------------------------------------------


def test_a_workflow_begins_at_version_1_and_each_change_adds_one(here: Partition) -> None:
    here.when(create(state={"a": 1}), update({"b": 2}), step("testing"), pause(), resume(), update({"a": None}))
    assert [event.version for event in here.history] == [1, 2, 3, 4, 5, 6]  # type: ignore[attr-defined]
    assert state_of(here) == {"b": 2}


def test_a_checkpoint_leaves_the_version_as_it_is(here: Partition) -> None:
    taken = only(CheckpointTaken, here.when(create(), update({"a": 1}), checkpoint("c", {"progress": 50})))
    assert taken.version == 2
    assert here.state.workflows["w"].version == 2


def test_one_of_two_writers_wins_and_the_other_is_told_the_current_version(here: Partition) -> None:
    here.when(create())
    won = only(WorkflowStateUpdated, here.when(update({"by": "first"}, at=1)))
    assert won.version == 2
    code, reason, version = refusal(here.when(update({"by": "second"}, at=1)))
    assert (code, version) == ("version_conflict", 2)
    assert "at version 2, not 1" in reason
    assert state_of(here) == {"by": "first"}
    assert refusal(here.when(step("later", at=1)))[0] == "version_conflict"
    here.when(checkpoint("c"))
    assert refusal(here.when(restore("c", at=1)))[0] == "version_conflict"
    assert names(here.when(restore("c", at=2))) == ["WorkflowRestored"]


def test_the_same_command_twice_is_answered_and_changes_nothing(here: Partition) -> None:
    twice = update({"n": 1})
    here.when(create(), twice)
    before = here.state.workflows["w"]
    (repeated,) = here.when(twice)
    assert isinstance(repeated, WorkflowCommandRepeated)
    assert repeated.first_offset == 1
    assert here.state.workflows["w"] == before


def test_an_id_is_used_once(here: Partition) -> None:
    here.when(create(state={"mine": True}))
    assert refusal(here.when(create(state={}))) == ("workflow_exists", "workflow w exists already", 1)
    assert state_of(here) == {"mine": True}


# --- states -------------------------------------------------------------------------------------------------


def test_nested_updates_are_merged_and_none_is_lost(here: Partition) -> None:
    here.when(
        create(state={"review": {"by": "ada"}, "list": [1, 2]}),
        update({"review": {"approved": True}}),
        update({"review": {"notes": {"lint": 0}}, "list": [3]}),
        update({"review": {"by": None}}),
    )
    assert state_of(here) == {"review": {"approved": True, "notes": {"lint": 0}}, "list": [3]}


def test_a_state_that_would_outgrow_256_kib_is_refused_and_the_workflow_untouched(here: Partition) -> None:
    half = "x" * (STATE_BYTES_MAX // 2)
    here.when(create(state={"a": half}))
    (event,) = here.when(update({"b": half}))
    assert isinstance(event, WorkflowCommandRefused)
    assert event.code == "too_large"
    assert event.size_bytes == len(json.dumps({"a": half, "b": half}, separators=(",", ":")))
    assert str(event.size_bytes) in event.reason
    assert state_of(here) == {"a": half}
    exact = STATE_BYTES_MAX - len('{"a":"","b":""}') - len(half)
    assert names(here.when(update({"b": "y" * exact}))) == ["WorkflowStateUpdated"]
    assert len(here.state.workflows["w"].state) == STATE_BYTES_MAX
    assert refusal(here.when(update({"c": 1})))[0] == "too_large"
    assert names(here.when(update({"a": None, "c": 1}))) == ["WorkflowStateUpdated"], "what shrinks may go on"


def test_what_is_counted_is_the_state_and_not_how_it_was_written(here: Partition) -> None:
    spaced = "{" + " " * 200_000 + '"a": ' + '"' + "x" * 50_000 + '"}'
    here.when(create().model_copy(update={"state": spaced}))
    assert len(here.state.workflows["w"].state) == len('{"a":""}') + 50_000
    grown = json.dumps({"n": [0] * 20_000}).replace("0", "1e15")  # 4 characters there, 18 once it is written anew
    assert refusal(here.when(update(grown)))[0] == "too_large"


@pytest.mark.parametrize("updates", ["", "[]", "null", "3", '{"a":', '{"a":NaN}', '{"a":"\\ud800"}'])
def test_what_is_no_json_object_is_refused(here: Partition, updates: str) -> None:
    here.when(create(state={"a": 1}))
    code, reason, _ = refusal(here.when(update(updates)))
    assert (code, reason[:8]) == ("invalid_json", "updates:")
    assert refusal(here.when(create("other").model_copy(update={"state": updates})))[0] == "invalid_json"
    assert refusal(here.when(checkpoint("c").model_copy(update={"data": updates})))[0] == "invalid_json"
    assert state_of(here) == {"a": 1}


def test_a_state_of_too_many_levels_is_refused(here: Partition) -> None:
    here.when(create(state={"a": 1}))
    assert "100 levels" in refusal(here.when(update('{"a":' * 101 + "null" + "}" * 101)))[1]
    assert refusal(here.when(update('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")))[0] == "invalid_json"
    assert state_of(here) == {"a": 1}


# --- checkpoints --------------------------------------------------------------------------------------------


def test_a_restored_workflow_is_as_it_was_with_the_checkpoint_s_data_in_it(here: Partition) -> None:
    here.when(
        create(state={"a": 1, "deep": {"x": 1}}),
        checkpoint("c", {"progress": 50, "deep": {"y": 2}}, step="review"),
        update({"a": 2, "b": 3, "deep": {"x": 9}}),
        step("testing"),
    )
    restored = only(WorkflowRestored, here.when(restore("c")))
    assert json.loads(restored.state) == {"a": 1, "progress": 50, "deep": {"x": 1, "y": 2}}
    assert json.loads(restored.data) == {"progress": 50, "deep": {"y": 2}}
    assert (restored.version, restored.step) == (4, "review")
    assert state_of(here) == json.loads(restored.state)
    assert names(here.when(restore("c"))) == ["WorkflowRestored"], "as often as anybody likes"


def test_an_unknown_checkpoint_is_refused(here: Partition) -> None:
    here.when(create("other"), checkpoint("c", workflow_id="other"), create())
    assert refusal(here.when(restore("c")))[0] == "checkpoint_not_found", "another workflow's is not ours"
    here.when(checkpoint("mine"))
    assert "the oldest is mine" in refusal(here.when(restore("c")))[1]
    assert refusal(here.when(checkpoint("mine")))[0] == "checkpoint_exists"


def test_a_checkpoint_that_could_not_be_restored_is_not_taken(here: Partition) -> None:
    here.when(create(state={"a": "x" * 200_000}))
    assert refusal(here.when(checkpoint("c", {"b": "y" * 100_000})))[0] == "too_large"
    assert names(here.when(checkpoint("c", {"a": None, "b": "y" * 100_000}))) == ["CheckpointTaken"]
    here.when(restore("c"))
    assert state_of(here) == {"b": "y" * 100_000}


def test_only_so_many_checkpoints_are_remembered_the_last_one_always(here: Partition) -> None:
    here.when(create(state={"a": 1}))
    for number in range(CHECKPOINTS_MAX + 5):
        here.when(checkpoint(f"c{number}"))
    assert len(here.state.workflows["w"].checkpoints) == CHECKPOINTS_MAX
    assert "the oldest is c5, older ones can be forked from" in refusal(here.when(restore("c4")))[1]
    assert names(here.when(restore("c5"))) == ["WorkflowRestored"]
    for number in range(9):
        here.when(update({"a": "x" * 250_000}), checkpoint(f"large{number}"))
    kept = here.state.workflows["w"].checkpoints
    assert [one.checkpoint_id for one in kept] == ["large5", "large6", "large7", "large8"]
    assert sum(one.size_bytes for one in kept) <= CHECKPOINT_BYTES_MAX


# --- pauses and ends ----------------------------------------------------------------------------------------

WORK: list[WorkflowsCommand] = [
    update({"a": 1}), step("on"), checkpoint("new"), complete(), fail(), ask("new")
]  # fmt: skip


@pytest.mark.parametrize("command", WORK, ids=lambda command: type(command).__name__)
def test_nobody_works_on_a_paused_workflow(here: Partition, command: WorkflowsCommand) -> None:
    here.when(create(), pause())
    assert refusal(here.when(command)) == ("workflow_paused", "workflow w is paused", 2)
    again = command.model_copy(update={"command_id": new_command_id()})
    assert not isinstance(here.when(resume(), again)[0], WorkflowCommandRefused)


def test_people_may_decide_about_a_paused_workflow(here: Partition) -> None:
    here.when(create(state={"a": 1}), checkpoint("c"), update({"a": 2}), ask("q"), pause())
    assert names(here.when(say("q"))) == ["ApprovalDecided"]
    assert names(here.when(restore("c"))) == ["WorkflowRestored"]
    assert here.state.workflows["w"].status == "paused", "it stays paused"
    assert refusal(here.when(pause()))[0] == "workflow_paused"
    assert names(here.when(cancel())) == ["WorkflowCancelled"]


def test_only_what_is_paused_is_resumed(here: Partition) -> None:
    here.when(create())
    assert refusal(here.when(resume()))[0] == "workflow_running"


ENDS: list[WorkflowsCommand] = [complete(), fail(), cancel()]
AFTERWARDS: list[WorkflowsCommand] = [*WORK, pause(), resume(), restore("c"), cancel(), say("q")]


@pytest.mark.parametrize("ending", ENDS, ids=lambda command: type(command).__name__)
@pytest.mark.parametrize("command", AFTERWARDS, ids=lambda command: type(command).__name__)
def test_what_is_over_takes_no_change(here: Partition, ending: WorkflowsCommand, command: WorkflowsCommand) -> None:
    here.when(create(state={"a": 1}), checkpoint("c"), ask("q"), ending)
    before = here.state.workflows["w"]
    again = command.model_copy(update={"command_id": new_command_id()})
    code, reason, version = refusal(here.when(again))
    assert (code, version) == ("workflow_over", 2)
    assert reason.startswith(f"workflow w is {before.status}")
    assert reason.endswith("fork it instead") == (type(command).__name__ == "RestoreWorkflow")
    assert here.state.workflows["w"] == before


def test_an_end_may_bring_last_updates_and_is_one_version(here: Partition) -> None:
    here.when(create(state={"a": {"b": 1}}))
    done = only(WorkflowCompleted, here.when(complete(updates={"a": {"c": 2}})))
    assert (done.version, json.loads(done.updates or "")) == (2, {"a": {"c": 2}})


def test_an_end_whose_updates_do_not_fit_is_refused(here: Partition) -> None:
    here.when(create(state={"a": "x" * 200_000}))
    assert refusal(here.when(complete(updates={"b": "y" * 100_000})))[0] == "too_large"
    assert here.state.workflows["w"].status == "running"


def test_only_what_has_been_over_for_long_enough_is_removed(here: Partition) -> None:
    here.when(create())
    assert refusal(here.when(remove()))[0] == "workflow_live"
    here.when(complete())
    assert refusal(here.when(remove(60_000), after_ms=59_999))[0] == "workflow_recent"
    assert names(here.when(remove(60_000), after_ms=1)) == ["WorkflowRemoved"]
    assert not here.state.workflows
    assert refusal(here.when(remove()))[0] == "not_found"
    assert names(here.when(create())) == ["WorkflowCreated"], "its id may be used again"


# --- approvals ----------------------------------------------------------------------------------------------


def test_only_somebody_with_one_of_the_roles_decides(here: Partition) -> None:
    here.when(create(), ask("q", roles=["release", "security"]))
    code, reason, _ = refusal(here.when(say("q")))
    assert (code, reason) == ("role_missing", "approval q needs one of the roles release, security: ada has none")
    assert "ada has intern" in refusal(here.when(say("q", roles=["intern"])))[1]
    assert names(here.when(say("q", roles=["intern", "security"]))) == ["ApprovalDecided"]
    assert refusal(here.when(say("q", roles=["release"])))[0] == "approval_settled"
    assert refusal(here.when(say("never-asked")))[0] == "not_found"


def test_an_approval_expires_when_its_time_is_over_and_not_before(here: Partition) -> None:
    here.when(create(), ask("q", expires_after_ms=5_000))
    assert RULES.next_due_ms(here.state) == here.now_ms + 5_000
    tick = TickWorkflows(command_id=new_command_id(), partition=0)
    assert here.when(tick, after_ms=4_999) == []
    late = here.when(say("q"), after_ms=1)
    assert names(late) == ["ApprovalExpired", "WorkflowCommandRefused"], "time first, then the command"
    assert RULES.next_due_ms(here.state) is None


def test_a_restart_remembers_states_checkpoints_and_roles(here: Partition) -> None:
    here.when(create(state={"ä": "ü"}), checkpoint("c", {"ö": 1}), update({"b": 1}), ask("q", roles=["release"]))
    here.restart()
    assert refusal(here.when(say("q")))[0] == "role_missing"
    restored = only(WorkflowRestored, here.when(restore("c")))
    assert json.loads(restored.state) == {"ä": "ü", "ö": 1}
