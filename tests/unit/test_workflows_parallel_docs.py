"""Parallel documentation by itself: every end it can come to, and that one document's failure stops no other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from diurna_agents.documentation.site import draft_folder
from diurna_schemas.errors import InvalidInput
from diurna_schemas.shapes import AgentRequestEvent
from diurna_schemas.workflows import CompleteWorkflow, FailWorkflow, UpdateWorkflowStep
from diurna_workflows import WorkflowManager, build_parallel_docs
from diurna_workflows.state import initial_state
from support.workflow_fakes import HEAD, BelievingLog, ScriptedBus

INPUT: dict[str, Any] = {"repo": "/work/service.git", "head": "main", "site": "/srv/docs"}
NOTHING = ("rejected", "deployment_guide: none is there", "nothing_to_document")
BROKEN = ("error", "ToolFailed: the reader of the API: exit code 1")


def bus_with(**by_kind: Any) -> ScriptedBus:
    """Answers each kind as told, and merges what it is given."""

    async def generate(request: AgentRequestEvent) -> Any:
        kind = request.payload["kind"]
        made = {"kind": kind, "files": [{"path": "index.md"}], "files_total": 2, "head": HEAD, "counts": {}}
        return by_kind.get(kind, made)

    async def merge(request: AgentRequestEvent) -> Any:
        parts = {part["name"]: ["index.md", "more.md"] for part in request.payload["parts"]}
        is_published = request.payload["publish"]
        index = "/srv/docs/index.md" if is_published else None
        return {"published": is_published, "index": index, "parts": parts, "pages_total": 2 * len(parts)}

    return ScriptedBus({"generate_docs": generate, "merge_docs": merge})


async def run(bus: ScriptedBus, **given: Any) -> tuple[dict[str, Any], BelievingLog]:
    log = BelievingLog(bus)
    final = await WorkflowManager(bus, log, patience_seconds=0).run("parallel_docs", "w-1", {**INPUT, **given})
    return final, log


async def test_three_documents_become_one_site() -> None:
    bus = bus_with()
    final, log = await run(bus)
    assert (final["status"], final["success"], final["index"]) == ("documented", True, "/srv/docs/index.md")
    assert {name: one["status"] for name, one in final["documents"].items()} == dict.fromkeys(
        ("api_docs", "user_guide", "deployment_guide"), "made"
    )
    assert bus.types() == [*["generate_docs"] * 3, "merge_docs"]
    drafts = {request.payload["kind"]: request.payload["output"] for request in bus.asked[:3]}
    assert drafts["api_reference"] == draft_folder("/srv/docs", "w-1", "api_docs")
    merged = bus.asked[3].payload
    assert (merged["build"], merged["title"], merged["publish"]) == ("w-1", "Documentation of service", True)
    assert [part["name"] for part in merged["parts"]] == ["api_docs", "user_guide", "deployment_guide"]
    assert log.names()[-1] == "CompleteWorkflow"
    assert json.loads(log.of(CompleteWorkflow)[0].result)["status"] == "documented"
    assert [step.step for step in log.of(UpdateWorkflowStep)][-1] == "merge"


async def test_the_documents_are_made_side_by_side() -> None:
    meeting = asyncio.Barrier(3)
    bus = bus_with()
    generate = bus.answers["generate_docs"]

    async def together(request: AgentRequestEvent) -> Any:
        await asyncio.wait_for(meeting.wait(), 5)  # nobody is let through before all three are at it
        return await generate(request)

    bus.answers["generate_docs"] = together
    assert (await run(bus))[0]["status"] == "documented"


async def test_what_the_repository_holds_nothing_for_is_absent_and_no_failure() -> None:
    bus = bus_with(deployment_guide=NOTHING)
    final, _ = await run(bus)
    assert (final["status"], final["success"], final["errors"]) == ("documented", True, [])
    assert final["documents"]["deployment_guide"]["status"] == "absent"
    assert "nothing to make deployment_guide from" in final["reason"]
    assert [one["name"] for one in bus.asked[-1].payload["missing"]] == ["deployment_guide"]


async def test_a_document_that_fails_is_told_of_and_the_others_are_published() -> None:
    bus = bus_with(api_reference=BROKEN)
    final, log = await run(bus)
    assert (final["status"], final["success"]) == ("partial", False)
    assert "ToolFailed" in final["reason"]
    assert [part["name"] for part in bus.asked[-1].payload["parts"]] == ["user_guide", "deployment_guide"]
    assert "ToolFailed" in bus.asked[-1].payload["missing"][0]["reason"]
    assert log.names()[-1] == "CompleteWorkflow"


async def test_under_the_policy_refuse_nothing_is_published_where_one_fails() -> None:
    bus = bus_with(user_guide=("timeout", "no answer within 660 s"))
    final, log = await run(bus, on_failure="refuse")
    assert (final["status"], final["index"], final["pages_total"]) == ("refused", None, 4)
    assert bus.asked[-1].payload["publish"] is False
    assert log.names()[-1] == "CompleteWorkflow"


@pytest.mark.parametrize(("answer", "words"), [(NOTHING, "holds nothing"), (BROKEN, "ToolFailed")])
async def test_without_any_document_there_is_no_site(answer: Any, words: str) -> None:
    bus = bus_with(api_reference=answer, user_guide=answer, deployment_guide=answer)
    final, log = await run(bus)
    assert (final["status"], final["success"]) == ("failed", False)
    assert words in final["reason"]
    assert bus.asked[-1].payload["publish"] is False
    assert log.of(FailWorkflow)[0].error.startswith("failed: ")


async def test_a_site_that_cannot_be_published_fails_it_with_the_agent_s_words() -> None:
    bus = bus_with()
    bus.answers["merge_docs"] = ("rejected", "site: '/srv/docs' has an index.md that was not made here", "site_taken")
    final, log = await run(bus)
    assert final["status"] == "failed"
    assert "not made here" in final["reason"]
    assert log.names()[-1] == "FailWorkflow"


async def test_a_merge_without_an_answer_is_told_as_unknown() -> None:
    bus = bus_with()
    bus.answers["merge_docs"] = ("timeout", "no answer within 120 s")
    final, _ = await run(bus)
    assert final["status"] == "failed"
    assert final["reason"].endswith("whether the site was changed is unknown")


async def test_only_the_documents_that_are_wanted_are_made() -> None:
    bus = bus_with()
    final, _ = await run(bus, documents=["user_guide"])
    assert list(final["documents"]) == ["user_guide"]
    assert [request.payload.get("kind") for request in bus.asked] == ["user_guide", None]


async def test_the_graph_runs_by_itself_with_the_subtasks_it_is_given() -> None:
    state = initial_state("parallel_docs", "test-docs-456", dict(INPUT))
    state["subtasks"] = [{"id": "api_docs", "type": "generate"}, {"id": "user_guide", "type": "generate"}]
    found = await build_parallel_docs(bus_with()).ainvoke(state)
    assert found["final_result"]["status"] == "documented"
    assert set(found["subtask_status"]) == {"api_docs", "user_guide", "merge"}
    assert found["partial_results"]["api_docs"]["status"] == "made"
    assert found["agent_status"] == {"documentation": "success"}
    state["subtasks"] = [{"id": "poetry"}]
    failed = await build_parallel_docs(bus_with()).ainvoke(state)
    assert "poetry" in failed["final_result"]["reason"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"site": "relative/dir"}, "site"),
        ({"documents": ["poetry"]}, "documents"),
        ({"documents": []}, "documents"),
        ({"documents": ["user_guide", "user_guide"]}, "once"),
        ({"on_failure": "ignore"}, "on_failure"),
        ({"deploy_to": "/srv/app"}, "deploy_to: no such field"),
        ({"repo": "--upload-pack=x"}, "repo"),
    ],
)
async def test_bad_input_names_the_field_and_nothing_is_written(given: dict[str, Any], words: str) -> None:
    bus = bus_with()
    log = BelievingLog(bus)
    with pytest.raises(InvalidInput, match=words):
        await WorkflowManager(bus, log).run("parallel_docs", "w-1", {**INPUT, **given})
    assert (log.commands, bus.asked) == ([], [])


async def test_run_again_after_a_crash_it_asks_under_the_same_ids() -> None:
    first, second = bus_with(), bus_with()
    await run(first)
    await run(second)
    assert {request.request_id for request in first.asked} == {request.request_id for request in second.asked}
    assert len({request.request_id for request in first.asked}) == 4
