"""Every request type, asked of the agents as `diurna up` runs them: real processes, a real log, real work."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from diurna import AgentRequestEvent, AgentRequestType
from diurna_agents import team as members
from diurna_agents.demo_repository import BASE, HEAD, make_demo_repository
from diurna_agents.surroundings import Surroundings
from diurna_agents.team import MEMBERS
from diurna_agents.workspace import Workspace
from support.agents_repositories import GitRepository
from support.fake_model import scripted, uses
from support.teams import AnyTeam, kafka_team

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2
LEAKING = f"def test():\n    print('{TOKEN[:20]}' + '{TOKEN[20:]}')\n    assert not 'password=correct-horse-1'\n"


class Desk:
    """Somebody who asks over HTTP."""

    def __init__(self, api_url: str, folder: Path) -> None:
        self.folder = folder
        self.client = httpx.Client(base_url=api_url, timeout=300, trust_env=False)
        self.repo = make_demo_repository(folder / "service")
        self.leaking = GitRepository(folder / "leaking.git")
        self.leaking.commit({"test_a.py": LEAKING})
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.services = {
            "live": {
                "command": [sys.executable, "-m", "http.server", str(self.port), "--bind", "127.0.0.1"],
                "directory": str(folder),
                "checks": [{"kind": "http", "url": f"http://127.0.0.1:{self.port}/"}],
            }
        }
        self.config = folder / "settings.toml"
        self.config.write_text("[server]\nport = 80\n")

    def ask(self, target: str, request_type: str, payload: dict[str, Any], **more: Any) -> dict[str, Any]:
        request = {"source_agent": "tester", "target_agent": target, "request_type": request_type, "payload": payload}
        answer = self.client.post("/agent-request", json={**request, "timeout_seconds": 250, **more})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def events(self, correlation_id: str) -> list[dict[str, Any]]:
        return list(self.client.get("/events", params={"correlation_id": correlation_id, "limit": 1000}).json())

    @property
    def questions(self) -> dict[str, tuple[str, str, dict[str, Any]]]:
        """What is asked of whom; those that wait for others are asked elsewhere."""
        at = {"repo": str(self.repo), "head": HEAD}
        result = {"id": "a", "status": "success", "result": {"cause": "disk"}}
        return {
            "review_code": ("code-review", "review_code", {**at, "base": BASE}),
            "refactor_code": ("feature-dev", "refactor_code", {**at, "operations": ["format"]}),
            "generate_code": ("feature-dev", "generate_code", {**at, "task": "Add a language"}),
            "explain_code": ("any", "explain_code", {**at, "symbol": "greet"}),
            "update_config": (
                "infrastructure",
                "update_config",
                {"file": str(self.config), "updates": {"server": {"port": 8080}}},
            ),
            "health_check": ("infrastructure", "health_check", {"services": self.services}),
            "generate_docs": ("documentation", "generate_docs", {**at, "kind": "api_reference"}),
            "update_readme": (
                "documentation",
                "update_readme",
                {**at, "generate": {"modules": "modules"}, "append": True},
            ),
            "decompose_task": (
                "orchestrator",
                "decompose_task",
                {"kind": "pull_request", "parameters": {**at, "base": BASE}},
            ),
            "route_request": ("orchestrator", "route_request", {"request_type": "review_code"}),
            "aggregate_results": ("orchestrator", "aggregate_results", {"results": [result], "vote": "cause"}),
            "query_capability": ("orchestrator", "query_capability", {"capability_keywords": ["readme"]}),
            "get_status": ("orchestrator", "get_status", {}),
            "restart": (
                "infrastructure",
                "execute_task",
                {"task": "restart_service", "service": "live", "services": self.services},
            ),
            "release": (
                "orchestrator",
                "execute_task",
                {
                    "task_id": "live-release",
                    "kind": "release",
                    "parameters": {**at, "output": str(self.folder / "dist"), "deploy_to": str(self.folder / "app")},
                },
            ),
            "deploy_service": ("infrastructure", "deploy_service", {**at, "deploy_to": str(self.folder / "direct")}),
            "leak": ("cicd", "run_pipeline", {"repo": str(self.leaking.path), "head": "main"}),
        }


@pytest.fixture(scope="module")
def desk(diurna: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(diurna.json("status")["api_url"], tmp_path_factory.mktemp("live"))
    yield made
    made.ask("infrastructure", "execute_task", {"task": "stop_service", "service": "live", "services": made.services})
    made.client.close()


@pytest.fixture(scope="module")
def answers(desk: Desk) -> dict[str, dict[str, Any]]:
    """All questions at once, as a busy day would have it."""
    with ThreadPoolExecutor(len(desk.questions)) as threads:
        asked = {
            name: threads.submit(desk.ask, target, kind, payload, correlation_id=f"live-{name}")
            for name, (target, kind, payload) in desk.questions.items()
        }
        return {name: future.result() for name, future in asked.items()}


EXPECTED: dict[str, Any] = {
    "review_code": lambda result: result["approved"] is True,
    "refactor_code": lambda result: result["outcome"] == "refactored" and result["tests"]["after"]["tests"] == 11,
    "explain_code": lambda result: result["symbols"][0]["complexity"] == 3,
    "update_config": lambda result: result["outcome"] == "updated",
    "health_check": lambda result: result["services"].keys() == {"live"},
    "generate_docs": lambda result: "index.md" in result["pages"],
    "update_readme": lambda result: result["outcome"] == "updated" and result["diff"]["files"] == 1,
    "decompose_task": lambda result: result["waves"] == [["build", "review", "test"]],
    "route_request": lambda result: result["agent_id"] == "code-review",
    "aggregate_results": lambda result: result["decision"]["value"] == "disk",
    "query_capability": lambda result: result["matches"] != [],
    "get_status": lambda result: {agent["agent_id"] for agent in result["agents"]} >= set(MEMBERS),
    "restart": lambda result: result["done"] and result["healthy"],
    "release": lambda result: result["succeeded"] == ["test", "build", "deploy", "health"],
    "deploy_service": lambda result: result["deployment_status"] == "deployed",
    "leak": lambda result: result["outcome"] == "failed",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_really_done(answers: dict[str, dict[str, Any]], name: str) -> None:
    answer = answers[name]
    assert answer["status"] == "success", answer["error"]
    assert EXPECTED[name](answer["result"]), json.dumps(answer["result"], indent=1)[:4_000]


def test_every_request_type_was_asked(desk: Desk) -> None:
    through_the_release = {"run_pipeline", "validate_build", "deploy_artifact", "health_check"}
    asked = {kind for _, kind, _ in desk.questions.values()} | through_the_release
    assert set(AgentRequestType) - asked == set()


def test_what_needs_a_model_says_so_where_there_is_none(answers: dict[str, dict[str, Any]]) -> None:
    answer = answers["generate_code"]
    assert (answer["status"], answer["result"]) == ("rejected", None)
    assert answer["error"].startswith("generate_code needs a language model and none is configured")
    assert answer["metadata"]["code"] == "needs_model"


def test_a_delegated_task_is_told_step_by_step_on_the_log(desk: Desk, answers: dict[str, dict[str, Any]]) -> None:
    ends = {one["id"]: one["agent"] for one in answers["release"]["result"]["subtasks"]}
    assert ends == {"test": "cicd", "build": "cicd", "deploy": "cicd", "health": "infrastructure"}
    found = desk.events("live-release")
    told = [(event["type"], event["data"].get("subtask_id")) for event in found if event["type"].startswith("task.")]
    for name in ends:
        kinds = sorted(kind for kind, subtask in told if subtask == name)
        assert kinds == ["task.accepted", "task.completed", "task.delegated"], told


def test_no_secret_of_a_command_s_output_reaches_the_log(desk: Desk, answers: dict[str, dict[str, Any]]) -> None:
    log_tail = answers["leak"]["result"]["log_tail"]
    assert "password=***" in log_tail
    whole = json.dumps(desk.events("live-leak"))
    assert "run_pipeline" in whole
    assert TOKEN not in whole
    assert "correct-horse-1" not in whole


@pytest.mark.parametrize(
    ("target", "kind", "payload", "said"),
    [
        ("code-review", "review_code", {"repo": "/nothing", "base": "a", "head": "b"}, "repo: no readable git"),
        ("code-review", "review_code", {"repo": "/r", "base": "a"}, "head: field required"),
        ("cicd", "run_pipeline", {"repo": "/r", "head": "h", "timeout_seconds": -1}, "timeout_seconds: "),
        ("cicd", "deploy_artifact", {"artifact": "x.whl", "deploy_to": "/srv"}, "artifact: an absolute path"),
        ("infrastructure", "update_config", {"file": "/no.toml", "updates": {"a": 1}}, "file: cannot be read"),
        ("infrastructure", "execute_task", {"task": "dance", "service": "x"}, "task: "),
        ("feature-dev", "explain_code", {"repo": "relative"}, "a path must be absolute"),
        ("documentation", "generate_docs", {"repo": "/r", "kind": "poem"}, "kind: "),
        ("orchestrator", "execute_task", {"workflow_type": "unknown", "input": {}}, "workflow_type: known types are"),
        ("orchestrator", "get_status", {"agent_id": "nobody"}, "no agent with id 'nobody'"),
    ],
)
def test_bad_input_is_rejected_with_its_field(
    desk: Desk, target: str, kind: str, payload: dict[str, Any], said: str
) -> None:
    answer = desk.ask(target, kind, payload)
    assert (answer["status"], said in str(answer["error"])) == ("rejected", True), answer


@pytest.fixture(scope="module")
async def kafka(kafka_bootstrap: str) -> AsyncIterator[AnyTeam]:
    async with kafka_team(kafka_bootstrap) as found:
        yield found


async def test_a_model_writes_code_on_a_real_log(kafka: AnyTeam, tmp_path: Path) -> None:
    git = GitRepository(tmp_path / "source.git")
    git.commit(
        {
            "app.py": "def two():\n    return 2\n",
            "test_app.py": "import app\n\n\ndef test():\n    assert app.two() == 2\n",
        }
    )
    model, _ = scripted([uses(("write_file", {"path": "notes.md", "content": f"token {TOKEN}\n"})), f"I used {TOKEN}."])
    agent = members.build(
        "feature-dev",
        workspace=Workspace(tmp_path / "work", environment={}),
        surroundings=Surroundings(model=model),
        connection=kafka.connection,
        port=None,
    )
    async with agent.running(), kafka.bus() as bus:
        answer = await bus.request_agent(
            AgentRequestEvent(
                source_agent="tester",
                target_agent="feature-dev",
                request_type="generate_code",
                payload={"repo": str(git.path), "head": "main", "task": "Take notes"},
                timeout_seconds=120,
            )
        )
    assert (answer.status, answer.result["outcome"]) == ("success", "generated"), answer.error
    assert answer.result["words"] == "I used ***."
