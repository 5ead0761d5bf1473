"""The PR deployment by itself: every end it can come to, and that it tells each as it was."""

from __future__ import annotations

import asyncio
import json
from typing import Any, get_type_hints

import pytest

from diurna_schemas.errors import InvalidInput, LockLost, Unavailable
from diurna_schemas.ids import checked_id
from diurna_schemas.workflows import (
    CompleteWorkflow,
    DecideApproval,
    FailWorkflow,
    RequestApproval,
    UpdateWorkflowState,
    UpdateWorkflowStep,
)
from diurna_workflows import MultiAgentState, WorkflowManager, build_pr_deployment
from diurna_workflows.journal import LogJournal
from diurna_workflows.state import initial_state
from diurna_workflows.target_lock import resource_of
from support.workflow_fakes import APPROVED, DEPLOYED, HEAD, INPUT, PASSED, BelievingLog, FakeLocks, ScriptedBus


async def run(bus: ScriptedBus, **given: Any) -> tuple[dict[str, Any], BelievingLog]:
    log = BelievingLog(bus)
    final = await WorkflowManager(bus, log, patience_seconds=0).run("pr_deployment", "w-1", {**INPUT, **given})
    return final, log


def test_the_state_has_exactly_the_promised_keys() -> None:
    assert set(get_type_hints(MultiAgentState)) == {
        *("task_id", "workflow_type", "subtasks", "subtask_status", "agent_assignments", "agent_status", "locks"),
        *("checkpoints", "partial_results", "final_result", "started_at", "updated_at", "error_log"),
    }


async def test_a_good_change_is_reviewed_tested_approved_and_deployed() -> None:
    bus = ScriptedBus()
    final, log = await run(bus)
    assert final["deployment_status"] == "deployed"
    assert final["success"] is True
    assert final["release"] == "r2"
    assert bus.types() == ["review_code", "run_pipeline", "deploy_service"]
    assert {request.correlation_id for request in bus.asked} == {"w-1"}
    assert [step.step for step in log.of(UpdateWorkflowStep)] == ["review", "test", "approval", "deploy"]
    assert log.names()[0] == "CreateWorkflow"
    assert log.names()[-1] == "CompleteWorkflow"
    assert json.loads(log.of(CompleteWorkflow)[0].result)["deployment_status"] == "deployed"


async def test_what_was_reviewed_is_what_is_tested_and_deployed_though_the_branch_moves_on() -> None:
    bus = ScriptedBus()
    await run(bus)
    assert bus.asked[0].payload["head"] == "feature"
    assert [request.payload["head"] for request in bus.asked[1:]] == [HEAD, HEAD]


async def test_a_review_that_requests_changes_ends_it_before_anything_is_run() -> None:
    bus = ScriptedBus()
    bus.answers["review_code"] = {**APPROVED, "approved": False, "summary": "undefined name `nope`"}
    final, log = await run(bus)
    assert (final["deployment_status"], final["reason"]) == ("rejected_by_review", "undefined name `nope`")
    assert bus.types() == ["review_code"]
    assert log.names()[-1] == "CompleteWorkflow"


@pytest.mark.parametrize("outcome", ["failed", "build_failed", "collection_error", "timed_out"])
async def test_tests_that_do_not_pass_end_it_before_anything_is_deployed(outcome: str) -> None:
    bus = ScriptedBus()
    bus.answers["run_pipeline"] = {**PASSED, "passed": False, "outcome": outcome, "failures": 1}
    final, _ = await run(bus)
    assert final["deployment_status"] == "tests_failed"
    assert final["reason"].startswith(f"{outcome}: 7 tests, 1 failures")
    assert "deploy_service" not in bus.types()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"outcome": "timed_out", "reason": "the tests took more than 5 s"}, "timed_out: the tests took more than 5 s"),
        (
            {"outcome": "failed", "reason": "exit code 1", "tests": 7, "failures": 0, "errors": 0, "skipped": 0},
            "failed: exit code 1 (7 tests, 0 failures, 0 errors, 0 skipped)",
        ),
    ],
)
async def test_why_tests_did_not_pass_is_told(answer: dict[str, Any], words: str) -> None:
    bus = ScriptedBus()
    nothing = dict.fromkeys(("tests", "failures", "errors", "skipped"))
    bus.answers["run_pipeline"] = {"passed": False, **nothing, **answer}
    final, _ = await run(bus)
    assert (final["reason"], final["test"]) == (words, words)


