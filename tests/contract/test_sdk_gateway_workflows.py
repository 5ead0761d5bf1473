"""What the HTTP routes about workflows promise: versions as entity tags, keys honoured, problems naming the field."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from diurna.testing import Team, team
from diurna_schemas.ids import Position

BIG = "x" * (256 * 1024)


@pytest.fixture(scope="module")
async def memory() -> AsyncIterator[Team]:
    async with team() as found:
        yield found


@pytest.fixture(scope="module")
async def api(memory: Team) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(memory.app), base_url="http://team") as client:
        yield client


@pytest.fixture
async def workflow(api: httpx.AsyncClient) -> str:
    body = {"workflow_type": "test", "initial_state": {"a": {"b": 1}}, "participating_agents": ["cicd"]}
    created = await api.post("/workflows", json=body)
    assert created.status_code == 201, created.text
    return f"/workflows/{created.json()['workflow_id']}"


async def post(api: httpx.AsyncClient, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
    answer = await api.post(path, json={} if body is None else body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_a_workflow_is_created_without_anybody_running_it(api: httpx.AsyncClient) -> None:
    body = {"workflow_type": "test", "initial_state": {"a": 1}, "metadata": {"team": "blue"}, "workflow_id": "by-hand"}
    created = await api.post("/workflows", json=body)
    assert (created.status_code, created.headers["location"]) == (201, "/workflows/by-hand")
    assert (created.json()["version"], created.headers["etag"]) == (1, '"1"')
    assert Position.parse(created.json()["position"]).topic == "workflows.events"
    shown = await api.get("/workflows/by-hand")
    assert shown.headers["etag"] == '"1"'
    assert (shown.json()["state_data"], shown.json()["metadata"]) == ({"a": 1}, {"team": "blue"})
    again = await api.post("/workflows", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "workflow_exists")
    for number in range(8):  # some of them share a partition with others
        other = f"by-hand-{number}"
        await post(api, "/workflows", {**body, "workflow_id": other}, 201, **{"Idempotency-Key": "one-key"})
        assert (await api.get(f"/workflows/{other}")).status_code == 200, "it was told so, and is not there"


async def test_an_id_may_hold_what_means_something_in_a_path(api: httpx.AsyncClient) -> None:
    for workflow_id in ("pr%2F12", "a?b#c", "%"):
        body = {"workflow_type": "test", "initial_state": {"id": workflow_id}, "workflow_id": workflow_id}
        created = await api.post("/workflows", json=body)
        where = created.headers["location"]
        assert (await api.get(where)).json()["state_data"] == {"id": workflow_id}
        assert (await post(api, f"{where}/pause"))["workflow_id"] == workflow_id
    await post(api, f"{where}/resume")
    for approval_id in ("pr/12", "pr/12/approve", "pr%2F12"):
        await post(api, f"{where}/approvals", {"question": "Well?", "approval_id": approval_id}, 201)
        decided = await post(api, f"/approvals/{quote(approval_id, safe='')}/approve")
        assert decided["approval_id"] == approval_id
    for given in ({"initial_state": {}}, {"input": {}}):
        refused = await post(api, "/workflows", {"workflow_type": "test", "workflow_id": "pr/12", **given}, 422)
        assert refused["errors"][0]["field"] == "workflow_id"


async def test_a_lost_race_is_412_and_names_the_current_version(api: httpx.AsyncClient, workflow: str) -> None:
    won = await api.patch(f"{workflow}/state", json={"updates": {"by": "first"}}, headers={"If-Match": '"1"'})
    assert (won.status_code, won.json()["version"], won.headers["etag"]) == (200, 2, '"2"')
    lost = await api.patch(f"{workflow}/state", json={"updates": {"by": "second"}}, headers={"If-Match": '"1"'})
    assert (lost.status_code, lost.headers["etag"]) == (412, '"2"')
    assert lost.headers["content-type"] == "application/problem+json"
    assert (lost.json()["code"], lost.json()["current_version"]) == ("version_conflict", 2)
    assert "at version 2, not 1" in lost.json()["detail"]
    body = {"updates": {"by": "third"}, "expected_version": 1}
    assert (await api.patch(f"{workflow}/state", json=body)).status_code == 412, "the body may say it too"
    for header in ("2", '"2"', "*"):
        answer = await api.patch(f"{workflow}/state", json={"updates": {}}, headers={"If-Match": header})
        assert answer.status_code == (200 if header in {"2", "*"} else 412)
    assert (await api.get(workflow)).json()["state_data"] == {"a": {"b": 1}, "by": "first"}


async def test_a_merge_patch_may_be_the_whole_body(api: httpx.AsyncClient, workflow: str) -> None:
    headers = {"content-type": "application/merge-patch+json; charset=utf-8"}
    answer = await api.patch(f"{workflow}/state", content='{"a":{"c":2,"b":null}}', headers=headers)
    assert answer.status_code == 200, answer.text
    assert (await api.get(workflow)).json()["state_data"] == {"a": {"c": 2}}


async def test_steps_checkpoints_and_restores_over_http(api: httpx.AsyncClient, workflow: str) -> None:
    assert (await post(api, f"{workflow}/steps", {"step": "review", "agent_id": "cicd"}))["version"] == 2
    body = {"step_name": "review", "agent_id": "cicd", "data": {"a": {"progress": 50}}}
    taken = await post(api, f"{workflow}/checkpoints", body, 201)
    assert taken["version"] == 2
    await api.patch(f"{workflow}/state", json={"updates": {"a": None}})
    stale = await api.post(
        f"{workflow}/restore", json={"checkpoint_id": taken["checkpoint_id"]}, headers={"If-Match": '"2"'}
    )
    assert stale.status_code == 412
    restored = await post(api, f"{workflow}/restore", {"checkpoint_id": taken["checkpoint_id"]})
    assert (restored["version"], restored["data"]) == (4, {"a": {"progress": 50}})
    assert (await api.get(workflow)).json()["state_data"] == {"a": {"b": 1, "progress": 50}}
    assert (await api.get(workflow, params={"version": 3})).json()["state_data"] == {}
    (listed,) = (await api.get(f"{workflow}/checkpoints")).json()
    assert listed["checkpoint_id"] == taken["checkpoint_id"]
    shown = (await api.get(f"{workflow}/checkpoints/{taken['checkpoint_id']}")).json()
    assert shown["state_data"] == {"a": {"b": 1}}
    history = (await api.get(f"{workflow}/history")).json()
    assert [one["type"] for one in history if one["type"] != "workflows.command_refused"] == [
        "workflow.created", "workflow.step_changed", "workflow.checkpoint", "workflow.state_updated",
        "workflow.restored",
    ]  # fmt: skip


async def test_a_fork_over_http(api: httpx.AsyncClient, workflow: str) -> None:
    taken = await post(api, f"{workflow}/checkpoints", {"step_name": "plan"}, 201)
    await post(api, f"{workflow}/complete", {"result": {"ok": True}, "updates": {"last": 1}})
    body = {"checkpoint_id": taken["checkpoint_id"], "set": {"a": {"b": 2}}, "workflow_id": f"fork-{uuid.uuid4()}"}
    forked = await api.post(f"{workflow}/fork", json=body)
    assert forked.status_code == 201, forked.text
    assert forked.headers["location"] == f"/workflows/{body['workflow_id']}"
    assert forked.json()["forked_from"]["checkpoint_id"] == taken["checkpoint_id"]
    found = (await api.get(forked.headers["location"])).json()
    assert (found["state_data"], found["version"], found["status"]) == ({"a": {"b": 2}}, 1, "running")
    assert found["metadata"]["forked_from"] == forked.json()["forked_from"]
    assert (await api.get(workflow)).json()["status"] == "completed"


async def test_the_same_key_gives_the_first_answer_and_writes_nothing(
    api: httpx.AsyncClient, memory: Team, workflow: str
) -> None:
    def written() -> int:
        ours = [event for event in memory.events("workflows.events") if event["workflow_id"] == workflow[11:]]
        return len([event for event in ours if event["type"] not in {"workflows.command_repeated"}])

    taken = await post(api, f"{workflow}/checkpoints", {"step_name": "plan", "checkpoint_id": "once"}, 201)
    for path, body, status in (
        ("steps", {"step": "on"}, 200),
        ("checkpoints", {"step_name": "here"}, 201),
        ("restore", {"checkpoint_id": taken["checkpoint_id"]}, 200),
        ("fork", {"checkpoint_id": taken["checkpoint_id"]}, 201),
        ("approvals", {"question": "Ship it?"}, 201),
        ("pause", {"paused_by": "ada"}, 200),
        ("resume", {}, 200),
        ("complete", {"result": 1}, 200),
    ):
        key = {"Idempotency-Key": f"key-{path}-{workflow}"}
        first = await post(api, f"{workflow}/{path}", body, status, **key)
        count = written()
        assert await post(api, f"{workflow}/{path}", body, status, **key) == first
        assert written() == count
    body = {"workflow_type": "test", "initial_state": {}}
    key = {"Idempotency-Key": f"create-{workflow}"}
    assert await post(api, "/workflows", body, 201, **key) == await post(api, "/workflows", body, 201, **key)


async def test_a_pause_a_resume_and_the_ends(api: httpx.AsyncClient, workflow: str) -> None:
    assert (await post(api, f"{workflow}/pause", {"paused_by": "ada", "reason": "lunch"}))["version"] == 2
    refused = await post(api, f"{workflow}/steps", {"step": "on"}, 409)
    assert (refused["code"], refused["status"]) == ("workflow_paused", 409)
    assert (await api.get("/workflows", params={"status": "paused"})).json()
    await post(api, f"{workflow}/resume")
    await post(api, f"{workflow}/fail", {"error": "out of luck", "result": [1]})
    found = (await api.get(workflow)).json()
    assert (found["status"], found["error_message"], found["result"]) == ("failed", "out of luck", [1])
    assert (await post(api, f"{workflow}/cancel", None, 409))["code"] == "workflow_over"


async def test_an_approval_of_the_same_id_is_decided_where_it_waits(api: httpx.AsyncClient, workflow: str) -> None:
    asked = {"question": "Ship it?", "approval_id": f"same-{workflow[11:]}"}
    await post(api, f"{workflow}/approvals", asked, 201)
    await post(api, f"/approvals/{asked['approval_id']}/approve")
    another = await post(api, "/workflows", {"workflow_type": "test", "initial_state": {}}, 201)
    await post(api, f"/workflows/{another['workflow_id']}/approvals", asked, 201)
    decided = await post(api, f"/approvals/{asked['approval_id']}/approve")
    assert decided["workflow_id"] == another["workflow_id"]


async def test_a_question_ends_with_its_workflow(api: httpx.AsyncClient, workflow: str) -> None:
    await post(api, f"{workflow}/approvals", {"question": "Ship it?"}, 201)
    await post(api, f"{workflow}/cancel")
    (found,) = (await api.get("/approvals", params={"workflow_id": workflow[11:]})).json()
    assert found["status"] == "closed"
    assert (await api.get("/approvals", params={"workflow_id": workflow[11:], "status": "pending"})).json() == []


async def test_a_cancelled_workflow_says_at_which_version(api: httpx.AsyncClient, workflow: str) -> None:
    cancelled = await api.post(f"{workflow}/cancel", json={"cancelled_by": "ada"})
    assert (cancelled.json()["version"], cancelled.headers["etag"]) == (2, '"2"')


async def test_approvals_are_for_those_with_the_role(api: httpx.AsyncClient, workflow: str) -> None:
    asked = await post(api, f"{workflow}/approvals", {"question": "Ship it?", "roles": ["release"]}, 201)
    path = f"/approvals/{asked['approval_id']}"
    (listed,) = (await api.get("/approvals", params={"workflow_id": workflow[11:]})).json()
    assert (listed["status"], listed["roles"]) == ("pending", ["release"])
    refused = await post(api, f"{path}/approve", {"decided_by": "ada"}, 409)
    assert (refused["code"], "needs one of the roles release" in refused["detail"]) == ("role_missing", True)
    decided = await post(api, f"{path}/reject", {"decided_by": "ada", "roles": ["release"], "reason": "not yet"})
    assert decided["is_approved"] is False
    assert (await post(api, f"{path}/approve", {"roles": ["release"]}, 409))["code"] == "approval_settled"


async def test_an_approval_expires(api: httpx.AsyncClient, memory: Team, workflow: str) -> None:
    from support.teams import eventually

    body = {"question": "Now?", "expires_after_seconds": 60, "approval_id": f"soon-{uuid.uuid4()}"}
    await post(api, f"{workflow}/approvals", body, 201)
    memory.clock.advance(61)
    await eventually(lambda: memory.reads.tables.approvals.group(body["approval_id"])[0].status == "expired")
    assert (await post(api, f"/approvals/{body['approval_id']}/approve", {}, 409))["code"] == "approval_settled"


async def test_old_workflows_are_forgotten(api: httpx.AsyncClient, workflow: str) -> None:
    await post(api, f"{workflow}/complete")
    assert (await post(api, "/workflow-cleanup", {"days": 400})) == {"removed": 0, "may_be_more": False}
    assert (await post(api, "/workflow-cleanup", {"days": 0}))["removed"] >= 1
    assert (await api.get(workflow)).status_code == 404
    assert (await api.get(f"{workflow}/history")).json()[-1]["type"] == "workflow.removed"


BAD: list[tuple[str, str, Any, dict[str, str], int, str]] = [
    ("PATCH", "state", {"updates": [1]}, {}, 422, "updates"),
    ("PATCH", "state", {"updates": "text"}, {}, 422, "updates"),
    ("PATCH", "state", {}, {}, 422, "updates"),
    ("PATCH", "state", [1], {}, 422, "body"),
    ("PATCH", "state", {"updates": {}, "colour": 1}, {}, 422, "colour"),
    ("PATCH", "state", {"updates": {}, "agent_id": "two words"}, {}, 422, "agent_id"),
    ("PATCH", "state", {"updates": {}, "expected_version": 0}, {}, 422, "expected_version"),
    ("PATCH", "state", {"updates": {}, "expected_version": 1}, {"If-Match": '"2"'}, 422, "expected_version"),
    ("PATCH", "state", {"updates": {}}, {"If-Match": "newest"}, 422, "If-Match"),
    ("PATCH", "state", {"updates": {}}, {"If-Match": '"1", "2"'}, 422, "If-Match"),
    ("PATCH", "state", {"updates": {}}, {"If-Match": '"0"'}, 422, "If-Match"),
    ("PATCH", "state", {"updates": {"x": BIG}}, {}, 413, "updates"),
    ("PATCH", "state", {"updates": {"x": "y" * 262_130}}, {}, 413, "state"),
    ("PATCH", "state", {"updates": {"x": BIG * 4}}, {}, 413, "body"),
    ("POST", "steps", {"step": "two words"}, {}, 422, "step"),
    ("POST", "steps", {}, {}, 422, "step"),
    ("POST", "checkpoints", {"step_name": "s", "data": [1]}, {}, 422, "data"),
    ("POST", "checkpoints", {"step_name": "s", "checkpoint_id": "a/b"}, {}, 422, "checkpoint_id"),
    ("POST", "restore", {}, {}, 422, "checkpoint_id"),
    ("POST", "fork", {"checkpoint_id": "c", "set": [1]}, {}, 422, "set"),
    ("POST", "approvals", {"question": "?", "roles": ["two words"]}, {}, 422, "roles.0"),
    ("POST", "approvals", {"question": "?", "expires_after_seconds": 0}, {}, 422, "expires_after_seconds"),
    ("POST", "approvals", {"question": "?", "expires_after_seconds": 1e30}, {}, 422, "expires_after_seconds"),
    ("PATCH", "state", {"updates": {}, "expected_version": 10**18}, {}, 422, "expected_version"),
    ("PATCH", "state", {"updates": {"n": [2**64]}}, {}, 422, "body"),
    ("PATCH", "state", {"updates": {"n": -(10**4_000)}}, {}, 422, "body"),
    ("POST", "checkpoints", {"step_name": "s", "checkpoint_id": ".."}, {}, 422, "checkpoint_id"),
    ("POST", "complete", {"result": BIG}, {}, 413, "result"),
    ("POST", "complete", {"result": BIG[:200_000], "updates": {"a": BIG[:100_000]}}, {}, 413, "result and updates"),
    ("POST", "fail", {}, {}, 422, "error"),
    ("POST", "pause", {"paused_by": ""}, {}, 422, "paused_by"),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status", "field"), BAD)
async def test_bad_input_is_a_problem_naming_the_field_and_the_workflow_is_untouched(
    api: httpx.AsyncClient, workflow: str, method: str, path: str, body: Any, headers: dict[str, str], status: int,
    field: str,
) -> None:  # fmt: skip
    before = (await api.get(workflow)).json()
    answer = await api.request(
        method, f"{workflow}/{path}", content=json.dumps(body), headers={"content-type": "application/json", **headers}
    )
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == field
    assert (await api.get(workflow)).json() == before


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"workflow_type": "x", "initial_state": [1]}, 422, "initial_state"),
        ({"workflow_type": "x", "initial_state": {}, "input": {}}, 422, "input"),
        ({"workflow_type": "two words", "initial_state": {}}, 422, "workflow_type"),
        ({"workflow_type": "x", "initial_state": {"x": BIG}}, 413, "initial_state"),
        ({"workflow_type": "x", "initial_state": {}, "workflow_id": "a/b"}, 422, "workflow_id"),
        ({"workflow_type": "x", "initial_state": {}, "workflow_id": "."}, 422, "workflow_id"),
        ({"workflow_type": "x", "metadata": {"x": "y" * 20_000}}, 413, "metadata"),
    ],
)
async def test_what_cannot_be_created_is_a_problem_naming_the_field(
    api: httpx.AsyncClient, body: Any, status: int, field: str
) -> None:
    answer = await api.post("/workflows", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (status, field), answer.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "/checkpoints", None),
        ("GET", "/checkpoints/c", None),
        ("PATCH", "/state", {"updates": {}}),
        ("POST", "/steps", {"step": "on"}),
        ("POST", "/checkpoints", {"step_name": "here"}),
        ("POST", "/restore", {"checkpoint_id": "c"}),
        ("POST", "/fork", {"checkpoint_id": "c"}),
        ("POST", "/pause", {}),
        ("POST", "/resume", {}),
        ("POST", "/cancel", {}),
        ("POST", "/complete", {}),
        ("POST", "/fail", {"error": "x"}),
        ("POST", "/approvals", {"question": "?"}),
    ],
)
async def test_an_unknown_workflow_is_404(api: httpx.AsyncClient, method: str, path: str, body: Any) -> None:
    answer = await api.request(method, f"/workflows/nothing{path}", json=body)
    assert (answer.status_code, answer.json()["code"].endswith("not_found")) == (404, True), answer.text


async def test_an_unknown_checkpoint_is_404_and_changes_nothing(api: httpx.AsyncClient, workflow: str) -> None:
    for path in ("restore", "fork"):
        found = await post(api, f"{workflow}/{path}", {"checkpoint_id": "never-taken"}, 404)
        assert "never-taken" in found["detail"]
    assert (await api.get(workflow)).json()["version"] == 1


async def test_the_routes_stand_in_the_openapi_with_their_bodies(api: httpx.AsyncClient) -> None:
    paths = (await api.get("/openapi.json")).json()["paths"]
    parameters = paths["/workflows/{workflow_id}/state"]["patch"]["parameters"]
    assert {"If-Match", "Idempotency-Key"} <= {one["name"] for one in parameters}
    body = paths["/workflows/{workflow_id}/fork"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"checkpoint_id", "set", "workflow_id"}
    body = paths["/workflows"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    started, created = (set(one["properties"]) for one in body["anyOf"])
    assert ("input" in started, "initial_state" in created) == (True, True)
