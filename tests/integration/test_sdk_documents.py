"""Runs what EVENT_PROTOCOL.md and AGENT_REGISTRY.md show, and holds their tables to the schemas."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from diurna.network import codec_from
from diurna.testing import Team, team
from diurna_schemas.catalogue import RECORDS, schema_text, subjects
from diurna_streams.log.memory import MemoryLog
from diurna_streams.schema_registry.client import SchemaRegistryClient
from diurna_streams.schema_registry.routes import build_app
from diurna_streams.schema_registry.store import SchemaRegistry
from diurna_streams.schema_registry.topic import SchemaTopic
from support.documents import ROOT, Block, blocks, run_python
from support.protocol_document import DOCUMENT, written_anew
from support.served import served
from support.teams import eventually, kafka_team

PROTOCOL = blocks(DOCUMENT, "python")
REGISTRY = blocks("docs/AGENT_REGISTRY.md", "python")
WORKFLOWS = blocks("docs/reference/workflow-state.md", "python")


@pytest.fixture(scope="module")
async def memory() -> AsyncIterator[Team]:
    async with team() as found:
        yield found


def test_the_tables_of_the_protocol_are_those_of_the_schemas() -> None:
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    assert text == written_anew(text), "run: cd tests && python -m support.protocol_document"


async def test_every_header_on_the_log_is_in_the_protocol(memory: Team) -> None:
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    async with memory.agent("headed").running(), memory.bus() as bus:
        from diurna import AgentRequestEvent

        request = AgentRequestEvent(source_agent="me", target_agent="headed", request_type="get_status")
        await bus.request_agent(request, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    names = {
        name
        for topic in ("agents.commands", "agents.events", "agents.heartbeats")
        for partition in range(6)
        for record in memory.log.records(topic, partition)
        for name, _ in record.headers
    }
    assert {"ce_id", "causationid", "correlationid", "traceparent", "chain_hash"} <= names
    assert [name for name in sorted(names) if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize("block", [one for one in PROTOCOL if one.notes != "confluent"], ids=lambda one: one.name)
async def test_the_examples_of_the_protocol_run(memory: Team, block: Block) -> None:
    agent = memory.agent("code-review")

    @agent.on_request("review_code")
    async def review(request: Any) -> dict[str, Any]:
        return {"approved": True}

    async with agent.running(), memory.bus() as bus:
        space = await run_python(block, {"bus": bus})
        if "response" in space:
            assert space["response"].result == {"approved": True}
        if "on_task_delegated" in space:
            await eventually(lambda: bus.get_stats()["events_delivered"] == 1)
        if "accepted" in space:
            whole = [
                (record, counted)
                for partition in range(6)
                for records in [memory.log.records("agents.events", partition)]
                for record, counted in zip(records, space["accepted"](records), strict=True)
            ]
            assert whole
            assert all(record == counted for record, counted in whole)
            records = max((memory.log.records("agents.events", partition) for partition in range(6)), key=len)
            assert list(space["accepted"]([records[0], records[0], *records[2:]])) == [records[0]]


@pytest.mark.parametrize("block", REGISTRY, ids=lambda one: one.name)
async def test_the_examples_of_the_registry_run(memory: Team, block: Block) -> None:
    async with served(memory.app) as url:
        space = await run_python(block, {"registry_url": url})
    if block.notes == "agent":
        outcome = await space["agent"]._handlers.handle(_request(), _Silent())
        assert (outcome.status, json.loads(outcome.result)) == ("success", {"approved": True, "comments": []})


@pytest.mark.parametrize("block", [one for one in WORKFLOWS if not one.notes], ids=lambda one: one.name)
async def test_the_examples_of_the_workflow_state_run(memory: Team, block: Block) -> None:
    async with memory.workflow_state() as state:
        await run_python(block, {"state": state})


async def test_the_example_of_reads_of_the_past_runs(memory: Team) -> None:
    (block,) = blocks("docs/how-to/read-the-past.md", "python")
    async with memory.workflow_state() as state, memory.locks() as locks:
        workflow_id = await state.create_workflow("test", {}, [])
        await state.complete_workflow(workflow_id)
        space = await run_python(block, {"state": state, "locks": locks, "workflow_id": workflow_id})
        assert space["before"].type == "workflow.created"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")
async def test_the_commands_of_the_registry_run(memory: Team) -> None:
    (block,) = blocks("docs/AGENT_REGISTRY.md", "console")
    async with served(memory.app) as url:
        for command in block.commands:
            arguments = [part.replace("$API", url) for part in shlex.split(command)]
            process = await asyncio.create_subprocess_exec(*arguments, "--fail-with-body", stdout=-1)
            out, _ = await process.communicate()
            assert process.returncode == 0, (command, out)
            assert "linter" in out.decode()
    assert len(block.commands) == 7


@pytest.mark.stack
async def test_a_client_that_knows_nothing_of_diurna_takes_part(kafka_bootstrap: str, tmp_path: Path) -> None:
    (block,) = [one for one in PROTOCOL if one.notes == "confluent"]
    script = tmp_path / "scribe.py"
    script.write_text(block.text, encoding="utf-8")
    log = MemoryLog()
    await log.provision()
    async with SchemaRegistry.open(SchemaTopic(log)) as registry, served(build_app(registry)) as url:
        async with SchemaRegistryClient(url) as client:
            # In the order of their names, so that ids are those of `Codec.numbered()`, which others use on this broker.
            for name in sorted(RECORDS):
                for subject in [subject for subject, record in subjects() if record == name]:
                    await client.register(subject, schema_text(name))
        async with kafka_team(kafka_bootstrap, await codec_from(url)):
            environment = {
                **os.environ,
                "DIURNA_KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
                "DIURNA_SCHEMA_REGISTRY_URL": url,
            }
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(script), stdout=-1, stderr=-1, env=environment
            )
            async with asyncio.timeout(90):
                out, problems = await process.communicate()
    assert process.returncode == 0, problems.decode()
    assert out.decode().startswith("agent.registered scribe at epoch")


def _request() -> Any:
    from diurna import AgentRequestEvent

    return AgentRequestEvent(
        source_agent="me", target_agent="code-review", request_type="review_code", payload={"repo_url": "x"}
    )


class _Silent:
    async def report(self, step: str, details: dict[str, Any]) -> None:
        assert step == "reading"