async def test_without_tests_the_policy_auto_approves_nothing() -> None:
    bus = ScriptedBus()
    bus.answers["run_pipeline"] = {"passed": False, "outcome": "no_tests"}
    final, log = await run(bus)
    assert final["deployment_status"] == "approval_rejected"
    assert "no_tests" in final["reason"]
    assert log.of(DecideApproval)[0].is_approved is False


async def test_a_large_change_needs_a_person() -> None:
    final, _ = await run(ScriptedBus(), auto_lines_max=10)
    assert final["deployment_status"] == "approval_rejected"
    assert "11 changed lines are more than the 10" in final["reason"]


async def test_the_policy_never_deploys_nothing() -> None:
    bus = ScriptedBus()
    final, log = await run(bus, policy="never")
    assert final["deployment_status"] == "approval_rejected"
    assert len(log.of(RequestApproval)) == 1
    assert "deploy_service" not in bus.types()


@pytest.mark.parametrize(("is_approved", "status"), [(True, "deployed"), (False, "approval_rejected")])
async def test_a_person_decides_under_the_policy_human(is_approved: bool, status: str) -> None:
    bus = ScriptedBus()
    log = BelievingLog(bus)
    running = asyncio.create_task(WorkflowManager(bus, log).run("pr_deployment", "w-1", {**INPUT, "policy": "human"}))
    await asyncio.wait_for(log.approval_was_asked.wait(), 5)
    question = log.of(RequestApproval)[0]
    assert HEAD[:12] in question.question
    decided = {"decided_by": "ada", "reason": "as agreed"}
    bus.tell("workflow.approval_decided", approval_id="another", is_approved=not is_approved, **decided)
    bus.tell("workflow.approval_decided", approval_id=question.approval_id, is_approved=is_approved, **decided)
    final = await running
    assert final["deployment_status"] == status
    assert final["approval"] == {"approved": is_approved, **decided}


async def test_nobody_deciding_in_time_is_told_as_such() -> None:
    bus = ScriptedBus()
    log = BelievingLog(bus)
    given = {**INPUT, "policy": "human", "approval_timeout_seconds": 1.5}
    running = asyncio.create_task(WorkflowManager(bus, log).run("pr_deployment", "w-1", given))
    await asyncio.wait_for(log.approval_was_asked.wait(), 5)
    assert log.of(RequestApproval)[0].expires_after_ms == 1500
    bus.tell("workflow.approval_expired", approval_id=log.of(RequestApproval)[0].approval_id)
    assert (await running)["deployment_status"] == "approval_expired"


async def test_an_unhealthy_release_is_told_as_rolled_back() -> None:
    bus = ScriptedBus()
    bus.answers["deploy_service"] = {**DEPLOYED, "deployment_status": "rolled_back", "current": "r1"}
    final, log = await run(bus)
    assert (final["deployment_status"], final["success"]) == ("rolled_back", False)
    assert log.of(FailWorkflow)[0].error.startswith("rolled_back: ")
    assert final["errors"] != []


async def test_an_agent_that_fails_ends_it_as_failed_with_its_words() -> None:
    bus = ScriptedBus()
    bus.answers["run_pipeline"] = ("error", "RefNotFound: head: no commit")
    final, log = await run(bus)
    assert final["deployment_status"] == "failed"
    assert "cicd answered run_pipeline with error: RefNotFound" in final["reason"]
    assert log.names()[-1] == "FailWorkflow"


async def test_a_timeout_is_told_as_unknown_not_as_a_failure() -> None:
    bus = ScriptedBus()
    bus.answers["deploy_service"] = ("timeout", "no answer within 900 s")
    final, _ = await run(bus)
    assert final["deployment_status"] == "failed"
    assert "whether it was done is unknown" in final["reason"]


async def test_an_agent_that_is_restarting_is_asked_again_under_another_request_id() -> None:
    bus = ScriptedBus()
    bus.answers["review_code"] = [("rejected", "agent offline: code-review: no live instance"), APPROVED]
    final, _ = await run(bus)
    assert final["deployment_status"] == "deployed"
    assert bus.types()[:2] == ["review_code", "review_code"]
    assert bus.asked[0].request_id != bus.asked[1].request_id


