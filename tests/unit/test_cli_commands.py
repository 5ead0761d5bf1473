"""The command line against a scripted API: what it asks, what it prints, and how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diurna_deploy import cli
from diurna_deploy.cli.app import app
from support.scripted_api import ScriptedApi, scripted_api

Run = Callable[..., tuple[int, str, str]]
EVENT = {
    "position": "agents.events:3:17",
    "type": "request.submitted",
    "subject": "r-1",
    "time": "2026-11-23T22:12:49.123Z",
    "data": {"request": {"source_agent": "cli", "target_agent": "code-review", "request_type": "get_status"}},
}
STARTED = {"workflow_id": "w-1", "request_id": "r-1", "position": "agents.commands:0:5"}
START = ("workflow", "start", "pr_deployment", "--base", "main", "--head", "feature", "--deploy-to", "/srv/x")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str, api: ScriptedApi | None = None) -> tuple[int, str, str]:
        extra = [] if api is None else ["--api-url", api.url]
        monkeypatch.setattr(sys, "argv", ["diurna", *arguments, *extra])
        code = cli.run(app)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    with scripted_api({}) as found:
        yield found


def leaves() -> list[tuple[str, ...]]:
    import typer

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if hasattr(command, "commands"):
            for name, child in command.commands.items():
                yield from walk(child, (*path, name))
        else:
            yield path

    return list(walk(typer.main.get_command(app), ()))


def test_exactly_the_commands_that_exist_are_listed() -> None:
    assert {" ".join(path) for path in leaves()} == {
        *("up", "down", "status", "doctor", "demo", "bench"),
        *(f"agent {verb}" for verb in ("list", "show", "search", "register", "deregister", "new")),
        *(f"request {verb}" for verb in ("send", "show", "list", "cancel")),
        *(f"workflow {verb}" for verb in ("start", "list", "show", "history", "checkpoints", "restore", "fork")),
        *(f"workflow {verb}" for verb in ("approve", "reject", "pause", "resume", "cancel")),
        *(f"lock {verb}" for verb in ("acquire", "renew", "release", "list", "queue", "history", "statistics")),
        *(f"lock {verb}" for verb in ("force-release", "run")),
        *(f"event {verb}" for verb in ("publish", "tail", "trace")),
        "audit verify",
        *(f"projection {verb}" for verb in ("status", "rebuild", "verify", "promote", "rollback")),
        *(f"replay {verb}" for verb in ("recover", "verify", "what-if")),
        *(f"dead-letter {verb}" for verb in ("list", "show", "redrive", "discard")),
        *(f"schema {verb}" for verb in ("asyncapi", "check", "register", "list")),
    }


@pytest.mark.parametrize("path", leaves(), ids=" ".join)
def test_every_command_takes_the_options_of_every_command(run: Run, path: tuple[str, ...]) -> None:
    code, out, _ = run(*path, "--help")
    assert code == 0
    assert all(option in out for option in ("--json", "--state-dir", "--api-url"))


def test_help_loads_nothing_heavy() -> None:
    heavy = ("aiokafka", "asyncpg", "confluent_kafka", "fastapi", "fastavro", "faust", "httpx", "langgraph", "uvicorn")
    script = f"""
import sys
from diurna_deploy.cli import main
try:
    main()
finally:
    found = [name for name in {heavy!r} if name in sys.modules]
    assert not found, found
