"""What people see of a running stack: its pages, and every topic decoded in a Kafka UI."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from kaskade.consumer import KaskadeConsumer, ListRecords
from kaskade.models import Deserialization
from kaskade.timeouts import TimeoutConfig
from rich.text import Text
from textual.widgets import _data_table

from diurna_schemas.topics import HEARTBEATS, TOPICS

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

SPOKEN = ("agents.commands", "agents.events", HEARTBEATS, "locks.commands", "locks.events", "workflows.commands",
          "workflows.events", "broadcasts")  # fmt: skip
"""The topics something stands on once somebody has spoken to the team. Others are looked at if there is something."""


@pytest.fixture(scope="module")
def stack(diurna: Any) -> dict[str, Any]:
    """The addresses, after a word about everything."""
    found: dict[str, Any] = diurna.json("status")
    with httpx.Client(base_url=found["api_url"], timeout=60) as api:
        for path, body in (
            ("/locks", {"resource_id": "seen:lock", "agent_id": "cicd", "timeout": 5}),
            ("/workflows", {"workflow_type": "seen", "initial_state": {"a": 1}, "workflow_id": "seen-1"}),
            ("/events", {"event_type": "task.delegated", "data": {"a": 1}}),
            ("/agent-request", {"source_agent": "seen", "target_agent": "cicd", "request_type": "get_status",
                                "payload": {}}),
        ):  # fmt: skip
            response = api.post(path, json=body)
            assert response.is_success or response.status_code == 409, response.text
    return found


async def shown(stack: dict[str, Any], topic: str) -> list[dict[str, Any]]:
    """The first records of a topic as kaskade shows them; none where it waited in vain."""
    app = KaskadeConsumer(
        topic,
        {"bootstrap.servers": stack["kafka_bootstrap_servers"], "auto.offset.reset": "earliest"},
        {"url": stack["schema_registry_url"]},
        {},
        {},
        Deserialization.STRING,
        Deserialization.STRING if topic == "_schemas" else Deserialization.REGISTRY,
        timeouts=TimeoutConfig(consumer_idle=5.0),
    )
    async with app.run_test(size=(200, 50)) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        found = app.query_one(ListRecords)
        assert app.query_one("#records-table").row_count == len(found.records)  # type: ignore[attr-defined]
        return [record.dict() for record in found.records.values()]


@pytest.fixture
def plain_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """kaskade takes brackets for markup, and ends where the bytes of a snapshot look like a closing tag of it."""
    formatted = _data_table.default_cell_formatter

    def plainly(obj: object, *rest: Any, **more: Any) -> Any:
        return formatted(Text(obj, end="") if isinstance(obj, str) else obj, *rest, **more)

    monkeypatch.setattr(_data_table, "default_cell_formatter", plainly)


@pytest.mark.usefixtures("plain_cells")
async def test_every_topic_is_read_decoded_in_a_kafka_ui(stack: dict[str, Any]) -> None:
    seen = dict(zip(TOPICS, await asyncio.gather(*(shown(stack, topic) for topic in TOPICS)), strict=True))
    assert [topic for topic in SPOKEN if not seen[topic]] == []
    answer = await asyncio.to_thread(httpx.get, f"{stack['api_url']}/dead-letters", params={"limit": 1000})
    dead = {letter["id"] for letter in answer.json()}  # other tests write what nobody understands, a Kafka UI neither
    for topic, records in seen.items():
        for record in records:
            if f"{topic}:{record['partition']}:{record['offset']}" in dead:
                continue
            value, key = record["value"], record["key"]
            assert value.get("error") is None, (topic, value)
            assert key.get("error") is None, (topic, key)
            if topic == "_schemas":
                continue
            assert isinstance(value["content"], dict), (topic, value)
            schema = value.get("schema")  # not told of one schema that several topics have, as dead letters do
            assert schema is not None or topic not in SPOKEN, (topic, value)
            assert schema is None or schema["subject"].startswith(f"{topic}-"), schema
            for header in record["headers"]:
                assert json.dumps(header).isascii(), (topic, header)


async def test_the_running_server_shows_its_pages_and_rebuilds_its_tables(stack: dict[str, Any]) -> None:
    html = {"accept": "text/html"}
    async with httpx.AsyncClient(base_url=stack["api_url"], timeout=60) as api:
        for path in (
            "/",
            "/agents",
            "/agents/cicd",
            "/workflows/seen-1",
            "/locks",
            "/events",
            "/projections",
            "/asyncapi",
        ):
            page = await api.get(path, headers=html)
            assert page.status_code == 200, path
            assert page.headers["content-type"].startswith("text/html")
        assert (await api.get("/agents")).headers["content-type"] == "application/json"
        document = (await api.get("/asyncapi.json")).json()
        assert document["servers"]["kafka"]["host"] == stack["kafka_bootstrap_servers"]
        for kind in ("rebuild", "verify"):
            started = await api.post(f"/projections/diurna/{kind}")
            assert started.status_code == 202, started.text
            async with asyncio.timeout(60):
                while (job := (await api.get(started.headers["location"])).json())["status"] == "running":  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert job["status"] == "completed", job
            assert job["done"] >= job["total"], "what is written meanwhile comes on top"
            assert job["done"] > 0 or kind == "verify"
        assert job["different"] == []
        assert "All tables are equal" in (await api.get("/projections", headers=html)).text