async def test_a_question_that_a_stopped_run_took_back_is_asked_anew() -> None:
    bus = ScriptedBus()
    words = "cancelled by orchestrator: the caller no longer waits"
    bus.answers["run_pipeline"] = [("error", words, "cancelled"), PASSED]
    final, _ = await run(bus)
    assert final["deployment_status"] == "deployed"


async def test_a_question_that_somebody_else_cancelled_ends_it() -> None:
    bus = ScriptedBus()
    bus.answers["run_pipeline"] = ("error", "cancelled by ada: too slow", "cancelled")
    final, _ = await run(bus)
    assert final["deployment_status"] == "failed"
    assert "too slow" in final["reason"]


async def test_run_again_after_a_crash_it_asks_under_the_same_ids_and_says_nothing_new() -> None:
    first, second = ScriptedBus(), ScriptedBus()
    _, log = await run(first)
    _, again = await run(second)
    assert [request.request_id for request in first.asked] == [request.request_id for request in second.asked]
    assert [command.command_id for command in log.commands] == [command.command_id for command in again.commands]
    assert len({command.command_id for command in log.commands}) == len(log.commands)


async def test_a_cancelled_workflow_stops_where_it_is() -> None:
    bus = ScriptedBus()
    log = BelievingLog(bus)
    manager = WorkflowManager(bus, log)
    reached, stopped = asyncio.Event(), asyncio.Event()

    async def never_ends(_: object) -> None:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    bus.answers["run_pipeline"] = never_ends
    task = manager.start("pr_deployment", "w-1", INPUT)
    await asyncio.wait_for(reached.wait(), 5)
    assert [running.workflow_id for running in manager.list()] == ["w-1"]
    await manager.cancel("w-1", cancelled_by="ada", reason="wrong branch")
    final = await asyncio.wait_for(task, 5)
    assert final["deployment_status"] == "cancelled"
    assert final["reason"] == "cancelled by ada: wrong branch"
    assert stopped.is_set()
    assert manager.list() == []
    assert "deploy_service" not in bus.types()


async def test_a_log_that_does_not_answer_fails_the_workflow_and_says_so() -> None:
    bus = ScriptedBus()
    bus.answers["review_code"] = Unavailable("the log did not answer")
    final, log = await run(bus)
    assert (final["deployment_status"], final["reason"]) == ("failed", "the log did not answer")
    assert log.names()[-1] == "FailWorkflow"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"deploy_to": "relative/dir"}, "deploy_to"),
        ({"policy": "always"}, "policy"),
        ({"unknown": 1}, "unknown"),
        ({"repo": "--upload-pack=x"}, "repo"),
        ({"head": "a\nb"}, "head"),
        ({"approval_timeout_seconds": -1}, "approval_timeout_seconds"),
        ({"risk_max": "high"}, "risk_max"),
        ({"approval_roles": ["a role\n"]}, "approval_roles"),
        ({"health": {"url": "ftp://x"}}, r"^health\.url: must begin with http"),
        ({"health": {"command": "true", "module": "m"}}, "^health: give one of command, url and module"),
        ({"review": {"findings_max": 0}}, r"^review\.findings_max: .*got 0$"),
    ],
)
async def test_bad_input_names_the_field_and_nothing_is_written(given: dict[str, Any], words: str) -> None:
    bus = ScriptedBus()
    log = BelievingLog(bus)
    with pytest.raises(InvalidInput, match=words):
        await WorkflowManager(bus, log).run("pr_deployment", "w-1", {**INPUT, **given})
    assert log.commands == []
    assert bus.asked == []


async def test_an_unknown_type_names_those_there_are() -> None:
    bus = ScriptedBus()
    with pytest.raises(InvalidInput, match="pr_deployment"):
        await WorkflowManager(bus, BelievingLog(bus)).run("no_such_type", "w-1", INPUT)


async def test_the_graph_runs_by_itself_with_a_bus_alone() -> None:
    graph = build_pr_deployment(ScriptedBus())
    state = await graph.ainvoke(initial_state("pr_deployment", "t-1", dict(INPUT)))
    assert state["partial_results"]["deployment_status"] == "deployed"
    assert set(state["subtask_status"].values()) == {"completed"}
    assert state["agent_status"] == {"code-review": "success", "cicd": "success", "infrastructure": "success"}


