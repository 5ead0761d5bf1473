"""Self-healing by itself: every way it can go, how often it tries, and whom it asks at last."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from diurna_schemas.errors import InvalidInput, LockLost, ResourceLockError
from diurna_schemas.shapes import AgentRequestEvent
from diurna_schemas.workflows import RequestApproval
from diurna_workflows import WorkflowManager, build_self_healing
from diurna_workflows.healing_input import SelfHealingInput
from diurna_workflows.state import initial_state
from diurna_workflows.votes import merged_votes
from support.workflow_fakes import BelievingLog, FakeLocks, ScriptedBus

SERVICES: dict[str, Any] = {"web": {"command": ["serve"]}}
INPUT: dict[str, Any] = {"service": "web", "services": SERVICES, "backoff_seconds": 0, "attempts": 2}
ILL = {"healthy": False, "issues": [{"service": "web", "check": "tcp 127.0.0.1:80", "detail": "refused"}]}
WELL: dict[str, Any] = {"healthy": True, "issues": []}
STANDING = {"after": {"state": "ended", "exit_code": -9}, "declared": {"command": ["serve"]}, "output": "bye"}
FIXED = {"task": "restart_service", "done": True, "before": {"pid": 1}, "after": {"pid": 2}}
RESTART = {"diagnosis": "its process is not there", "remedy": "restart_service", "confidence": 0.8}
PERSON = {"diagnosis": "the disk is full", "remedy": "ask_person", "confidence": 0.9}


def bus_with(looks: list[Any], *, fix: Any = FIXED, diagnosis: Any = RESTART, standing: Any = STANDING) -> ScriptedBus:
    """`looks` are the answers of health checks, one by one; the last stays."""
    left = list(looks)

    async def look(_: AgentRequestEvent) -> Any:
        return left.pop(0) if len(left) > 1 else left[0]

    async def task(request: AgentRequestEvent) -> Any:
        found = standing if request.payload["task"] == "service_status" else fix
        if isinstance(found, Exception):
            raise found
        return found

    async def diagnose(request: AgentRequestEvent) -> Any:
        return diagnosis(request) if callable(diagnosis) else diagnosis

    return ScriptedBus({"health_check": look, "execute_task": task, "diagnose_service": diagnose})


async def run(bus: ScriptedBus, *, locks: Any = None, **given: Any) -> tuple[dict[str, Any], BelievingLog]:
    log = BelievingLog(bus)
    manager = WorkflowManager(bus, log, locks=locks, patience_seconds=0)
    return await manager.run("self_healing", "w-1", {"escalate": "never", **INPUT, **given}), log


def fixes(bus: ScriptedBus) -> int:
    return sum(request.payload.get("task") == "restart_service" for request in bus.asked)


async def test_a_service_that_is_well_is_left_alone() -> None:
    bus = bus_with([WELL])
    final, log = await run(bus)
    assert (final["status"], final["is_resolved"], final["success"]) == ("healthy", True, True)
    assert bus.types() == ["health_check"]
    assert log.names()[-1] == "CompleteWorkflow"


async def test_an_ill_service_is_diagnosed_by_three_fixed_once_and_looked_at() -> None:
    bus = bus_with([ILL, WELL])
    final, _ = await run(bus)
    assert (final["status"], final["is_resolved"]) == ("healed", True)
    assert bus.types() == ["health_check", "execute_task", *["diagnose_service"] * 3, "execute_task", "health_check"]
    asked = [request for request in bus.asked if request.request_type == "diagnose_service"]
    assert {request.target_agent for request in asked} == {"infrastructure", "cicd", "code-review"}
    assert all(request.payload["output"] == "bye" for request in asked)
    assert all(request.payload["standing"]["exit_code"] == -9 for request in asked)
    (attempt,) = final["attempts"]
    assert (attempt["fixed"], attempt["outcome"]) == (True, "healed")
    assert (final["process_before"], final["process_after"]) == (1, 2)
    assert final["diagnosis"]["weights"] == {"restart_service": 2.4}


async def test_the_agents_diagnose_side_by_side() -> None:
    meeting = asyncio.Barrier(3)
    bus = bus_with([ILL, WELL])

    async def together(_: AgentRequestEvent) -> Any:
        await asyncio.wait_for(meeting.wait(), 5)
        return RESTART

    bus.answers["diagnose_service"] = together
    assert (await run(bus))[0]["is_resolved"] is True


async def test_the_service_is_held_while_it_is_fixed_and_its_token_is_shown() -> None:
    bus = bus_with([ILL, WELL])
    locks = FakeLocks(bus)
    await run(bus, locks=locks)
    ((resource, _, options),) = locks.asked
    assert (resource, options["auto_renew"], options["correlation_id"]) == ("service:web", True, "w-1")
    assert locks.held_while == ["execute_task"]
    fix = next(request for request in bus.asked if request.payload.get("task") == "restart_service")
    assert fix.payload["lock"] == {"resource_id": "service:web", "token": 42}


@pytest.mark.parametrize(
    ("fix", "words"),
    [
        ({**FIXED, "done": False}, None),
        (("rejected", "service web: it has no command to start it with", "not_startable"), "no command"),
        (("timeout", "no answer within 900 s"), "timeout"),
        (LockLost("service:web", "the lock on service:web is lost"), "lost"),
    ],
)
async def test_a_fix_that_does_not_help_is_tried_as_often_as_allowed(fix: Any, words: str | None) -> None:
    bus = bus_with([ILL], fix=fix)
    final, log = await run(bus)
    assert (final["status"], final["is_resolved"]) == ("unresolved", False)
    assert fixes(bus) == 2
    assert [one["fixed"] for one in final["attempts"]] == [False, False]
    assert words is None or words in final["attempts"][0]["error"]
    assert log.names()[-1] == "FailWorkflow"


async def test_what_a_fix_says_of_itself_does_not_count_but_the_look_after_it() -> None:
    final, _ = await run(bus_with([ILL, WELL], fix=("timeout", "no answer within 900 s")))
    assert (final["status"], final["is_resolved"]) == ("healed", True)


async def test_a_service_that_somebody_else_holds_is_not_fixed() -> None:
    bus = bus_with([ILL])
    denied = FakeLocks(bus, denied="Resource service:web is locked by ada")
    final, _ = await run(bus, locks=denied)
    assert fixes(bus) == 0
    assert final["attempts"][0]["error"] == "Resource service:web is locked by ada"
    with pytest.raises(ResourceLockError):
        async with denied.acquire("service:web", "orchestrator"):
            pass


def test_the_wait_before_each_attempt_is_twice_as_long_and_bounded() -> None:
    given = SelfHealingInput.read({**INPUT, "backoff_seconds": 100})
    assert [given.wait_seconds(attempt) for attempt in (1, 2, 3, 4)] == [100, 200, 300, 300]


async def test_it_waits_before_the_next_attempt() -> None:
    bus = bus_with([ILL])
    manager = WorkflowManager(bus, BelievingLog(bus), patience_seconds=0)
    given = {**INPUT, "attempts": 3, "backoff_seconds": 0.01, "escalate": "never"}
    steps = [step async for step in manager.stream("self_healing", "w-1", given)]
    waits = [step.update["partial_results"]["waited_seconds"] for step in steps if step.node == "wait"]
    assert waits == [0.01, 0.02]


async def test_a_service_that_recovers_while_it_waits_is_not_fixed_again() -> None:
    bus = bus_with([ILL, ILL, WELL])
    final, _ = await run(bus)
    assert (final["status"], final["reason"], fixes(bus)) == ("healed", "it is well again", 1)


async def test_where_all_say_that_it_is_well_now_it_is_looked_at_and_not_fixed() -> None:
    bus = bus_with([ILL, WELL], diagnosis={"diagnosis": "it is healthy now", "remedy": "none", "confidence": 0.9})
    final, _ = await run(bus)
    assert (final["status"], fixes(bus)) == ("healed", 0)


async def test_where_no_restart_will_help_a_person_is_asked_at_once() -> None:
    bus = bus_with([ILL], diagnosis=PERSON)
    final, _ = await run(bus)
    assert (final["status"], fixes(bus)) == ("unresolved", 0)
    assert "the disk is full" in final["reason"]


async def test_an_agent_that_cannot_diagnose_has_no_vote() -> None:
    def by_agent(request: AgentRequestEvent) -> Any:
        return ("error", "broken") if request.target_agent == "cicd" else RESTART

    final, _ = await run(bus_with([ILL, WELL], diagnosis=by_agent))
    assert set(final["diagnosis"]["votes"]) == {"infrastructure", "code-review"}
    assert final["status"] == "healed"


async def test_where_nobody_can_diagnose_a_person_is_asked() -> None:
    final, _ = await run(bus_with([ILL], diagnosis=("error", "broken")))
    assert (final["status"], final["diagnosis"]["remedy"]) == ("unresolved", "ask_person")


async def test_a_service_that_is_not_declared_fails_it_with_the_agent_s_words() -> None:
    final, log = await run(bus_with([("rejected", "no service with id 'web'", "not_found")]))
    assert (final["status"], final["is_resolved"]) == ("failed", False)
    assert "no service with id 'web'" in final["reason"]
    assert log.names()[-1] == "FailWorkflow"


@pytest.mark.parametrize(
    "silence",
    [("timeout", "no answer"), ("rejected", "the agent takes no more", "queue_full"), ("error", "ValueError: 7")],
)
async def test_a_look_that_is_not_answered_counts_as_an_attempt(silence: tuple[str, ...]) -> None:
    final, _ = await run(bus_with([silence, ILL, WELL]))
    assert (final["status"], len(final["attempts"])) == ("healed", 2)


async def test_without_knowing_how_it_stands_it_is_diagnosed_all_the_same() -> None:
    final, _ = await run(bus_with([ILL, WELL], standing=("error", "broken")))
    assert final["status"] == "healed"


async def decided(bus: ScriptedBus, log: BelievingLog, *decisions: bool | None, **given: Any) -> dict[str, Any]:
    """Runs it with a person who decides as told, one question after the other; None lets the time run out."""
    running = asyncio.create_task(WorkflowManager(bus, log).run("self_healing", "w-1", {**INPUT, **given}))
    for number, decision in enumerate(decisions, start=1):
        await asyncio.wait_for(log.approval_was_asked.wait(), 5)
        log.approval_was_asked.clear()
        asked = log.of(RequestApproval)
        assert len(asked) == number
        approval_id = asked[-1].approval_id
        if decision is None:
            bus.tell("workflow.approval_expired", approval_id=approval_id)
        else:
            fields = {"decided_by": "ada", "reason": "as agreed", "is_approved": decision}
            bus.tell("workflow.approval_decided", approval_id=approval_id, **fields)
    return await asyncio.wait_for(running, 5)


async def test_a_person_who_says_yes_gets_another_round() -> None:
    bus = bus_with([*[ILL] * 5, WELL])
    log = BelievingLog(bus)
    final = await decided(bus, log, True, attempts=2, approval_roles=["operations"], approval_timeout_seconds=60)
    assert (final["status"], final["rounds"], fixes(bus)) == ("healed", 2, 3)
    question = log.of(RequestApproval)[0]
    assert (question.roles, question.expires_after_ms) == (["operations"], 60_000)
    assert "web is ill" in question.question
    assert final["escalation"]["decided_by"] == "ada"


async def test_a_person_who_healed_it_by_hand_is_believed_after_a_look() -> None:
    bus = bus_with([ILL, WELL], diagnosis=PERSON)
    final = await decided(bus, BelievingLog(bus), True)
    assert (final["status"], fixes(bus)) == ("healed", 0)


@pytest.mark.parametrize(("decision", "words"), [(False, "ada: as agreed"), (None, "nobody decided in time")])
async def test_without_a_yes_it_stays_unresolved(decision: bool | None, words: str) -> None:
    bus = bus_with([ILL])
    final = await decided(bus, BelievingLog(bus), decision)
    assert (final["status"], final["is_resolved"]) == ("unresolved", False)
    assert words in final["reason"]


async def test_each_round_asks_anew() -> None:
    bus = bus_with([ILL])
    log = BelievingLog(bus)
    final = await decided(bus, log, True, True, False, attempts=1)
    assert (final["rounds"], fixes(bus)) == (3, 3)
    assert len({asked.approval_id for asked in log.of(RequestApproval)}) == 3


async def test_the_graph_runs_by_itself_with_a_bus_alone() -> None:
    found = await build_self_healing(bus_with([ILL, WELL])).ainvoke(
        initial_state("self_healing", "test-heal-789", dict(INPUT))
    )
    assert found["final_result"]["is_resolved"] is True
    assert set(found["subtask_status"].values()) == {"completed"}
    failed = await build_self_healing(bus_with([WELL])).ainvoke(initial_state("self_healing", "t", {}))
    assert "service" in failed["final_result"]["reason"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"service": "no such name"}, "service"),
        ({"service": "other"}, "services declares web"),
        ({"services_file": "/srv/services.toml"}, "not both"),
        ({"services_file": "relative.toml", "services": None}, "services_file"),
        ({"attempts": 0}, "attempts"),
        ({"attempts": 11}, "attempts"),
        ({"backoff_seconds": -1}, "backoff_seconds"),
        ({"escalate": "always"}, "escalate"),
        ({"repo": "/work/repo"}, "repo: no such field"),
    ],
)
async def test_bad_input_names_the_field_and_nothing_is_written(given: dict[str, Any], words: str) -> None:
    bus = bus_with([WELL])
    log = BelievingLog(bus)
    with pytest.raises(InvalidInput, match=words):
        await WorkflowManager(bus, log).run("self_healing", "w-1", {**INPUT, **given})
    assert (log.commands, bus.asked) == ([], [])


def test_the_heaviest_remedy_wins_and_of_equal_ones_the_more_cautious() -> None:
    half = {"diagnosis": "x", "confidence": 0.5}
    merged = merged_votes({"a": {**half, "remedy": "restart_service"}, "b": {**half, "remedy": "ask_person"}})
    assert merged["remedy"] == "ask_person"
    merged = merged_votes({"a": RESTART, "b": {**half, "remedy": "ask_person"}, "c": {"remedy": "dance"}, "d": {}})
    assert (merged["remedy"], set(merged["votes"])) == ("restart_service", {"a", "b"})
    assert merged_votes({"a": {**RESTART, "confidence": 7}})["remedy"] == "ask_person"
