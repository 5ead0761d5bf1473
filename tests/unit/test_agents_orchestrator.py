"""Plans, templates, policies, ranking: what the orchestrator decides before and after it asks anybody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diurna import AgentCapabilityQuery, AgentRequestType
from diurna_agents.errors import NeedsModel
from diurna_agents.orchestrator.aggregation import Part, aggregated
from diurna_agents.orchestrator.decomposition import decompose_task
from diurna_agents.orchestrator.plans import Plan, filled, references
from diurna_agents.orchestrator.registry_answers import confidence
from diurna_agents.orchestrator.routing import ranked
from diurna_agents.orchestrator.templates import TEMPLATES, kind_of, planned
from diurna_agents.surroundings import Surroundings
from diurna_agents.team import MEMBERS, handlers_of
from diurna_agents.workspace import report_nothing
from diurna_schemas.errors import InvalidInput
from diurna_schemas.shapes import AgentInfo, CapabilityMatch
from support.fake_model import scripted

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD: dict[str, dict[str, Any]] = {
    "pull_request": {"repo": "/r", "base": "main", "head": "x", "deploy_to": "/srv/app"},
    "refactoring": {"repo": "/r"},
    "feature": {"repo": "/r", "task": "Add it"},
    "documentation": {"repo": "/r", "output": "/site"},
    "release": {"repo": "/r", "output": "/dist", "deploy_to": "/srv/app"},
    "health": {"services_file": "/etc/services.toml", "restart": "web"},
}


def step(name: str, *waits: str, **payload: Any) -> dict[str, Any]:
    return {"id": name, "request_type": "get_status", "depends_on": list(waits), "payload": payload}


# --- who owns what ----------------------------------------------------------------------------------------------------


def test_every_request_type_has_an_owner_that_does_it_and_says_so():
    from diurna import EventBus, RegistryClient

    surroundings = Surroundings(bus=EventBus(), registry=RegistryClient("http://nowhere"))
    owners = {
        request_type: member.agent_id
        for member in MEMBERS.values()
        for request_type in handlers_of(member)(surroundings)
        if request_type != "execute_task" or member.agent_id == "orchestrator"
    }
    assert [kind for kind in AgentRequestType if kind not in owners] == []
    for kind in AgentRequestType:
        capabilities = {name for name, _, _ in MEMBERS[owners[kind]].capabilities}
        assert kind in capabilities or kind == "get_status", f"{owners[kind]} does {kind} and does not say so"


# --- plans ------------------------------------------------------------------------------------------------------------


def test_a_plan_is_done_in_waves_and_what_it_takes_results_from_it_waits_for():
    plan = Plan.of([step("a"), step("b"), step("c", "a", x={"$result": "b.y"}), step("d", "c")])
    assert plan.waves() == [["a", "b"], ["c"], ["d"]]
    assert plan.subtasks[2].as_json()["depends_on"] == ["a", "b"]


@pytest.mark.parametrize(
    ("subtasks", "said"),
    [
        ([], "subtasks"),
        ([step("a"), step("a")], "subtasks.1.id: another subtask has this id, got 'a'"),
        ([step("a", "b")], "subtasks.0.depends_on: there is no such subtask, got 'b'"),
        ([step("a", x={"$result": "b.c"})], "there is no such subtask, got 'b'"),
        ([step("a", "b"), step("b", "a")], "they wait for one another"),
        ([{**step("a"), "request_type": "no such; type"}], "subtasks.0.request_type"),
        ([{**step("a"), "extra": 1}], "subtasks.0.extra: no such field"),
        ("a", "subtasks"),
        ([step(f"s{n}") for n in range(51)], "subtasks"),
    ],
)
def test_a_plan_that_cannot_be_done_is_refused_by_name(subtasks: object, said: str):
    with pytest.raises(InvalidInput) as refused:
        Plan.of(subtasks)
    assert said in str(refused.value)


def test_results_are_filled_into_payloads_and_what_is_missing_is_named():
    results = {"build": {"files": [{"path": "/a"}, {"path": "/b"}], "none": None}}
    payload = {"artifact": {"$result": "build.files.1.path"}, "deep": [{"x": {"$result": "build.files"}}], "y": 1}
    assert filled(payload, results) == {"artifact": "/b", "deep": [{"x": results["build"]["files"]}], "y": 1}
    assert list(references(payload)) == ["build.files.1.path", "build.files"]
    for path in ("build.files.2.path", "build.none", "other", "build.files.x"):
        with pytest.raises(InvalidInput, match="no result has this part, or it is empty"):
            filled({"$result": path}, results)


@given(
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner),
        max_leaves=8,
    )
)
def test_a_payload_without_references_stays_as_it_is(payload: Any):
    assert filled(payload, {}) == payload


# --- templates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_template_makes_a_plan_of_request_types_that_have_owners(kind: str):
    plan = planned(kind, GOOD[kind])
    assert {subtask.request_type for subtask in plan.subtasks} <= set(AgentRequestType)
    assert plan.waves()
    assert kind_of(TEMPLATES[kind].kind.replace("_", " ")) == kind


def test_a_parameter_that_is_wrong_or_missing_is_named():
    with pytest.raises(InvalidInput, match=r"parameters\.base: pull_request: field required"):
        planned("pull_request", {"repo": "/r", "head": "x"})
    with pytest.raises(InvalidInput, match=r"parameters\.brench: pull_request: no such field"):
        planned("pull_request", {**GOOD["pull_request"], "brench": "x"})
    with pytest.raises(InvalidInput, match="kind: known kinds are pull_request"):
        planned("poem", {})


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Please review this pull request.", "pull_request"),
        ("Refactor and tidy the code", "refactoring"),
        ("write the docs: guide and reference", "documentation"),
        ("is the service healthy?", "health"),
        ("make coffee", None),
        ("", None),
    ],
)
def test_the_words_of_a_task_tell_its_kind_or_do_not(words: str, kind: str | None):
    assert kind_of(words) == kind


async def decompose(payload: dict[str, Any], **more: Any) -> dict[str, Any]:
    return await decompose_task(payload, workspace=None, report=report_nothing, **more)  # type: ignore[arg-type]


async def test_without_a_model_a_template_plans_and_what_none_fits_is_said():
    found = await decompose({"task": "Review my pull request", "parameters": GOOD["pull_request"]})
    assert (found["kind"], found["planner"]) == ("pull_request", "template")
    assert found["waves"] == [["build", "review", "test"], ["deploy"]]
    assert "tell that its kind is pull_request" in found["notes"][0]
    with pytest.raises(NeedsModel, match=r"a task that no template fits needs a language model .* name its kind"):
        await decompose({"task": "Make coffee"})
    with pytest.raises(NeedsModel, match="planning without a template"):
        await decompose({"task": "Make coffee", "planner": "model"})
    with pytest.raises(InvalidInput, match="task: the task in words is needed, or its kind"):
        await decompose({})


async def test_a_model_plans_is_corrected_once_and_a_template_stands_in_for_it():
    good = '```json\n{"subtasks": [{"id": "a", "request_type": "get_status"}]}\n```'
    model, chat = scripted(["I think we should", good])
    found = await decompose({"task": "Make coffee"}, model=model)
    assert (found["planner"], found["kind"], found["waves"]) == ("scripted", None, [["a"]])
    assert "Your last answer was wrong: plan: it is no JSON" in chat.last_heard
    model, _ = scripted(["no", '{"subtasks": []}'])
    found = await decompose({"task": "Review the pull request", "parameters": GOOD["pull_request"]}, model=model)
    assert found["planner"] == "template"
    assert "the model made no plan: subtasks" in found["notes"][0]


# --- aggregation ------------------------------------------------------------------------------------------------------


def part(name: str, status: str = "success", result: Any = None) -> Part:
    return Part(id=name, status=status, result=result, error=None if status == "success" else "it broke")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "good", "bad", "outcome"),
    [
        ("all", 3, 0, "success"),
        ("all", 2, 1, "failed"),
        ("majority", 3, 0, "success"),
        ("majority", 2, 1, "partial"),
        ("majority", 2, 2, "failed"),
        ("best_effort", 1, 5, "partial"),
        ("best_effort", 0, 2, "failed"),
        ("best_effort", 0, 0, "failed"),
        ("all", 0, 0, "failed"),
    ],
)
def test_a_policy_says_what_is_enough(policy: Any, good: int, bad: int, outcome: str):
    parts = [part(f"g{n}") for n in range(good)] + [part(f"b{n}", "error") for n in range(bad)]
    found = aggregated(policy, parts)
    assert (found["outcome"], len(found["succeeded"]), len(found["failed"])) == (outcome, good, bad)
    assert set(found["errors"].values()) <= {"it broke"}


def test_what_is_missing_or_partial_is_named_and_counts():
    found = aggregated("best_effort", [part("a"), part("b", "partial")], expected=["a", "c"])
    assert (found["outcome"], found["missing"], found["succeeded"]) == ("partial", ["c"], ["a", "b"])
    assert aggregated("all", [part("a")], expected=["a", "c"])["outcome"] == "failed"
    assert aggregated("all", [part("a", "partial")])["outcome"] == "partial"
    again = aggregated("all", [part("a", "timeout"), part("a"), part("a", "error")])
    assert (again["outcome"], again["failed"]) == ("success", [])


def test_votes_are_counted_and_a_tie_decides_nothing():
    def voted(*values: Any) -> dict[str, Any]:
        parts = [part(f"p{at}", result={"diagnosis": {"cause": value}}) for at, value in enumerate(values)]
        return dict(aggregated("best_effort", parts, vote="diagnosis.cause")["decision"])

    clear = voted("disk", "disk", "memory", None)
    assert (clear["value"], clear["votes"], clear["is_majority"], clear["abstained"]) == ("disk", 2, False, ["p3"])
    assert voted("disk", "disk", "memory")["is_majority"]
    tied = voted("disk", "memory")
    assert (tied["value"], tied["is_tied"]) == (None, True)
    assert voted({"a": 1, "b": 2}, {"b": 2, "a": 1})["votes"] == 2
    assert (voted(None)["value"], voted(None)["votes"]) == (None, 0)


@given(
    st.lists(st.sampled_from(("success", "error", "partial", "timeout", "rejected", "skipped"))),
    st.sampled_from(("all", "majority", "best_effort")),
)
def test_every_result_is_named_exactly_once(statuses: list[str], policy: Any):
    parts = [part(f"p{at}", status) for at, status in enumerate(statuses)]
    found = aggregated(policy, parts)
    assert sorted(found["succeeded"] + found["failed"]) == sorted(one.id for one in parts)
    if found["outcome"] == "success":
        assert set(statuses) == {"success"}


# --- the registry -----------------------------------------------------------------------------------------------------


def agent(
    name: str, in_flight: int = 0, *, status: str = "active", silent: float = 1, concurrency: int = 4
) -> AgentInfo:
    instance = {"instance_id": f"{name}:1", "status": status, "in_flight": in_flight, "concurrency": concurrency}
    heard = NOW - timedelta(seconds=silent)
    return AgentInfo(
        agent_id=name, agent_name=name, base_url="", capabilities=[], status=status, metadata={},  # type: ignore[arg-type]
        last_heartbeat=heard, created_at=heard, updated_at=heard, instances=[instance],
    )  # fmt: skip


def test_the_least_loaded_healthy_agent_is_first_and_the_others_are_told_why_not():
    found = ranked(
        [agent("full", 4), agent("busy", 3), agent("idle", 0), agent("also-idle", 0), agent("left", 0),
         agent("stale", status="stale"), agent("silent", silent=61), agent("listed", concurrency=0)],
        NOW,
        excluded=["left"],
    )  # fmt: skip
    assert [one.agent_id for one in found if one.why_not is None] == ["also-idle", "idle", "busy", "full"]
    assert {one.agent_id: one.why_not for one in found if one.why_not} == {
        "left": "excluded",
        "stale": "its status is stale",
        "silent": "not heard from for 61 s",
        "listed": "it is listed and takes no requests from the log",
    }


@pytest.mark.parametrize(
    ("keyword", "expected"),
    [("review_code", 1.0), ("review", 0.9), ("ruff", 0.8), ("a branch", 0.6), ("branch policy", 0.6)],
)
def test_a_match_is_as_sure_as_the_place_it_was_found_in(keyword: str, expected: float):
    match = CapabilityMatch(
        agent_id="code-review", agent_name="x", capability="review_code", base_url="", tags=["git", "ruff"],
        description="Reviews what a branch changes, by a stated policy",
    )  # fmt: skip
    assert confidence(match, AgentCapabilityQuery(capability_keywords=[keyword])) == expected
    both = AgentCapabilityQuery(capability_keywords=[keyword, "review_code"], required_all=True)
    assert confidence(match, both) == expected