async def test_the_graph_without_input_says_what_is_missing() -> None:
    bus = ScriptedBus()
    state = initial_state("pr_deployment", "t-1", {})
    state["partial_results"] = {}
    ended = await build_pr_deployment(bus).ainvoke(state)
    assert ended["partial_results"]["deployment_status"] == "failed"
    assert "input" in ended["final_result"]["reason"]
    assert bus.asked == []


async def test_a_large_answer_is_not_repeated_whole_in_the_facts() -> None:
    bus = ScriptedBus()
    bus.answers["review_code"] = {**APPROVED, "findings": [{"message": "x" * 400}] * 500}
    _, log = await run(bus)
    facts = [json.loads(fact.updates) for fact in log.of(UpdateWorkflowState)]
    assert facts[0]["review"]["left_out"] == ["findings"]
    assert facts[0]["review"]["head"] == HEAD


async def run_with(locks: FakeLocks, bus: ScriptedBus, **given: Any) -> dict[str, Any]:
    manager = WorkflowManager(bus, BelievingLog(bus), locks=locks)  # type: ignore[arg-type]
    return await manager.run("pr_deployment", "w-1", {**INPUT, **given})


async def test_the_target_is_held_while_it_is_deployed_to_and_its_token_is_shown_there() -> None:
    bus = ScriptedBus()
    locks = FakeLocks(bus)
    final = await run_with(locks, bus)
    assert final["deployment_status"] == "deployed"
    assert bus.asked[-1].payload["lock"] == {"resource_id": "deploy:/srv/app", "token": 42}
    assert locks.held_while == ["deploy_service"]
    ((resource, holder, options),) = locks.asked
    assert (resource, holder) == ("deploy:/srv/app", "orchestrator")
    assert (options["auto_renew"], options["correlation_id"]) == (True, "w-1")
    assert options["reason"] == f"deploys {HEAD[:12]} of /work/repo"


async def test_a_target_that_is_not_to_be_had_is_not_deployed_to() -> None:
    bus = ScriptedBus()
    final = await run_with(FakeLocks(bus, denied="Resource deploy:/srv/app is locked by orchestrator"), bus)
    assert final["deployment_status"] == "failed"
    assert final["reason"] == "Resource deploy:/srv/app is locked by orchestrator"
    assert "deploy_service" not in bus.types()


async def test_a_target_that_was_lost_in_the_middle_is_told_as_unknown() -> None:
    bus = ScriptedBus()
    bus.answers["deploy_service"] = LockLost("deploy:/srv/app", "the lock on deploy:/srv/app is lost: taken away")
    final = await run_with(FakeLocks(bus), bus)
    assert final["deployment_status"] == "failed"
    assert final["reason"].startswith("the lock on deploy:/srv/app is lost: taken away; whether it was done is unknown")


async def test_nothing_is_held_by_a_workflow_that_does_not_come_to_deploying() -> None:
    bus = ScriptedBus()
    locks = FakeLocks(bus)
    await run_with(locks, bus, policy="never")
    assert locks.asked == []


@pytest.mark.parametrize(
    ("deploy_to", "resource"),
    [
        ("/srv/app", "deploy:/srv/app"),
        ("/srv/my app", "deploy:/srv/my%20app"),
        ("/srv/ä", "deploy:/srv/%C3%A4"),
    ],
)
def test_a_target_is_a_resource(deploy_to: str, resource: str) -> None:
    assert resource_of(deploy_to) == checked_id("resource_id", resource)


def test_long_targets_are_resources_of_their_own() -> None:
    found = {resource_of("/" + "x" * 300 + end) for end in ("", "a", "b")}
    assert len(found) == 3
    assert all(checked_id("resource_id", one) for one in found)


async def test_an_approval_decided_while_nobody_listened_is_found() -> None:
    from diurna_workflows.approvals import BusDesk, opened
    from diurna_workflows.policy import Decision

    async def read(approval_id: str) -> Decision | None:
        return Decision(True, "ada", approval_id)

    bus = ScriptedBus()
    async with opened(BusDesk(bus, read=read), LogJournal(BelievingLog(bus), "w-1").approval_id("approval")) as case:
        assert (await case.decision()).is_approved
    assert all(listeners == [] for listeners in bus.listeners.values())
