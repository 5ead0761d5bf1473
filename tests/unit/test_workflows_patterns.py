"""The ready-made workflows: in which order agents are asked, what each is told, and what one failure does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from diurna_schemas.errors import InvalidInput
from diurna_schemas.shapes import AgentRequestEvent
from diurna_workflows import AgentTask, Definition, WorkflowManager, map_reduce, parallel, sequential
from support.workflow_fakes import BelievingLog, ScriptedBus


def echo_bus(*failing: str) -> ScriptedBus:
    """Answers every request with what it was given, but those whose payload says a failing name."""

    async def echo(request: AgentRequestEvent) -> Any:
        if request.payload["say"] in failing:
            return ("error", f"{request.payload['say']} went wrong")
        return {"said": request.payload["say"]}

    return ScriptedBus({"echo": echo})


def task(name: str, say: Any = None) -> AgentTask:
    return AgentTask(name, "parrot", "echo", say or (lambda _: {"say": name}))


async def run(definition: Definition, bus: ScriptedBus, **given: Any) -> tuple[dict[str, Any], BelievingLog]:
    log = BelievingLog(bus)
    manager = WorkflowManager(bus, log, definitions=[definition], patience_seconds=0)
    assert definition.workflow_type in manager.types()
    return await manager.run(definition.workflow_type, "w-1", given), log


def said(bus: ScriptedBus) -> list[Any]:
    return [request.payload["say"] for request in bus.asked]


async def test_one_after_the_other_each_knows_what_came_before() -> None:
    bus = echo_bus()
    second = task("second", lambda known: {"say": f"after {known['first']['said']} of {known['input']['name']}"})
    final, log = await run(sequential("chain", [task("first"), second]), bus, name="ada")
    assert said(bus) == ["first", "after first of ada"]
    assert (final["status"], final["results"]["second"]) == ("completed", {"said": "after first of ada"})
    assert log.names()[-1] == "CompleteWorkflow"


async def test_a_chain_ends_where_a_task_is_not_done() -> None:
    bus = echo_bus("b")
    final, log = await run(sequential("chain", [task("a"), task("b"), task("c")]), bus)
    assert said(bus) == ["a", "b"]
    assert (final["status"], final["success"]) == ("failed", False)
    assert "b went wrong" in final["reason"]
    assert log.names()[-1] == "FailWorkflow"


async def test_side_by_side_all_are_at_work_at_once() -> None:
    meeting = asyncio.Barrier(2)

    async def together(_: AgentRequestEvent) -> Any:
        await asyncio.wait_for(meeting.wait(), 5)
        return {}

    final, _ = await run(parallel("both", [task("a"), task("b")]), ScriptedBus({"echo": together}))
    assert final["status"] == "completed"


@pytest.mark.parametrize(
    ("enough", "failing", "status", "success"),
    [
        ("all", ["a"], "failed", False),
        ("any", ["a"], "partial", True),
        ("any", ["a", "b"], "failed", False),
    ],
)
async def test_what_is_enough_decides_what_a_failure_means(
    enough: Any, failing: list[str], status: str, success: bool
) -> None:
    bus = echo_bus(*failing)
    final, _ = await run(parallel("both", [task("a"), task("b")], enough=enough), bus)
    assert sorted(said(bus)) == ["a", "b"]
    assert (final["status"], final["success"]) == (status, success)


def mapped(**options: Any) -> Definition:
    each = task("word", lambda known: {"say": known["item"]})
    total = task("total", lambda known: {"say": [one and one["said"] for one in known["word"]]})
    return map_reduce("words", each, over=lambda known: known["input"]["words"], reduce=total, **options)


async def test_one_for_each_and_then_one_for_all() -> None:
    bus = echo_bus()
    final, _ = await run(mapped(), bus, words=["a", "b", "c"])
    assert sorted(said(bus)[:3]) == ["a", "b", "c"]
    assert final["results"]["total"] == {"said": ["a", "b", "c"]}
    assert final["results"]["word"] == [{"said": word} for word in "abc"]


async def test_of_many_one_may_fail_where_some_are_enough() -> None:
    final, _ = await run(mapped(enough="any"), echo_bus("b"), words=["a", "b", "c"])
    assert (final["status"], final["results"]["total"]) == ("partial", {"said": ["a", None, "c"]})
    bus = echo_bus("b")
    final, _ = await run(mapped(), bus, words=["a", "b", "c"])
    assert (final["status"], len(bus.asked)) == ("failed", 3)


async def test_none_and_too_many_items() -> None:
    final, _ = await run(mapped(), echo_bus(), words=[])
    assert final["results"]["total"] == {"said": []}
    bus = echo_bus()
    final, _ = await run(mapped(), bus, words=["x"] * 101)
    assert (final["status"], bus.asked) == ("failed", [])
    assert "at most 100" in final["reason"]


@pytest.mark.parametrize(
    ("tasks", "words"),
    [([], "at least one"), (["a", "a"], "name of its own"), (["finish"], "the workflow's own"), (["a b\n"], "name")],
)
def test_what_cannot_be_a_workflow_is_refused_when_it_is_made(tasks: list[str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        sequential("chain", [task(name) for name in tasks])
    with pytest.raises(InvalidInput, match="workflow_type"):
        sequential("no type\n", [task("a")])