"""
    done = subprocess.run([sys.executable, "-c", script, "--help"], check=False, capture_output=True, text=True)
    assert "AssertionError" not in done.stderr, done.stderr
    assert "Usage" in done.stdout


def test_nobody_answering_exits_3_and_says_what_to_do(run: Run) -> None:
    code, out, err = run("agent", "list", "--api-url", "http://127.0.0.1:9")
    assert (code, out) == (3, "")
    assert "diurna up --detach" in err


def test_no_stack_at_all_exits_3_and_says_what_to_do(run: Run, tmp_path: Path) -> None:
    code, _, err = run("agent", "list", "--state-dir", str(tmp_path))
    assert code == 3
    assert "diurna up" in err


def test_an_unknown_command_exits_2(run: Run) -> None:
    assert run("agent", "dance")[0] == 2
    assert run("no-such-noun")[0] == 2
    assert run("request", "send", "x", "y", "--timeout", "soon")[0] == 2


def test_a_refusal_exits_1_in_words_and_in_json(run: Run, api: ScriptedApi) -> None:
    problem = {"title": "Not Found", "status": 404, "detail": "no agent with id 'nobody'", "code": "not_found"}
    api.answers["GET /agents/nobody"] = (404, problem)
    code, _, err = run("agent", "show", "nobody", api=api)
    assert (code, err) == (1, "diurna: no agent with id 'nobody'\n")
    code, _, err = run("agent", "show", "nobody", "--json", api=api)
    assert (code, json.loads(err)["error"]["code"]) == (1, "not_found")


def test_a_server_error_exits_3(run: Run, api: ScriptedApi) -> None:
    api.answers["GET /agents"] = (503, {"title": "Service Unavailable", "detail": "the database is away"})
    code, _, err = run("agent", "list", api=api)
    assert code == 3
    assert "the database is away" in err


def test_agents_are_listed_in_columns_without_colours(run: Run, api: ScriptedApi) -> None:
    agent = {"agent_id": "cicd", "agent_name": "CI", "status": "active", "capabilities": [{"name": "run_pipeline"}]}
    api.answers["GET /agents"] = [agent]
    code, out, _ = run("agent", "list", "--status", "active", "--capability", "run_pipeline", api=api)
    assert code == 0
    assert out.splitlines()[0].split() == ["agent_id", "agent_name", "status", "last_heartbeat", "capabilities"]
    assert out.splitlines()[1].split() == ["cicd", "CI", "active", "-", "run_pipeline"]
    assert "\x1b" not in out
    assert api.asked[-1][1] == {"status": "active", "capability": "run_pipeline"}
    assert json.loads(run("agent", "list", "--json", api=api)[1]) == [agent]


def test_an_agent_is_registered_with_its_capabilities(run: Run, api: ScriptedApi) -> None:
    api.answers["POST /register"] = {"agent_id": "mine", "position": "agents.events:1:2"}
    assert (
        run("agent", "register", "mine", "--capability", "sing=Sings songs", "--metadata", '{"a": 1}', api=api)[0] == 0
    )
    body = api.asked[-1][2]
    assert body["capabilities"] == [{"name": "sing", "description": "Sings songs"}]
    assert body["metadata"] == {"a": 1}


@pytest.mark.parametrize(("status", "code"), [("success", 0), ("rejected", 1), ("timeout", 1), ("error", 1)])
def test_sending_a_request_exits_as_it_was_answered(run: Run, api: ScriptedApi, status: str, code: int) -> None:
    api.answers["POST /agent-request"] = {"request_id": "r-1", "status": status, "result": {"x": 1}}
    got, out, _ = run("request", "send", "cicd", "get_status", "--payload", '{"a": 1}', "--json", api=api)
    assert got == code
    assert json.loads(out)["status"] == status
    assert api.asked[-1][2]["payload"] == {"a": 1}


def test_a_payload_that_is_no_json_object_is_a_usage_error_before_anything_is_sent(run: Run, api: ScriptedApi) -> None:
    for payload in ("[1]", "{", "@/no/such/file"):
        code, _, err = run("request", "send", "cicd", "get_status", "--payload", payload, api=api)
        assert code == 2
        assert "--payload" in err
    assert api.asked == []


def test_tailing_prints_each_event_and_ends_at_the_count(run: Run, api: ScriptedApi) -> None:
    api.answers["GET /events/stream"] = "".join(f"id: {n}\ndata: {json.dumps(EVENT)}\n\n" for n in range(3))
    code, out, _ = run("event", "tail", "--count", "2", "--topic", "agents.events", api=api)
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "agents.events:3:17" in out
    assert "cli asks code-review: get_status" in out
    assert api.asked[-1][1] == {"topic": "agents.events"}


def test_tracing_something_nobody_did_exits_1(run: Run, api: ScriptedApi) -> None:
    api.answers["GET /timeline/nothing"] = (404, {"title": "Not found", "status": 404, "code": "not_found"})
    assert run("event", "trace", "nothing", api=api)[0] == 1


def answered(status: str, *, is_success: bool) -> dict[str, Any]:
    final = {"status": status, "deployment_status": status, "success": is_success, "reason": "because"}
    return {"request_id": "r-1", "status": "success", "result": final}


@pytest.mark.parametrize(("status", "code"), [("deployed", 0), ("tests_failed", 1), ("rolled_back", 1)])
def test_following_a_workflow_exits_as_it_ended(run: Run, api: ScriptedApi, status: str, code: int) -> None:
    over = {**EVENT, "type": "request.completed", "position": "agents.events:3:18", "data": {"status": "success"}}
    looks = iter([[EVENT], [EVENT], [EVENT, over], [EVENT, over]])
    api.answers["POST /workflows"] = (202, STARTED)
    api.answers["GET /timeline/w-1"] = lambda _: next(looks)
    api.answers["GET /requests/r-1"] = answered(status, is_success=code == 0)
    got, out, _ = run(*START, "--repo", "somewhere", "--policy", "never", api=api)
    assert got == code
    assert out.count("agents.events:3:17") == 1
    assert out.splitlines()[-1] == f"{status}: because"
    given = api.asked[0][2]["input"]
    assert given == {"repo": str(Path.cwd() / "somewhere"), "base": "main", "head": "feature", "deploy_to": "/srv/x",
                     "policy": "never"}  # fmt: skip


def test_a_workflow_that_was_never_taken_in_says_why(run: Run, api: ScriptedApi) -> None:
    api.answers["POST /workflows"] = (202, STARTED)
    api.answers["GET /timeline/w-1"] = [{**EVENT, "type": "request.rejected"}]
    api.answers["GET /requests/r-1"] = {
        "request_id": "r-1",
        "status": "rejected",
        "error": "agent offline: orchestrator",
    }
    code, out, _ = run(*START, "--repo", "https://example.com/x.git", "--json", api=api)
    assert code == 1
    found = json.loads(out)
    assert (found["status"], found["reason"]) == ("failed", "agent offline: orchestrator")
    assert api.asked[0][2]["input"]["repo"] == "https://example.com/x.git"


def test_without_follow_it_returns_at_once(run: Run, api: ScriptedApi) -> None:
    api.answers["POST /workflows"] = (202, STARTED)
    code, out, _ = run(*START, "--repo", "git@example.com:x.git", "--no-follow", "--json", api=api)
    assert (code, json.loads(out)) == (0, STARTED)
    assert api.asked[0][2]["input"]["repo"] == "git@example.com:x.git"


def test_a_pr_deployment_without_its_ends_is_a_usage_error(run: Run, api: ScriptedApi) -> None:
    code, _, err = run("workflow", "start", "pr_deployment", "--repo", ".", api=api)
    assert code == 2
    assert "--base, --head, --deploy-to" in err
    assert api.asked == []


def test_approving_finds_the_approval_of_the_workflow(run: Run, api: ScriptedApi) -> None:
    api.answers["GET /approvals"] = [{"approval_id": "a-1", "workflow_id": "w-1", "status": "pending"}]
    api.answers["POST /approvals/a-1/approve"] = {"approval_id": "a-1", "position": "workflows.events:0:9"}
    assert run("workflow", "approve", "w-1", "--by", "ada", "--reason", "fine", api=api)[0] == 0
    assert api.asked[-1][2] == {"decided_by": "ada", "reason": "fine", "roles": [], "workflow_id": "w-1"}
    api.answers["GET /approvals"] = []
    api.answers["POST /approvals/a-2/reject"] = {"approval_id": "a-2", "position": "workflows.events:0:10"}
    assert run("workflow", "reject", "a-2", api=api)[0] == 0


def test_approving_finds_what_waits_behind_all_that_was_decided(run: Run, api: ScriptedApi) -> None:
    decided = [{"approval_id": f"a-{n}", "workflow_id": "w-1", "status": "approved"} for n in range(100)]
    api.answers["GET /approvals?workflow_id=w-1"] = api.answers["GET /approvals"] = decided
    waiting = {"approval_id": "a-100", "workflow_id": "w-1", "status": "pending"}
    api.answers["GET /approvals?workflow_id=w-1&status=pending&limit=1"] = [waiting]
    api.answers["POST /approvals/a-100/approve"] = {"approval_id": "a-100", "position": "workflows.events:0:9"}
    assert run("workflow", "approve", "w-1", api=api)[0] == 0


def test_restoring_without_a_checkpoint_takes_the_newest(run: Run, api: ScriptedApi) -> None:
    api.answers["GET /workflows/w-1/checkpoints"] = [{"checkpoint_id": "c-9"}]
    api.answers["POST /workflows/w-1/restore"] = {"version": 4, "position": "workflows.events:0:9", "data": {}}
    code, out, _ = run("workflow", "restore", "w-1", "--expected-version", "3", api=api)
    assert (code, out) == (0, "restored w-1 to c-9: version 4 at workflows.events:0:9\n")
    assert api.asked[-1][2] == {"checkpoint_id": "c-9", "agent_id": "cli", "expected_version": 3}
    api.answers["GET /workflows/w-1/checkpoints"] = []
    assert run("workflow", "restore", "w-1", api=api)[0] == 1


def test_forking_sets_values_that_are_json_or_text(run: Run, api: ScriptedApi) -> None:
    api.answers["POST /workflows/w-1/fork"] = (201, {"workflow_id": "w-2", "position": "workflows.events:0:9"})
    words = ("a.b=1", "a.c=null", "text=so it is", 'quoted="1"', "empty=", "list=[1, 2]", "url=x?y=z", "word=NaN")
    given = [part for word in words for part in ("--set", word)]
    code, out, _ = run("workflow", "fork", "w-1", "--checkpoint", "c-1", "--id", "w-2", *given, api=api)
    assert (code, out) == (0, "forked w-1 at c-1: w-2 at workflows.events:0:9\n")
    assert api.asked[-1][2] == {
        "checkpoint_id": "c-1",
        "workflow_id": "w-2",
        "set": {
            "a": {"b": 1, "c": None}, "text": "so it is", "quoted": "1", "empty": "", "list": [1, 2], "url": "x?y=z",
            "word": "NaN",
        },
    }  # fmt: skip


@pytest.mark.parametrize("given", [["nothing"], ["=1"], ["a..b=1"], ["a=1", "a.b=2"], ["a.b=2", "a=1"], [".=1"]])
def test_a_change_that_is_none_is_a_usage_error_before_anything_is_sent(
    run: Run, api: ScriptedApi, given: list[str]
) -> None:
    words = [part for one in given for part in ("--set", one)]
    code, _, err = run("workflow", "fork", "w-1", "--checkpoint", "c-1", *words, api=api)
    assert (code, "--set" in err) == (2, True)
    assert api.asked == []


def test_a_number_that_is_not_finite_is_refused_before_anything_is_sent(run: Run, api: ScriptedApi) -> None:
    for words in (("workflow", "fork", "w", "--checkpoint", "c", "--set", "x=1e999"),
                  ("event", "publish", "task.done", "--data", '{"x": NaN}')):  # fmt: skip
        code, _, err = run(*words, api=api)
        assert (code, "it cannot be written as JSON" in err) == (1, True)
    assert api.asked == []


def test_checkpoints_are_listed_in_columns(run: Run, api: ScriptedApi) -> None:
    api.answers["GET /workflows/w-1/checkpoints"] = [{"checkpoint_id": "c-1", "step_name": "plan", "version": 2}]
    code, out, _ = run("workflow", "checkpoints", "w-1", api=api)
    assert code == 0
    assert out.splitlines()[1].split() == ["c-1", "plan", "-", "2", "-", "-"]


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_pausing_resuming_and_cancelling_tell_who_and_why(run: Run, api: ScriptedApi, verb: str) -> None:
    api.answers[f"POST /workflows/w-1/{verb}"] = {"workflow_id": "w-1", "position": "workflows.events:0:9"}
    assert run("workflow", verb, "w-1", "--reason", "lunch", api=api)[0] == 0
    assert api.asked[-1][2]["reason"] == "lunch"
    api.answers[f"POST /workflows/w-1/{verb}"] = (409, {"detail": "workflow w-1 is completed", "code": "workflow_over"})
    assert run("workflow", verb, "w-1", api=api)[0] == 1


def test_a_decided_approval_is_not_decided_again(run: Run, api: ScriptedApi) -> None:
    api.answers["GET /approvals?workflow_id=w-1&status=pending&limit=1"] = []
    api.answers["GET /approvals"] = [{"approval_id": "a-1", "workflow_id": "w-1", "status": "approved"}]
    code, _, err = run("workflow", "approve", "w-1", api=api)
    assert code == 1
    assert "approved already" in err


def test_publishing_an_event_sends_its_data(run: Run, api: ScriptedApi) -> None:
    api.answers["POST /events"] = {"id": "b-1", "position": "broadcasts:2:4"}
    assert run("event", "publish", "task.delegated", "--data", '{"subtask": 7}', api=api)[0] == 0
    assert api.asked[-1][2]["event_type"] == "task.delegated"
    assert api.asked[-1][2]["data"] == {"subtask": 7}


def test_a_new_agent_is_written_and_passes_its_own_test(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "mine"
    code, out, _ = run(
        "agent", "new", "word-counter", "--directory", str(place), "--request-type", "count.words", "--json"
    )
    assert code == 0
    files = [str(place / "word_counter.py"), str(place / "test_word_counter.py")]
    assert json.loads(out) == {"agent_id": "word-counter", "request_type": "count.words", "files": files}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_a_new_agent_overwrites_nothing_and_needs_a_name(run: Run, tmp_path: Path) -> None:
    (tmp_path / "greeter.py").write_text("mine")
    code, _, err = run("agent", "new", "greeter", "--directory", str(tmp_path))
    assert (code, "exists already and is left as it is" in err) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["greeter.py"]
    for name, said in (
        ("a b", "name: 1 to 128 letters"),
        ("9lives", "name: it must begin with a letter"),
        ("class", "Python"),
    ):
        code, _, err = run("agent", "new", name, "--directory", str(tmp_path))
        assert (code, said in err) == (1, True), err


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (
            ("parallel_docs", "--repo", "https://example.com/x.git", "--site", "/srv/docs", "--document", "api_docs"),
            {"repo": "https://example.com/x.git", "site": "/srv/docs", "documents": ["api_docs"]},
        ),
        (
            ("self_healing", "--service", "web", "--attempts", "2", "--approval-role", "ops", "--escalate", "human"),
            {"service": "web", "attempts": 2, "approval_roles": ["ops"], "escalate": "human"},
        ),
    ],
)
def test_each_type_of_workflow_is_given_its_own_options(
    run: Run, api: ScriptedApi, words: tuple[str, ...], given: dict[str, Any]
) -> None:
    api.answers["POST /workflows"] = (202, STARTED)
    assert run("workflow", "start", *words, "--no-follow", api=api)[0] == 0
    assert api.asked[0][2] == {"workflow_type": words[0], "input": given}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("parallel_docs", "--repo", "x"), "parallel_docs needs --site"),
        (("self_healing",), "self_healing needs --service"),
        (("self_healing", "--service", "web", "--repo", "x"), "self_healing takes no --repo"),
        (("parallel_docs", "--repo", "x", "--site", "y", "--approval-role", "z"), "takes no --approval-role"),
    ],
)
def test_options_of_another_workflow_are_a_usage_error(
    run: Run, api: ScriptedApi, words: tuple[str, ...], said: str
) -> None:
    code, _, err = run("workflow", "start", *words, api=api)
    assert code == 2
    assert said in " ".join(err.split())
    assert api.asked == []
