"""What a manager of workflows promises, whatever stands behind it: tests for modules that give a `managers` fixture.

`managers()` makes another manager, as another process would have; `fresh()` an id nobody has used.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from diurna import (
    Conflict,
    DiurnaError,
    InvalidInput,
    NotFound,
    TooLarge,
    WorkflowConflict,
    WorkflowState,
    WorkflowStateManager,
)

Managers = Callable[[], WorkflowStateManager]
AGENTS = ["agent-1"]


@pytest.fixture
async def state(managers: Managers) -> AsyncIterator[WorkflowStateManager]:
    async with managers() as manager:
        yield manager


def fresh() -> str:
    return f"wf-{uuid.uuid4().hex[:12]}"


async def created(state: WorkflowStateManager, initial: dict[str, Any] | None = None) -> str:
    return await state.create_workflow("test", {"step": "init"} if initial is None else initial, AGENTS)


# --- versions and states ------------------------------------------------------------------------------------


async def test_a_workflow_is_there_right_after_it_was_created(state: WorkflowStateManager) -> None:
    workflow_id = await state.create_workflow("test", {"a": {"ü": [1, None]}}, ("x", "y"), metadata={"team": "blue"})
    found = await state.get_workflow(workflow_id)
    assert isinstance(found, WorkflowState)
    assert (found.workflow_id, found.workflow_type, found.status, found.version) == (workflow_id, "test", "running", 1)
    assert (found.state_data, found.participating_agents) == ({"a": {"ü": [1, None]}}, ["x", "y"])
    assert (found.metadata, found.current_step) == ({"team": "blue"}, None)
    assert (found.completed_at, found.error_message) == (None, None)
    assert isinstance(found.started_at, datetime)
    with pytest.raises(Conflict, match="exists already"):
        await state.create_workflow("test", {}, [], workflow_id=workflow_id)


async def test_every_change_is_a_version_and_every_version_can_be_read_again(state: WorkflowStateManager) -> None:
    workflow_id = await created(state, {"review": {"by": "ada"}, "files": [1, 2]})
    assert await state.update_state(workflow_id, {"review": {"approved": True}}, agent_id="code-review") == 2
    assert await state.update_step(workflow_id, "testing", agent_id="cicd") == 3
    assert await state.update_state(workflow_id, {"files": [3], "review": {"by": None}}) == 4
    assert await state.complete_workflow(workflow_id, {"done": True}, result={"ok": 1}) == 5
    states = [(await state.get_workflow(workflow_id, version=version)).state_data for version in range(1, 6)]
    assert states == [
        {"review": {"by": "ada"}, "files": [1, 2]},
        {"review": {"by": "ada", "approved": True}, "files": [1, 2]},
        {"review": {"by": "ada", "approved": True}, "files": [1, 2]},
        {"review": {"approved": True}, "files": [3]},
        {"review": {"approved": True}, "files": [3], "done": True},
    ]
    newest = await state.get_workflow(workflow_id)
    assert (newest.status, newest.current_step, newest.result) == ("completed", "testing", {"ok": 1})
    assert newest == await state.get_workflow(workflow_id, version=5)
    before = await state.get_workflow(workflow_id, version=2)
    assert (before.status, before.current_step, before.completed_at) == ("running", None, None)
    with pytest.raises(NotFound, match="version 6"):
        await state.get_workflow(workflow_id, version=6)


async def test_the_difference_of_two_versions_is_a_patch_between_them(state: WorkflowStateManager) -> None:
    workflow_id = await created(state, {"a": {"b/c": 1, "gone": True}, "list": [1]})
    await state.update_state(workflow_id, {"a": {"b/c": 2, "gone": None, "new": {}}, "list": [1, 2]})
    await state.update_step(workflow_id, "later")
    assert await state.diff(workflow_id, 1, 3) == [
        {"op": "replace", "path": "/current_step", "value": "later", "was": None},
        {"op": "replace", "path": "/state_data/a/b~1c", "value": 2, "was": 1},
        {"op": "remove", "path": "/state_data/a/gone", "was": True},
        {"op": "add", "path": "/state_data/a/new", "value": {}},
        {"op": "replace", "path": "/state_data/list", "value": [1, 2], "was": [1]},
    ]
    assert [one["op"] for one in await state.diff(workflow_id, 2, 1)] == ["replace", "add", "remove", "replace"]
    assert await state.diff(workflow_id, 2, 2) == []


async def test_the_history_tells_who_did_what_and_where_it_stands(state: WorkflowStateManager) -> None:
    workflow_id = await created(state)
    await state.update_state(workflow_id, {"n": 1}, agent_id="agent-1")
    await state.checkpoint(workflow_id, "here", "agent-2", {"x": 1})
    events = await state.history(workflow_id)
    assert [event.type for event in events] == ["workflow.created", "workflow.state_updated", "workflow.checkpoint"]
    assert (events[1].source, events[1].data["updates"], events[1].data["version"]) == ("agent-1", {"n": 1}, 2)
    assert events[2].data["data"] == {"x": 1}
    assert all(event.position.startswith("workflows.events:") and event.subject == workflow_id for event in events)
    assert [event.time for event in events] == sorted(event.time for event in events)


async def test_many_writers_at_once_lose_nothing(managers: Managers) -> None:
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(managers()) for _ in range(4)]
        workflow_id = await created(writers[0], {"counts": {"kept": True}})
        writes = [
            writer.update_state(workflow_id, {"counts": {f"{number}-{at}": at}})
            for at in range(5)
            for number, writer in enumerate(writers)
        ]
        versions = await asyncio.gather(*writes)
        assert sorted(versions) == list(range(2, 22))
        last = writers[versions.index(21) % 4]  # it has written the last one, so it reads them all
        found = await last.get_workflow(workflow_id)
    assert found.state_data["counts"] == {"kept": True, **{f"{n}-{at}": at for n in range(4) for at in range(5)}}


async def test_of_many_writers_at_one_version_exactly_one_wins_and_the_others_learn_the_version(
    managers: Managers,
) -> None:
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(managers()) for _ in range(4)]
        workflow_id = await created(writers[0])
        for version in (1, 2, 3):
            writes = [
                writer.update_state(workflow_id, {"winner": f"{version}-{number}"}, expected_version=version)
                for number, writer in enumerate(writers * 2)
            ]
            ends = await asyncio.gather(*writes, return_exceptions=True)
            assert [end for end in ends if isinstance(end, int)] == [version + 1]
            lost = [end for end in ends if isinstance(end, WorkflowConflict)]
            assert len(lost) == 7
            assert {(one.id, one.expected, one.current) for one in lost} == {(workflow_id, version, version + 1)}
            winner = ends.index(version + 1)
            found = await writers[winner % 4].get_workflow(workflow_id)
            assert found.state_data["winner"] == f"{version}-{winner}"


# --- checkpoints --------------------------------------------------------------------------------------------


async def test_a_restored_workflow_is_as_it_was_with_the_checkpoint_s_data_in_it(state: WorkflowStateManager) -> None:
    workflow_id = await created(state, {"pr": 123, "review": {"by": "ada"}})
    checkpoint_id = await state.checkpoint(workflow_id, "review", "code-review", {"review": {"approved": True}})
    assert (await state.get_workflow(workflow_id)).version == 1, "a checkpoint is no version"
    await state.update_state(workflow_id, {"pr": 124, "broken": True, "review": {"by": None}})
    await state.update_step(workflow_id, "deploy")
    assert await state.restore_checkpoint(workflow_id, checkpoint_id) == {"review": {"approved": True}}
    found = await state.get_workflow(workflow_id)
    assert found.state_data == {"pr": 123, "review": {"by": "ada", "approved": True}}
    assert (found.version, found.current_step, found.status) == (4, "review", "running")
    assert (await state.get_workflow(workflow_id, version=3)).state_data["broken"] is True
    with pytest.raises(WorkflowConflict) as lost:
        await state.restore_checkpoint(workflow_id, checkpoint_id, expected_version=3)
    assert lost.value.current == 4


async def test_the_largest_state_there_may_be_is_kept_and_restored(state: WorkflowStateManager) -> None:
    most = 256 * 1024 - len('{"a":""}')
    workflow_id = await created(state, {"a": "x" * most})
    other = {"a": None, "b": "y" * most}
    checkpoint_id = await state.checkpoint(workflow_id, "here", "agent-1", {**other, "b": other["b"][:-20]})
    assert await state.update_state(workflow_id, {"a": "z" * most}) == 2
    assert len((await state.restore_checkpoint(workflow_id, checkpoint_id))["b"]) == most - 20
    assert (await state.get_workflow(workflow_id)).state_data == {"b": "y" * (most - 20)}
    assert (await state.get_workflow(workflow_id, version=2)).state_data == {"a": "z" * most}
    forked = await state.fork(workflow_id, checkpoint_id, {"b": "short"})
    assert (await state.get_workflow(forked)).state_data == {"b": "short"}


async def test_checkpoints_are_listed_the_newest_first(state: WorkflowStateManager) -> None:
    workflow_id = await created(state, {"n": 0})
    assert await state.get_checkpoints(workflow_id) == []
    assert await state.get_latest_checkpoint(workflow_id) is None
    ids: list[str] = []
    for number in range(3):
        ids.append(await state.checkpoint(workflow_id, f"step-{number}", "agent-1", {"progress": number}))
        await state.update_state(workflow_id, {"n": number + 1})
    found = await state.get_checkpoints(workflow_id)
    assert [one.checkpoint_id for one in found] == ids[::-1]
    assert [one.version for one in found] == [3, 2, 1]
    latest = await state.get_latest_checkpoint(workflow_id)
    assert latest is not None
    assert (latest.checkpoint_id, latest.step_name, latest.agent_id) == (ids[2], "step-2", "agent-1")
    assert latest.data == latest.checkpoint_data == {"progress": 2}
    assert len(await state.get_checkpoints(workflow_id, limit=2)) == 2
    assert (await state.get_checkpoint(workflow_id, ids[0])).state_data == {"n": 0}


async def test_a_fork_begins_at_a_checkpoint_and_leaves_its_origin_alone(state: WorkflowStateManager) -> None:
    workflow_id = await state.create_workflow("test", {"a": {"b": 1}, "c": 2}, AGENTS, metadata={"team": "blue"})
    first = await state.checkpoint(workflow_id, "plan", "agent-1", {"a": {"d": 3}})
    await state.update_state(workflow_id, {"a": None})
    await state.checkpoint(workflow_id, "later")
    await state.fail_workflow(workflow_id, "out of luck")
    origin = await state.get_workflow(workflow_id)
    assert (origin.status, origin.error_message) == ("failed", "out of luck")
    forked = await state.get_workflow(await state.fork(workflow_id, first, {"c": None, "retry": {"n": 1}}))
    assert forked.state_data == {"a": {"b": 1, "d": 3}, "retry": {"n": 1}}
    assert (forked.version, forked.status, forked.current_step) == (1, "running", "plan")
    assert (forked.workflow_type, forked.participating_agents) == ("test", AGENTS)
    source = {"workflow_id": workflow_id, "checkpoint_id": first, "version": 1}
    assert forked.metadata == {"team": "blue", "forked_from": source}
    new_id = fresh()
    assert await state.fork(workflow_id, new_workflow_id=new_id) == new_id, "the newest checkpoint, where none is named"
    assert (await state.get_workflow(new_id)).state_data == {"c": 2}
    assert await state.get_workflow(workflow_id) == origin


# --- moments of the past --------------------------------------------------------------------------------------


async def told(state: WorkflowStateManager, workflow_id: str) -> list[tuple[str, datetime]]:
    """Where and when each event of a workflow stands, the oldest first."""
    return [(event.position, event.time) for event in await state.history(workflow_id)]


async def test_any_past_state_is_read_at_the_position_of_an_event(state: WorkflowStateManager) -> None:
    kind = f"kind-{uuid.uuid4().hex[:8]}"
    workflow_id = await state.create_workflow(kind, {"n": 0}, AGENTS)
    first = await state.checkpoint(workflow_id, "here", "agent-1", {"x": 1})
    await state.update_state(workflow_id, {"n": 1, "nested": {"a": 1}})
    second = await state.checkpoint(workflow_id, "there")
    await state.complete_workflow(workflow_id, {"n": 2})
    created_at, checkpoint_at, updated_at, again_at, ended_at = [at for at, _ in await told(state, workflow_id)]

    moments = (created_at, checkpoint_at, updated_at, again_at, ended_at)
    then = [await state.get_workflow(workflow_id, as_of=at) for at in moments]
    assert [one.version for one in then] == [1, 1, 2, 2, 3]
    assert [one.state_data.get("n") for one in then] == [0, 0, 1, 1, 2]
    assert [one.status for one in then] == ["running"] * 4 + ["completed"]
    assert then[3].completed_at is None
    assert then[4] == await state.get_workflow(workflow_id)

    listed = [await state.get_checkpoints(workflow_id, as_of=at) for at in moments]
    assert [[one.checkpoint_id for one in found] for found in listed] == [
        [], [first], [first], [second, first], [second, first],
    ]  # fmt: skip
    assert [one.checkpoint_id for one in await state.get_checkpoints(workflow_id, 1, as_of=again_at)] == [second]
    assert await state.get_latest_checkpoint(workflow_id, as_of=created_at) is None
    assert (await state.get_checkpoint(workflow_id, first, as_of=updated_at)).state_data == {"n": 0}
    with pytest.raises(NotFound) as missing:
        await state.get_checkpoint(workflow_id, second, as_of=updated_at)
    assert (missing.value.kind, missing.value.id) == ("checkpoint", second)
    assert [len(await state.history(workflow_id, as_of=at)) for at in moments] == [1, 2, 3, 4, 5]

    for at, status in ((updated_at, "running"), (ended_at, "completed")):
        assert [one.status for one in await state.list_workflows(workflow_type=kind, as_of=at)] == [status]
        assert len(await state.list_workflows("running", kind, as_of=at)) == (status == "running")
        active = await state.list_active_workflows(as_of=at)
        assert (workflow_id in [one.workflow_id for one in active]) == (status == "running")
        (counts,) = [one for one in await state.get_workflow_statistics(as_of=at) if one["workflow_type"] == kind]
        assert (counts["total"], counts["running"], counts["completed"]) == (1, *(
            (1, 0) if status == "running" else (0, 1)
        ))  # fmt: skip


async def test_a_time_is_a_moment_too_and_one_to_come_is_now(state: WorkflowStateManager) -> None:
    workflow_id = await created(state, {"n": 0})
    other = await created(state)
    began = (await told(state, workflow_id))[0][1]
    number = 0
    while (last := (await told(state, workflow_id))[-1][1]) <= began:  # until the log's clock has gone on
        number += 1
        await state.update_state(workflow_id, {"n": number})
    for moment in (began, began.isoformat(), began.astimezone(timezone(timedelta(hours=5)))):
        assert (await state.get_workflow(workflow_id, as_of=moment)).started_at == began
        assert (await state.get_workflow(workflow_id, as_of=moment)).version < number + 1
    without_zone = began.astimezone(UTC).replace(tzinfo=None).isoformat()
    assert (await state.get_workflow(workflow_id, as_of=without_zone)).version < number + 1, "a text is UTC"
    assert (await state.get_workflow(workflow_id, as_of=last)).state_data == {"n": number}
    long_before, to_come = began - timedelta(days=1), began + timedelta(days=400)
    assert (await state.get_workflow(workflow_id, as_of=to_come)).version == number + 1
    assert other in [one.workflow_id for one in await state.list_workflows(as_of=to_come)]
    assert workflow_id not in [one.workflow_id for one in await state.list_workflows(as_of=long_before)]
    for read in (state.get_workflow, state.get_checkpoints, state.history):
        with pytest.raises(NotFound) as missing:
            await read(workflow_id, as_of=long_before)
        assert (missing.value.kind, missing.value.id) == ("workflow", workflow_id)


READS: list[Callable[[WorkflowStateManager, str, Any], Any]] = [
    lambda state, workflow_id, moment: state.get_workflow(workflow_id, as_of=moment),
    lambda state, workflow_id, moment: state.list_workflows(as_of=moment),
    lambda state, workflow_id, moment: state.list_active_workflows(as_of=moment),
    lambda state, workflow_id, moment: state.get_checkpoints(workflow_id, as_of=moment),
    lambda state, workflow_id, moment: state.get_checkpoint(workflow_id, "taken", as_of=moment),
    lambda state, workflow_id, moment: state.get_latest_checkpoint(workflow_id, as_of=moment),
    lambda state, workflow_id, moment: state.get_workflow_statistics(as_of=moment),
    lambda state, workflow_id, moment: state.history(workflow_id, as_of=moment),
]
NO_MOMENTS: list[tuple[Any, str]] = [
    ("yesterday", "yesterday"),
    ("", "''"),
    ("workflows.events:1", "workflows.events:1"),
    ("2026-13-01T00:00:00Z", "2026-13-01"),
    (datetime(2026, 1, 1), "2026-01-01T00:00:00"),
    (datetime(1969, 12, 31, tzinfo=UTC), "1969-12-31"),
    (1_767_225_600_000, "1767225600000"),
    (True, "True"),
]


@pytest.mark.parametrize(("moment", "shown"), NO_MOMENTS, ids=[repr(one[0]) for one in NO_MOMENTS])
async def test_what_is_no_moment_is_refused_by_every_read_with_field_and_value(
    state: WorkflowStateManager, moment: Any, shown: str
) -> None:
    workflow_id = await created(state)
    for read in READS:
        with pytest.raises(InvalidInput) as refused:
            await read(state, workflow_id, moment)
        assert refused.value.field == "as_of"
        assert shown in str(refused.value)


async def test_a_position_at_which_nothing_stands_is_not_found_by_every_read(state: WorkflowStateManager) -> None:
    workflow_id = await created(state)
    topic, partition, _ = (await told(state, workflow_id))[0][0].split(":")
    nowhere = f"{topic}:{partition}:1000000000"
    for read in (READS[0], READS[1], READS[3], READS[6]):  # each waits a while, so only one of each kind
        with pytest.raises(NotFound, match=nowhere) as missing:
            await read(state, workflow_id, nowhere)
        assert (missing.value.kind, missing.value.id) == ("event", nowhere)


async def test_a_version_and_a_moment_at_once_are_refused(state: WorkflowStateManager) -> None:
    workflow_id = await created(state)
    for moment in (await told(state, workflow_id))[0]:
        with pytest.raises(InvalidInput, match="version 1") as refused:
            await state.get_workflow(workflow_id, 1, as_of=moment)
        assert refused.value.field == "as_of"
        assert str(refused.value.value) in str(refused.value)


# --- pauses and ends ----------------------------------------------------------------------------------------


async def test_nobody_works_on_a_paused_workflow(state: WorkflowStateManager) -> None:
    workflow_id = await created(state)
    assert await state.pause(workflow_id, "ada", "lunch") == 2
    for work in (
        state.update_state(workflow_id, {"a": 1}),
        state.update_step(workflow_id, "on"),
        state.checkpoint(workflow_id, "here"),
        state.complete_workflow(workflow_id),
        state.pause(workflow_id),
    ):
        with pytest.raises(Conflict, match="is paused") as refused:
            await work
        assert refused.value.code == "workflow_paused"
    assert (await state.get_workflow(workflow_id)).status == "paused"
    assert await state.resume(workflow_id, "ada") == 3
    assert await state.update_state(workflow_id, {"a": 1}) == 4
    with pytest.raises(Conflict, match="is not paused"):
        await state.resume(workflow_id)


async def test_what_is_over_takes_no_change_and_is_not_restored(state: WorkflowStateManager) -> None:
    workflow_id = await created(state, {"a": 1})
    checkpoint_id = await state.checkpoint(workflow_id, "here", "agent-1", {"progress": 50})
    await state.complete_workflow(workflow_id)
    before = await state.get_workflow(workflow_id)
    for change in (
        state.update_state(workflow_id, {"a": 2}),
        state.update_step(workflow_id, "on"),
        state.checkpoint(workflow_id, "again"),
        state.restore_checkpoint(workflow_id, checkpoint_id),
        state.pause(workflow_id),
        state.cancel(workflow_id),
        state.fail_workflow(workflow_id, "no"),
    ):
        with pytest.raises(Conflict, match="is completed") as refused:
            await change
        assert refused.value.code == "workflow_over"
    assert await state.get_workflow(workflow_id) == before


async def test_a_workflow_ends_completed_failed_or_cancelled(state: WorkflowStateManager) -> None:
    ended = [await created(state) for _ in range(3)]
    await state.complete_workflow(ended[0], {"last": 1})
    await state.complete_workflow(ended[1], {"last": 2}, error_message="broken")
    await state.cancel(ended[2], "ada", "enough")
    found = [await state.get_workflow(workflow_id) for workflow_id in ended]
    assert [one.status for one in found] == ["completed", "failed", "cancelled"]
    assert [one.error_message for one in found] == [None, "broken", "cancelled by ada: enough"]
    assert [one.state_data.get("last") for one in found] == [1, 2, None]
    assert all(one.completed_at is not None and one.completed_at >= one.started_at for one in found)


async def test_active_workflows_are_listed_and_all_are_counted(state: WorkflowStateManager) -> None:
    kind = f"kind-{uuid.uuid4().hex[:8]}"
    ids = [await state.create_workflow(kind, {}, []) for _ in range(4)]
    await state.pause(ids[1])
    await state.complete_workflow(ids[2])
    await state.cancel(ids[3])
    active = [one.workflow_id for one in await state.list_active_workflows() if one.workflow_type == kind]
    assert sorted(active) == sorted(ids[:2])
    assert [one.workflow_id for one in await state.list_workflows("completed", kind)] == [ids[2]]
    (counts,) = [one for one in await state.get_workflow_statistics() if one["workflow_type"] == kind]
    average = counts.pop("average_seconds")
    assert counts == {
        "workflow_type": kind, "total": 4, "running": 1, "paused": 1, "completed": 1, "failed": 0, "cancelled": 1,
    }  # fmt: skip
    assert average >= 0


async def test_old_workflows_are_forgotten_and_their_events_stay(state: WorkflowStateManager) -> None:
    live, over = await created(state), await created(state)
    await state.checkpoint(over, "here")
    await state.complete_workflow(over)
    assert await state.cleanup_old_workflows(days=3_000) == 0
    assert (await state.get_workflow(over)).status == "completed"
    assert await state.cleanup_old_workflows(days=0) >= 1
    with pytest.raises(NotFound):
        await state.get_workflow(over)
    with pytest.raises(NotFound):
        await state.get_checkpoints(over)
    assert (await state.get_workflow(live)).status == "running"
    assert (await state.history(over))[-1].type == "workflow.removed"
    assert await state.create_workflow("test", {}, [], workflow_id=over) == over, "the id may be used again"
    assert (await state.get_workflow(over)).version == 1


# --- bad input ----------------------------------------------------------------------------------------------

BIG = {"big": "x" * (256 * 1024)}


def deep(levels: int) -> dict[str, Any]:
    return {"a": deep(levels - 1)} if levels else {}


BAD: list[tuple[str, type[DiurnaError], str, Callable[[WorkflowStateManager, str], Any]]] = [
    ("a key that is no text", InvalidInput, "updates", lambda m, wf: m.update_state(wf, {1: "x"})),
    ("a value that is no JSON", InvalidInput, "updates", lambda m, wf: m.update_state(wf, {"x": {1, 2}})),
    ("not a number", InvalidInput, r"updates\.x\.1", lambda m, wf: m.update_state(wf, {"x": [1, float("nan")]})),
    ("an endless result", InvalidInput, r"result\.x", lambda m, wf: m.complete_workflow(wf, result={"x": 1e999})),
    ("a list for updates", InvalidInput, "updates", lambda m, wf: m.update_state(wf, [1])),
    ("a text for updates", InvalidInput, "updates", lambda m, wf: m.update_state(wf, '{"a": 1}')),
    ("too many levels", InvalidInput, "updates", lambda m, wf: m.update_state(wf, deep(200))),
    ("updates above 256 KiB", TooLarge, "updates", lambda m, wf: m.update_state(wf, BIG)),
    ("a state above 256 KiB", TooLarge, "state", lambda m, wf: m.update_state(wf, {"y": "x" * 262_100})),
    ("data beside a large state", TooLarge, "state", lambda m, wf: m.checkpoint(wf, "s", "a", {"y": "x" * 262_100})),
    ("a stale version", WorkflowConflict, "version 2, not 1", lambda m, wf: m.update_state(wf, {}, None, 1)),
    ("a version to come", WorkflowConflict, "version 2, not 9", lambda m, wf: m.update_step(wf, "s", None, 9)),
    ("version 0", InvalidInput, "expected_version", lambda m, wf: m.update_state(wf, {}, None, 0)),
    ("an endless version", InvalidInput, "expected_version", lambda m, wf: m.update_state(wf, {}, None, 10**30)),
    ("a past version in words", InvalidInput, "version", lambda m, wf: m.get_workflow(wf, "2")),
    ("a number for an id", InvalidInput, "workflow_id", lambda m, wf: m.get_workflow(7)),
    ("a number above 64 bits", InvalidInput, "updates", lambda m, wf: m.update_state(wf, {"n": 2**70})),
    ("a version in words", InvalidInput, "expected_version", lambda m, wf: m.update_state(wf, {}, None, "two")),
    ("a version that is a truth", InvalidInput, "expected_version", lambda m, wf: m.update_state(wf, {}, None, True)),
    ("a step with spaces", InvalidInput, "step", lambda m, wf: m.update_step(wf, "the next step")),
    ("a step that is no text", InvalidInput, "step", lambda m, wf: m.update_step(wf, 7)),
    ("an agent with spaces", InvalidInput, "agent_id", lambda m, wf: m.update_state(wf, {}, "agent 1")),
    ("data that is no object", InvalidInput, "data", lambda m, wf: m.checkpoint(wf, "s", "a", [1])),
    ("an unknown checkpoint", NotFound, "no checkpoint", lambda m, wf: m.restore_checkpoint(wf, "never-taken")),
    ("a checkpoint that is no id", InvalidInput, "checkpoint_id", lambda m, wf: m.restore_checkpoint(wf, "a b")),
    ("a fork of an unknown checkpoint", NotFound, "checkpoint", lambda m, wf: m.fork(wf, "never-taken")),
    ("a version before the first", InvalidInput, "version", lambda m, wf: m.get_workflow(wf, 0)),
    ("a negative number of days", InvalidInput, "days", lambda m, wf: m.cleanup_old_workflows(-1)),
    ("no number of days", InvalidInput, "days", lambda m, wf: m.cleanup_old_workflows("30")),
    ("too long a list", InvalidInput, "limit", lambda m, wf: m.get_checkpoints(wf, 100_000)),
]  # fmt: skip


@pytest.mark.parametrize(("error", "words", "call"), [one[1:] for one in BAD], ids=[one[0] for one in BAD])
async def test_bad_input_is_a_clear_error_and_the_workflow_is_untouched(
    state: WorkflowStateManager, error: type[DiurnaError], words: str, call: Callable[[WorkflowStateManager, str], Any]
) -> None:
    workflow_id = await created(state, {"x": "y" * 1_000})
    await state.update_step(workflow_id, "here")
    before = await state.get_workflow(workflow_id)
    with pytest.raises(error, match=words):
        await call(state, workflow_id)
    assert await state.get_workflow(workflow_id) == before
    told = [event.type for event in await state.history(workflow_id)]
    assert [one for one in told if one != "workflows.command_refused"] == ["workflow.created", "workflow.step_changed"]
    assert await state.get_checkpoints(workflow_id) == []


CREATIONS: list[tuple[str, type[DiurnaError], str, dict[str, Any]]] = [
    ("a type with spaces", InvalidInput, "workflow_type", {"workflow_type": "two words"}),
    ("a state that is no object", InvalidInput, "initial_state", {"initial_state": [1]}),
    ("no state at all", InvalidInput, "initial_state", {"initial_state": None}),
    ("a state above 256 KiB", TooLarge, "initial_state", {"initial_state": BIG}),
    ("agents that are a text", InvalidInput, "participating_agents", {"participating_agents": "agent-1"}),
    ("agents that are a number", InvalidInput, "participating_agents", {"participating_agents": 3}),
    ("an agent that is no name", InvalidInput, "participating_agents", {"participating_agents": ["ok", "not ok"]}),
    ("an id with spaces", InvalidInput, "workflow_id", {"workflow_id": "a b"}),
    ("an id that is no part of a path", InvalidInput, "workflow_id", {"workflow_id": "a/b"}),
    ("an id that is no text", InvalidInput, "workflow_id", {"workflow_id": 7}),
    ("metadata above 16 KiB", TooLarge, "metadata", {"metadata": {"m": "x" * 20_000}}),
]


@pytest.mark.parametrize(("error", "words", "given"), [one[1:] for one in CREATIONS], ids=[one[0] for one in CREATIONS])
async def test_what_cannot_be_created_is_refused_with_the_field(
    state: WorkflowStateManager, error: type[DiurnaError], words: str, given: dict[str, Any]
) -> None:
    workflow_id = fresh()
    whole = {"workflow_type": "test", "initial_state": {}, "participating_agents": [], "workflow_id": workflow_id}
    with pytest.raises(error, match=words):
        await state.create_workflow(**{**whole, **given})
    with pytest.raises(NotFound):
        await state.get_workflow(workflow_id)


UNKNOWN: list[Callable[[WorkflowStateManager, str], Any]] = [
    lambda state, workflow_id: state.get_workflow(workflow_id),
    lambda state, workflow_id: state.update_state(workflow_id, {}),
    lambda state, workflow_id: state.update_step(workflow_id, "on"),
    lambda state, workflow_id: state.checkpoint(workflow_id, "here"),
    lambda state, workflow_id: state.restore_checkpoint(workflow_id, "c"),
    lambda state, workflow_id: state.complete_workflow(workflow_id),
    lambda state, workflow_id: state.pause(workflow_id),
    lambda state, workflow_id: state.resume(workflow_id),
    lambda state, workflow_id: state.cancel(workflow_id),
    lambda state, workflow_id: state.get_checkpoints(workflow_id),
    lambda state, workflow_id: state.get_latest_checkpoint(workflow_id),
    lambda state, workflow_id: state.history(workflow_id),
    lambda state, workflow_id: state.diff(workflow_id, 1, 2),
    lambda state, workflow_id: state.fork(workflow_id),
]


async def test_an_unknown_workflow_is_not_found_whatever_is_asked_of_it(state: WorkflowStateManager) -> None:
    for call in UNKNOWN:
        nothing = fresh()
        with pytest.raises(NotFound) as missing:
            await call(state, nothing)
        assert nothing in str(missing.value)
        assert missing.value.kind == "workflow"
