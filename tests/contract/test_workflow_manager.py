"""What the manager of workflows promises with checkpoints kept: resumed, streamed, cancelled, forked, driven by two."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from diurna import Event, EventBus
from diurna.locks import ResourceLockManager
from diurna_schemas.errors import Conflict, InvalidInput, NotFound, Refused
from diurna_schemas.shapes import AgentRequestEvent
from diurna_schemas.workflows import DecideApproval, PauseWorkflow, ResumeWorkflow
from diurna_workflows import KafkaCheckpointSaver, WorkflowManager
from diurna_workflows.orchestrator import execute_task
from diurna_workflows.policy import Decision
from support.savers import Savers
from support.scripted_team import ScriptedTeam, scripted_team
from support.teams import eventually
from support.workflow_fakes import INPUT

pytestmark = pytest.mark.timeout(120)


class Office:
    """Makes managers, each with a connection of its own, as other processes would have."""

    def __init__(self, savers: Savers, workers: ScriptedTeam, bus: EventBus, stack: AsyncExitStack) -> None:
        self.workers = workers
        self.bus = bus
        self.connection = savers.team.connect()
        self._decisions: dict[str, Decision] = {}
        self._savers = savers
        self._stack = stack

    async def manager(self) -> tuple[WorkflowManager, KafkaCheckpointSaver]:
        connection = self._savers.team.connect()
        bus = await self._stack.enter_async_context(self._savers.team.bus())
        saver = await self._savers(connection=connection)
        locks = ResourceLockManager(connection=connection)
        manager = WorkflowManager(bus, connection, locks=locks, checkpointer=saver, read_decision=self._decision)
        self._stack.push_async_callback(manager.close)
        return manager, saver

    def hear(self, event: Event) -> None:
        """Keeps a decision, for those who did not listen when it fell."""
        data = event.data
        self._decisions[data["approval_id"]] = Decision(data["is_approved"], data["decided_by"], data["reason"])

    async def _decision(self, _: str, approval_id: str) -> Decision | None:
        return self._decisions.get(approval_id)

    def asked(self, workflow_id: str) -> list[AgentRequestEvent]:
        """What was asked of the agents for a workflow, in order."""
        return [request for request in self.workers.requests if request.correlation_id == workflow_id]


@pytest.fixture
async def office(savers: Savers) -> AsyncIterator[Office]:
    async with AsyncExitStack() as stack:
        workers = await stack.enter_async_context(scripted_team(savers.team.agent))
        bus = await stack.enter_async_context(savers.team.bus())
        office = Office(savers, workers, bus, stack)
        bus.subscribe("workflow.approval_decided", office.hear)
        await bus.ready()
        yield office


def new_workflow() -> str:
    return f"w-{uuid.uuid4()}"


def without_id(final: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in final.items() if name != "workflow_id"}


async def until_deploy(office: Office, manager: WorkflowManager, workflow_id: str) -> None:
    """Runs a workflow until the infrastructure is at it, and stops there."""
    held = office.workers.held_back["deploy_service"] = asyncio.Event()
    task = manager.start("pr_deployment", workflow_id, INPUT)
    await eventually(lambda: len(office.asked(workflow_id)) == 3)
    task.cancel()
    await asyncio.wait({task})
    held.set()


async def test_a_stopped_workflow_is_resumed_and_asks_again_only_what_was_taken_back(office: Office) -> None:
    workflow_id = new_workflow()
    (first, _), (second, _) = await office.manager(), await office.manager()
    await until_deploy(office, first, workflow_id)
    final = await (await second.resume(workflow_id))
    assert final["deployment_status"] == "deployed"
    assert [request.request_type for request in office.asked(workflow_id)] == [
        "review_code",
        "run_pipeline",
        "deploy_service",
        "deploy_service",  # whoever stops a run takes its open question back
    ]


async def test_documents_that_were_made_are_not_made_again_when_the_run_is_resumed(office: Office) -> None:
    workflow_id = new_workflow()
    (first, _), (second, _) = await office.manager(), await office.manager()
    held = office.workers.held_back["merge_docs"] = asyncio.Event()
    task = first.start("parallel_docs", workflow_id, {"repo": "/work/repo", "site": "/srv/docs"})
    await eventually(lambda: len(office.asked(workflow_id)) == 4)
    task.cancel()
    await asyncio.wait({task})
    held.set()
    assert (await (await second.resume(workflow_id)))["status"] == "documented"
    assert Counter(request.request_type for request in office.asked(workflow_id)) == {
        "generate_docs": 3,
        "merge_docs": 2,  # whoever stops a run takes its open question back
    }


async def test_a_finished_workflow_that_is_run_again_answers_with_what_it_came_to(office: Office) -> None:
    workflow_id = new_workflow()
    (first, _), (second, _) = await office.manager(), await office.manager()
    final = await first.run("pr_deployment", workflow_id, INPUT)
    assert await second.run("pr_deployment", workflow_id, INPUT) == final
    assert await (await second.resume(workflow_id)) == final
    assert len(office.asked(workflow_id)) == 3


async def test_two_who_drive_one_workflow_come_to_the_same(office: Office) -> None:
    workflow_id = new_workflow()
    managers = [(await office.manager())[0] for _ in range(2)]
    one, other = await asyncio.gather(*(each.run("pr_deployment", workflow_id, INPUT) for each in managers))
    assert one == other
    assert one["deployment_status"] == "deployed"
    assert Counter(request.request_type for request in office.asked(workflow_id)) == {
        "review_code": 1,
        "run_pipeline": 1,
        "deploy_service": 1,
    }


async def test_a_stream_tells_what_each_node_adds(office: Office) -> None:
    manager, _ = await office.manager()
    workflow_id = new_workflow()
    steps = [step async for step in manager.stream("pr_deployment", workflow_id, INPUT)]
    assert [step.node for step in steps] == ["plan", "review", "test", "approval", "deploy", "finish"]
    assert steps[-1].update["final_result"]["deployment_status"] == "deployed"
    assert manager.list() == []


async def test_a_cancelled_workflow_ends_as_cancelled_and_is_not_gone_on_with(office: Office) -> None:
    manager, _ = await office.manager()
    other, _ = await office.manager()
    workflow_id = new_workflow()
    held = office.workers.held_back["review_code"] = asyncio.Event()
    task = manager.start("pr_deployment", workflow_id, INPUT)
    await eventually(lambda: len(office.asked(workflow_id)) == 1)
    assert [running.workflow_id for running in manager.list()] == [workflow_id]
    await manager.cancel(workflow_id, cancelled_by="ada", reason="not now")
    assert (await task)["deployment_status"] == "cancelled"
    held.set()
    assert (await (await other.resume(workflow_id)))["deployment_status"] == "cancelled"
    assert len(office.asked(workflow_id)) == 1


async def test_a_workflow_that_is_not_done_in_time_fails_and_is_not_gone_on_with(office: Office) -> None:
    manager, _ = await office.manager()
    other, _ = await office.manager()
    workflow_id = new_workflow()
    held = office.workers.held_back["review_code"] = asyncio.Event()
    payload = {"workflow_type": "pr_deployment", "workflow_id": workflow_id, "input": INPUT}
    final = await execute_task(payload, manager=manager, seconds=2)
    assert (final["status"], final["success"]) == ("failed", False)
    assert final["reason"] == "it was not done within 1.8 seconds"
    assert manager.list() == []
    held.set()
    assert (await (await other.resume(workflow_id)))["status"] == "failed"
    assert office.workers.done["deploy_service"] == 0


async def test_a_paused_workflow_waits_and_goes_on_once_it_is_resumed(office: Office) -> None:
    manager, _ = await office.manager()
    workflow_id = new_workflow()
    refused: list[Event] = []
    office.bus.subscribe("workflows.command_refused", refused.append)
    await office.bus.ready()
    held = office.workers.held_back["review_code"] = asyncio.Event()
    task = manager.start("pr_deployment", workflow_id, INPUT)
    await eventually(lambda: len(office.asked(workflow_id)) == 1)
    await office.connection.ask(PauseWorkflow(command_id=new_workflow(), workflow_id=workflow_id))
    held.set()
    await eventually(lambda: any(event.data["workflow_id"] == workflow_id for event in refused))
    assert not task.done()
    await office.connection.ask(ResumeWorkflow(command_id=new_workflow(), workflow_id=workflow_id))
    assert (await task)["deployment_status"] == "deployed"
    assert len(office.asked(workflow_id)) == 3, "nothing was asked twice"


async def test_a_policy_needs_none_of_the_roles_that_people_need(office: Office) -> None:
    manager, _ = await office.manager()
    final = await manager.run("pr_deployment", new_workflow(), {**INPUT, "approval_roles": ["release"]})
    assert (final["deployment_status"], final["approval"]["decided_by"]) == ("deployed", "policy-auto")


async def test_a_question_to_a_person_interrupts_the_graph_and_outlives_who_drives_it(office: Office) -> None:
    (first, _), (second, saver) = await office.manager(), await office.manager()
    workflow_id = new_workflow()
    asked: list[Event] = []
    office.bus.subscribe("workflow.approval_requested", asked.append)
    await office.bus.ready()
    task = first.start("pr_deployment", workflow_id, {**INPUT, "policy": "human", "approval_roles": ["release"]})
    await eventually(lambda: len(asked) == 1)
    found = await saver.aget_tuple({"configurable": {"thread_id": workflow_id, "checkpoint_ns": ""}})
    assert found is not None
    assert "__interrupt__" in {channel for _, channel, _ in found.pending_writes or ()}
    task.cancel()
    await asyncio.wait({task})
    again = await second.resume(workflow_id)
    decision = DecideApproval(
        command_id=new_workflow(),
        workflow_id=workflow_id,
        approval_id=asked[0].data["approval_id"],
        is_approved=True,
        decided_by="ada",
    )
    with pytest.raises(Refused, match="release"):
        await office.connection.ask(decision)
    await office.connection.ask(decision.model_copy(update={"command_id": new_workflow(), "roles": ["release"]}))
    final = await again
    assert (final["deployment_status"], final["approval"]["decided_by"]) == ("deployed", "ada")
    assert len(asked) == 1
    assert len(office.asked(workflow_id)) == 3


async def test_a_fork_goes_its_own_way_from_a_checkpoint_and_leaves_the_original(office: Office) -> None:
    manager, saver = await office.manager()
    workflow_id, forked_id = new_workflow(), new_workflow()
    final = await manager.run("pr_deployment", workflow_id, INPUT)
    tested = await checkpoint_after(saver, workflow_id, "test")
    changed = {"partial_results": {"input": {**INPUT, "deploy_to": "/srv/other"}}}
    forked = await (await manager.fork(workflow_id, forked_id, checkpoint_id=tested, updates=changed))
    assert forked["workflow_id"] == forked_id
    assert forked["deploy_to"] == "/srv/other"
    assert without_id(forked) == {**without_id(final), "deploy_to": "/srv/other"}
    assert [request.request_type for request in office.asked(forked_id)] == ["deploy_service"]
    assert await (await manager.resume(workflow_id)) == final


async def test_a_fork_begins_before_the_step_that_is_named(office: Office) -> None:
    manager, _ = await office.manager()
    workflow_id, forked_id = new_workflow(), new_workflow()
    final = await manager.run("pr_deployment", workflow_id, INPUT)
    changed = {"partial_results": {"input": {"deploy_to": "/srv/other"}}}
    source = {"workflow_id": workflow_id, "checkpoint": "test", "set": changed}
    payload = {"workflow_type": "pr_deployment", "workflow_id": forked_id, "fork_of": source}
    forked = await execute_task(payload, manager=manager)
    assert without_id(forked) == {**without_id(final), "deploy_to": "/srv/other"}
    asked = [request.request_type for request in office.asked(forked_id)]
    assert asked == ["run_pipeline", "deploy_service"]
    assert await execute_task(payload, manager=manager) == forked
    assert len(office.asked(forked_id)) == len(asked), "a fork that is asked for again is the same fork"


async def test_a_fork_that_cannot_be_names_what_is_wrong(office: Office) -> None:
    manager, _ = await office.manager()
    workflow_id = new_workflow()
    await manager.run("pr_deployment", workflow_id, INPUT)
    with pytest.raises(NotFound, match="'cook'"):
        await manager.fork(workflow_id, new_workflow(), before="cook")
    with pytest.raises(InvalidInput, match=r"updates\.branch: the state holds agent_assignments, "):
        await manager.fork(workflow_id, new_workflow(), before="test", updates={"branch": "fix"})
    with pytest.raises(InvalidInput, match=r"updates\.started_at: .* cannot be taken away"):
        await manager.fork(workflow_id, new_workflow(), before="test", updates={"started_at": None})


async def test_a_fork_of_a_workflow_at_work_asks_anew(office: Office) -> None:
    manager, _ = await office.manager()
    workflow_id, forked_id = new_workflow(), new_workflow()
    await until_deploy(office, manager, workflow_id)
    forked = await (await manager.fork(workflow_id, forked_id))
    assert forked["deployment_status"] == "deployed"
    assert [request.request_type for request in office.asked(forked_id)] == ["deploy_service"]
    assert await (await manager.fork(workflow_id, forked_id)) == forked
    assert len(office.asked(forked_id)) == 1


async def test_a_fork_from_any_checkpoint_comes_to_an_end(office: Office) -> None:
    manager, saver = await office.manager()
    workflow_id = new_workflow()
    final = await manager.run("pr_deployment", workflow_id, INPUT)
    found = [one async for one in saver.alist({"configurable": {"thread_id": workflow_id}})]
    for checkpoint in found[1:]:
        at = checkpoint.config["configurable"]["checkpoint_id"]
        forked = await (await manager.fork(workflow_id, new_workflow(), checkpoint_id=at))
        assert without_id(forked) == without_id(final), checkpoint.metadata
    with pytest.raises(Conflict, match="nothing left to do"):
        await manager.fork(workflow_id, new_workflow())


async def test_what_is_not_there_is_neither_resumed_nor_forked(office: Office) -> None:
    manager, saver = await office.manager()
    workflow_id = new_workflow()
    with pytest.raises(NotFound, match=workflow_id):
        await manager.resume(workflow_id)
    with pytest.raises(NotFound, match=workflow_id):
        await manager.fork(workflow_id, new_workflow())
    await manager.run("pr_deployment", workflow_id, INPUT)
    with pytest.raises(NotFound, match="1f000000-0000-6000-8000-000000000000"):
        await manager.fork(workflow_id, new_workflow(), checkpoint_id="1f000000-0000-6000-8000-000000000000")
    with pytest.raises(InvalidInput, match="new_workflow_id"):
        await manager.fork(workflow_id, "no id at all\n")
    other = new_workflow()
    await manager.run("pr_deployment", other, INPUT)
    with pytest.raises(Conflict):
        await manager.fork(workflow_id, other, checkpoint_id=await checkpoint_after(saver, workflow_id, "test"))


async def checkpoint_after(saver: KafkaCheckpointSaver, workflow_id: str, node: str) -> str:
    """The checkpoint that has a node's result, the oldest of those."""
    found = [one async for one in saver.alist({"configurable": {"thread_id": workflow_id}})]
    having = [one for one in found if node in one.checkpoint["channel_values"].get("partial_results", {})]
    return str(having[-1].config["configurable"]["checkpoint_id"])
