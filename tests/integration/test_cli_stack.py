"""The command line against the whole running stack: what a user types on the first day."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from diurna_agents.demo_repository import BASE, HEAD, Variant, make_demo_repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
TEAM = {"orchestrator", "code-review", "cicd", "infrastructure", "feature-dev", "documentation"}


def eventually() -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(AssertionError), stop=stop_after_delay(30), wait=wait_fixed(0.1), reraise=True
    )


def inputs(tmp_path: Path, variant: Variant = "good") -> list[str]:
    repository = make_demo_repository(tmp_path / "repository", variant=variant)
    return ["--repo", str(repository), "--base", BASE, "--head", HEAD, "--deploy-to", str(tmp_path / "deployed")]


def test_status_names_the_addresses_and_the_processes(diurna: Any) -> None:
    found = diurna.json("status")
    assert all(found[name] for name in ("api_url", "kafka_bootstrap_servers", "database_url", "schema_registry_url"))
    assert {process["name"] for process in found["processes"]} >= TEAM | {"server", "decider", "projector", "auditor"}
    assert httpx.get(f"{found['api_url']}/health").json()["status"] == "healthy"
    assert "/workflows" in httpx.get(f"{found['api_url']}/openapi.json").json()["paths"]
    assert httpx.get(f"{found['schema_registry_url']}/subjects").json()


def test_starting_what_runs_already_joins_it(diurna: Any) -> None:
    before = {process["name"]: process["pid"] for process in diurna.json("status")["processes"]}
    assert diurna.json("up", "--detach")["joined"] is True
    assert {process["name"]: process["pid"] for process in diurna.json("status")["processes"]} == before


def test_the_six_agents_are_there_and_answer(diurna: Any) -> None:
    agents = {agent["agent_id"]: agent for agent in diurna.json("agent", "list")}
    assert set(agents) >= TEAM
    for agent_id in sorted(TEAM):
        assert agents[agent_id]["status"] in {"active", "idle", "busy"}
        answer = diurna.json("request", "send", agent_id, "get_status")
        assert (answer["status"], answer["result"]["agent_id"]) == ("success", agent_id)
        assert httpx.get(f"{agents[agent_id]['base_url']}/health").json()["status"] == "healthy"
    assert {found["agent_id"] for found in diurna.json("agent", "search", "rollback")} == {"infrastructure"}


def test_what_is_read_can_be_read_as_it_was(diurna: Any) -> None:
    answer = diurna.json("request", "send", "code-review", "get_status")
    position, request_id = answer["position"], answer["request_id"]
    assert diurna.json("request", "send", "code-review", "get_status")["status"] == "success"
    then = [one["request_id"] for one in diurna.json("request", "list", "--as-of", position)]
    now = [one["request_id"] for one in diurna.json("request", "list")]
    assert then[0] == request_id
    assert len(now) > len(then)
    assert diurna.json("agent", "list", "--as-of", "2001-01-01T00:00:00Z") == []
    assert "as_of" in diurna.run("agent", "list", "--as-of", "yesterday").stderr


def test_nobody_there_is_refused_at_once(diurna: Any) -> None:
    answer = diurna.json("request", "send", "nobody", "get_status", code=1)
    assert answer["status"] == "rejected"
    assert answer["error"].startswith("agent offline")


def test_a_wrong_payload_is_rejected_with_the_field(diurna: Any) -> None:
    answer = diurna.json("request", "send", "code-review", "review_code", "--payload", '{"repo": 7}', code=1)
    assert answer["status"] == "rejected"
    assert "repo" in answer["error"]


def test_a_change_is_deployed_with_a_timeline_in_order(diurna: Any, tmp_path: Path) -> None:
    found = diurna.json("workflow", "start", "pr_deployment", *inputs(tmp_path))
    assert (found["deployment_status"], found["success"]) == ("deployed", True)
    timeline = found["timeline"]
    times = [event["time"] for event in timeline]
    assert times == sorted(times)
    assert len({event["position"] for event in timeline}) == len(timeline)
    types = [event["type"] for event in timeline]
    assert types.count("request.completed") == 4
    assert (
        types.index("workflow.created") < types.index("workflow.approval_decided") < types.index("workflow.completed")
    )
    program = next((tmp_path / "deployed" / "current").glob("**/bin/greeting-service"))
    assert "Ada" in subprocess.run([program, "Ada"], capture_output=True, text=True, check=True).stdout
    row = diurna.json("workflow", "show", found["workflow_id"])
    assert (row["status"], row["result"]["deployment_status"]) == ("completed", "deployed")
    traced = [event["position"] for event in diurna.json("event", "trace", found["workflow_id"])]
    assert traced == [event["position"] for event in timeline]
    assert diurna.json("workflow", "history", found["workflow_id"])[0]["type"] == "workflow.created"


def test_failing_tests_end_with_1_and_the_reason(diurna: Any, tmp_path: Path) -> None:
    done = diurna.run("workflow", "start", "pr_deployment", *inputs(tmp_path, "failing_tests"))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("tests_failed: failed: ")


def test_wrong_input_of_a_workflow_is_refused_with_the_field(diurna: Any, tmp_path: Path) -> None:
    found = diurna.json("workflow", "start", "pr_deployment", *inputs(tmp_path), "--policy", "maybe", code=1)
    assert found["status"] == "failed"
    assert "policy" in found["reason"]


def test_a_person_approves_over_the_command_line(diurna: Any, tmp_path: Path) -> None:
    started = diurna.json("workflow", "start", "pr_deployment", *inputs(tmp_path), "--policy", "human", "--no-follow")
    workflow_id = started["workflow_id"]
    url = diurna.json("status")["api_url"]
    for attempt in eventually():
        with attempt:
            approvals = httpx.get(f"{url}/approvals", params={"workflow_id": workflow_id}).json()
            assert [one["status"] for one in approvals] == ["pending"]
    assert diurna.run("workflow", "approve", workflow_id, "--by", "ada").returncode == 0
    assert diurna.run("workflow", "approve", workflow_id, "--by", "bob").returncode == 1
    for attempt in eventually():
        with attempt:
            assert diurna.json("workflow", "show", workflow_id)["status"] == "completed"
    assert diurna.json("workflow", "show", workflow_id)["result"]["approval"]["decided_by"] == "ada"


def test_a_workflow_that_waits_can_be_cancelled(diurna: Any, tmp_path: Path) -> None:
    started = diurna.json("workflow", "start", "pr_deployment", *inputs(tmp_path), "--policy", "human", "--no-follow")
    workflow_id = started["workflow_id"]
    for attempt in eventually():
        with attempt:
            assert diurna.run("workflow", "cancel", workflow_id, "--reason", "wrong branch").returncode == 0
    for attempt in eventually():
        with attempt:
            assert diurna.json("request", "show", started["request_id"])["status"] == "completed"
    response = diurna.json("request", "show", started["request_id"])["response"]
    assert response["result"]["deployment_status"] == "cancelled"
    assert diurna.json("workflow", "show", workflow_id)["status"] == "cancelled"


def test_an_event_is_published_heard_and_traced(diurna: Any) -> None:
    heard: list[dict[str, Any]] = []

    def listen() -> None:
        done = diurna.run("event", "tail", "--type", "task.delegated", "--count", "1", "--json", timeout=60)
        heard.extend(json.loads(line) for line in done.stdout.splitlines())

    listener = threading.Thread(target=listen)
    listener.start()
    while listener.is_alive():
        diurna.json("event", "publish", "task.delegated", "--data", '{"subtask": 7}', "--correlation-id", "tail/test")
        listener.join(timeout=0.5)
    assert (heard[0]["type"], heard[0]["data"]) == ("task.delegated", {"subtask": 7})
    for attempt in eventually():
        with attempt:
            traced = diurna.run("event", "trace", "tail/test", "--json")
            assert traced.returncode == 0
            assert json.loads(traced.stdout)[0]["data"] == {"subtask": 7}


def test_the_registry_knows_every_schema_and_takes_them_again(diurna: Any) -> None:
    from diurna_schemas.catalogue import subjects

    assert {row["subject"] for row in diurna.json("schema", "list")} >= {subject for subject, _ in subjects()}
    assert diurna.json("schema", "check") == {"compatible": True, "incompatible": []}
    assert len(diurna.json("schema", "register")) == len({name for _, name in subjects()})


def test_an_incompatible_schema_is_noticed(diurna: Any, tmp_path: Path) -> None:
    changed = tmp_path / "changed.avsc"
    fields = [{"name": "event_type", "type": "long"}]
    changed.write_text(
        json.dumps({"type": "record", "name": "Broadcast", "namespace": "diurna.records", "fields": fields})
    )
    subject = "broadcasts-diurna.records.Broadcast"
    assert diurna.json("schema", "check", "--subject", subject, "--file", str(changed), code=1)["incompatible"] == [
        subject
    ]


def test_the_tables_say_how_far_they_are(diurna: Any) -> None:
    found = diurna.json("projection", "status")[0]
    assert any(place.startswith("agents.events:") for place in found["positions"])
    assert set(found["checksums"]) >= {"agents", "requests", "workflows"}
    assert diurna.json("dead-letter", "list") == []


def test_what_nobody_understands_is_listed_and_given_up(diurna: Any) -> None:
    import asyncio

    from diurna_streams.log.kafka import KafkaLog
    from diurna_streams.log.port import Outgoing

    async def write() -> str:
        async with KafkaLog(diurna.json("status")["kafka_bootstrap_servers"]) as log:
            producer = await log.producer()
            offset = await producer.send("workflows.commands", 2, Outgoing(b"key", b"no avro at all"))
            await producer.close()
            return f"workflows.commands:2:{offset}"

    letter_id = asyncio.run(write())
    for attempt in eventually():
        with attempt:
            assert [one["id"] for one in diurna.json("dead-letter", "list", "--status", "open")] == [letter_id]
    refused = diurna.run("dead-letter", "redrive", letter_id)
    assert (refused.returncode, "still cannot be understood" in refused.stderr) == (1, True)
    assert diurna.json("dead-letter", "discard", letter_id, "--by", "ada")["status"] == "discarded"
    for attempt in eventually():
        with attempt:
            assert diurna.json("dead-letter", "list", "--status", "open") == []
    (found,) = diurna.json("dead-letter", "list", "--status", "discarded")
    assert (found["id"], found["settled_by"]) == (letter_id, "ada")


def test_the_tables_are_made_anew_compared_exchanged_and_taken_back(diurna: Any) -> None:
    made = diurna.json("projection", "rebuild")
    assert (made["schema"], made["promoted"]) == ("diurna_next", False)
    assert made["records"] > 0
    assert diurna.json("projection", "verify")["equal"] is True
    before = {agent["agent_id"] for agent in diurna.json("agent", "list")}
    promoted = diurna.json("projection", "promote")
    assert promoted["live"] == promoted["rebuilt"]
    assert {agent["agent_id"] for agent in diurna.json("agent", "list")} == before
    assert diurna.json("request", "send", "code-review", "get_status")["status"] == "success"
    assert diurna.json("projection", "rollback")["equal"] is True
    assert diurna.run("projection", "verify").returncode == 1  # there is nothing beside the live tables now
    assert diurna.json("request", "send", "code-review", "get_status")["status"] == "success"
    done = diurna.run("projection", "rebuild", "--promote")
    assert "are live now" in done.stdout


def execute(diurna: Any, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(diurna.json("status")["database_url"])
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


def two_events(diurna: Any) -> list[dict[str, Any]]:
    """The last two events of a request, in the tables."""
    request_id = diurna.json("request", "send", "code-review", "get_status")["request_id"]
    url = diurna.json("status")["api_url"]
    found: list[dict[str, Any]] = []
    for attempt in eventually():
        with attempt:
            found = httpx.get(f"{url}/events", params={"subject": request_id}).json()
            assert len(found) == 3
    return sorted(found, key=lambda event: int(event["position"].rpartition(":")[2]))[1:]


def test_a_part_of_the_log_is_proven_and_a_damaged_row_of_it_is_named(diurna: Any) -> None:
    earlier, later = two_events(diurna)
    newest, older = later["position"], earlier["position"]
    part = diurna.json("replay", "verify", "--from", older, "--to", newest)
    assert part["equal"] is True
    assert part["log"] == part["table"]
    assert part["records"] >= 1
    topic, partition, offset = older.split(":")
    row = f"topic = '{topic}' and partition = {partition} and record_offset = {offset}"
    execute(diurna, f"update diurna.events set subject = '?' where {row}")
    found = diurna.json("replay", "verify", "--from", older, code=1)
    assert {"position": older, "what": "different", "columns": ["subject"]} in found["different"]
    assert older in diurna.run("replay", "verify", "--from", older).stdout
    assert "--from" in diurna.run("replay", "verify", "--from", "tomorrow").stderr
    execute(diurna, f"update diurna.events set subject = '{earlier['subject']}' where {row}")
    assert diurna.json("replay", "verify", "--from", older)["equal"] is True


def test_the_tables_as_they_were_are_made_in_a_schema_of_their_own(diurna: Any) -> None:
    older, newest = [event["position"] for event in two_events(diurna)]
    assert diurna.json("replay", "recover", "--from", older)["records"] >= 0
    refused = diurna.run("replay", "recover", "--to", older)
    assert refused.returncode == 1
    assert "name another schema" in refused.stderr
    then = diurna.json("replay", "recover", "--to", newest, "--schema", "as_it_was_then")
    assert then["schema"] == "as_it_was_then"
    assert newest not in then["positions"]
    assert "Recovered 0 records" in diurna.run("replay", "recover", "--to", newest, "--schema", "as_it_was_then").stdout
    execute(diurna, "drop schema as_it_was_then cascade")
    assert diurna.run("replay", "recover", "--to", newest, "--schema", "diurna_next").returncode == 1


def test_a_replay_brings_a_dropped_schema_back_and_proves_the_tables(diurna: Any) -> None:
    execute(diurna, "drop schema diurna cascade")
    found = diurna.json("replay", "recover")
    assert set(found["checksums"]) >= {"agents", "requests", "workflows"}
    for attempt in eventually():  # the projector notices that its positions went back, and begins anew
        with attempt:
            assert diurna.json("replay", "verify")["equal"] is True
    assert {agent["agent_id"] for agent in diurna.json("agent", "list")} >= TEAM
