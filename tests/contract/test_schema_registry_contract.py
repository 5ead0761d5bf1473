"""What every client may expect of the schema registry, on a log in memory and on a real broker alike."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import quote

import httpx
import pytest

from diurna_schemas.errors import Conflict, Refused, UnknownSchema
from diurna_streams.log.kafka import KafkaLog
from diurna_streams.log.memory import MemoryLog
from diurna_streams.log.port import Log
from diurna_streams.schema_registry.client import RegisteredSchema, SchemaRegistryClient
from diurna_streams.schema_registry.routes import BODY_BYTES_MAX, build_app
from diurna_streams.schema_registry.store import SchemaRegistry
from diurna_streams.schema_registry.topic import SchemaTopic

BASE = "http://registry"
NARROW = json.dumps({"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]})
WIDE = json.dumps({"type": "record", "name": "R", "fields": [{"name": "x", "type": "long"}]})


@pytest.fixture(scope="module", params=["memory", "kafka"])
def bootstrap(request: pytest.FixtureRequest) -> str | None:
    """The broker, or None for the log in memory."""
    return None if request.param == "memory" else str(request.getfixturevalue("kafka_bootstrap"))


@pytest.fixture(scope="module")
async def log(bootstrap: str | None) -> AsyncIterator[Log]:
    async with MemoryLog() if bootstrap is None else KafkaLog(bootstrap) as made:
        yield made


@pytest.fixture
def topic() -> str:
    return f"_schemas-{uuid.uuid4().hex[:8]}"


class Served:
    """A registry on a topic, its HTTP face, and a client of it."""

    def __init__(self, registry: SchemaRegistry) -> None:
        transport = httpx.ASGITransport(build_app(registry))
        self.http = httpx.AsyncClient(transport=transport, base_url=BASE)
        self.client = SchemaRegistryClient(BASE, transport=transport)


async def started(stack: AsyncExitStack, log: Log, topic: str) -> Served:
    served = Served(await stack.enter_async_context(SchemaRegistry.open(SchemaTopic(log, topic=topic))))
    stack.push_async_callback(served.http.aclose)
    stack.push_async_callback(served.client.close)
    return served


@pytest.fixture
async def served(log: Log, topic: str) -> AsyncIterator[Served]:
    async with AsyncExitStack() as stack:
        yield await started(stack, log, topic)


def refusal(response: httpx.Response) -> tuple[int, int]:
    assert response.headers["content-type"] == "application/vnd.schemaregistry.v1+json"
    assert set(response.json()) == {"error_code", "message"}
    return response.status_code, response.json()["error_code"]


async def test_what_is_registered_is_found_by_id_subject_and_schema(served: Served) -> None:
    schema_id = await served.client.register("t-value", NARROW)
    assert await served.client.register("t-value", f"  {NARROW} ") == schema_id
    assert await served.client.register("u-value", NARROW) == schema_id
    assert await served.client.lookup("t-value", NARROW) == schema_id
    assert await served.client.schema_by_id(schema_id) == NARROW
    expected = [RegisteredSchema(subject, 1, schema_id, NARROW) for subject in ("t-value", "u-value")]
    assert await served.client.all_schemas() == expected
    answers = {
        "/subjects": ["t-value", "u-value"],
        "/subjects?subjectPrefix=u": ["u-value"],
        "/subjects?limit=1&offset=1": ["u-value"],
        "/subjects/t-value/versions": [1],
        "/subjects/t-value/versions/latest": {"subject": "t-value", "version": 1, "id": schema_id, "schema": NARROW},
        "/subjects/t-value/versions/-1/schema": json.loads(NARROW),
        "/subjects/t-value/versions/1/referencedby": [],
        f"/schemas/ids/{schema_id}?subject=t-value&fetchMaxId=false": {"schema": NARROW},
        f"/schemas/ids/{schema_id}?fetchMaxId=true": {"schema": NARROW, "maxId": schema_id},
        f"/schemas/ids/{schema_id}/schema": json.loads(NARROW),
        f"/schemas/ids/{schema_id}/subjects": ["t-value", "u-value"],
        f"/schemas/ids/{schema_id}/versions?offset=0&limit=-1": [
            {"subject": "t-value", "version": 1},
            {"subject": "u-value", "version": 1},
        ],
        "/schemas/types": ["AVRO"],
        "/contexts": ["."],
        "/config": {"compatibilityLevel": "BACKWARD"},
        "/mode": {"mode": "READWRITE"},
    }
    assert {path: (await served.http.get(path)).json() for path in answers} == answers


async def test_an_incompatible_schema_is_refused_and_the_path_is_named(served: Served) -> None:
    await served.client.register("t", WIDE)
    assert not await served.client.compatible("t", NARROW)
    assert await served.client.compatible("another", NARROW)
    with pytest.raises(Conflict, match="x: the reader expects int, the writer wrote long"):
        await served.client.register("t", NARROW)
    verdict = await served.http.post("/compatibility/subjects/t/versions/latest?verbose=true", json={"schema": NARROW})
    assert verdict.json()["is_compatible"] is False
    assert "the writer wrote long" in verdict.json()["messages"][0]
    assert (await served.http.get("/subjects/t/versions")).json() == [1]
    await served.client.set_compatibility("t", "FORWARD")
    assert await served.client.compatible("t", NARROW)
    await served.client.register("t", NARROW)


async def test_levels_and_modes_are_set_asked_and_cleared(served: Served) -> None:
    await served.client.set_compatibility(None, "BACKWARD_TRANSITIVE")
    assert (await served.http.get("/config")).json() == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}
    assert refusal(await served.http.get("/config/s")) == (404, 40408)
    assert (await served.http.get("/config/s?defaultToGlobal=true")).json()[
        "compatibilityLevel"
    ] == "BACKWARD_TRANSITIVE"
    assert (await served.http.put("/config/s", json={"compatibility": "none"})).json() == {"compatibility": "NONE"}
    assert (await served.http.delete("/config/s")).json() == {"compatibilityLevel": "NONE"}
    assert refusal(await served.http.get("/config/s")) == (404, 40408)
    assert refusal(await served.http.put("/config", json={"compatibility": "SIDEWARD"})) == (422, 42203)
    with pytest.raises(Refused, match="SIDEWARD"):
        await served.client.set_compatibility("s", "SIDEWARD")
    assert (await served.http.put("/mode/s", json={"mode": "READONLY"})).json() == {"mode": "READONLY"}
    assert refusal(await served.http.post("/subjects/s/versions", json={"schema": NARROW})) == (422, 42205)
    assert (await served.http.delete("/mode/s")).json() == {"mode": "READONLY"}
    assert refusal(await served.http.put("/mode", json={"mode": "SOMETIMES"})) == (422, 42204)


async def test_a_deletion_is_soft_first_and_then_for_good(served: Served) -> None:
    first = await served.client.register("s", NARROW)
    second = await served.client.register("s", WIDE)
    assert refusal(await served.http.delete("/subjects/s/versions/1?permanent=true")) == (404, 40407)
    assert (await served.http.delete("/subjects/s/versions/1")).json() == 1
    assert refusal(await served.http.delete("/subjects/s/versions/1")) == (404, 40406)
    assert (await served.http.get("/subjects/s/versions")).json() == [2]
    assert (await served.http.get("/subjects/s/versions?deleted=true")).json() == [1, 2]
    assert (await served.http.get("/subjects/s/versions?deletedOnly=true")).json() == [1]
    assert refusal(await served.http.get("/subjects/s/versions/1")) == (404, 40402)
    assert (await served.http.get(f"/schemas/ids/{first}")).json() == {"schema": NARROW}
    assert (await served.http.delete("/subjects/s/versions/1?permanent=true")).json() == 1
    assert refusal(await served.http.get(f"/schemas/ids/{first}")) == (404, 40403)
    assert refusal(await served.http.delete("/subjects/s?permanent=true")) == (404, 40405)
    assert (await served.http.delete("/subjects/s")).json() == [2]
    assert refusal(await served.http.delete("/subjects/s")) == (404, 40404)
    assert (await served.http.get("/subjects")).json() == []
    assert (await served.http.get("/subjects?deleted=true")).json() == ["s"]
    assert (await served.http.delete("/subjects/s?permanent=true")).json() == [2]
    assert refusal(await served.http.delete("/subjects/s")) == (404, 40401)
    assert refusal(await served.http.get(f"/schemas/ids/{second}")) == (404, 40403)


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/subjects/none/versions", None, (404, 40401)),
        ("GET", "/subjects/none/versions/1", None, (404, 40401)),
        ("GET", "/subjects/none/versions/zero", None, (422, 42202)),
        ("GET", "/subjects/none/versions/0", None, (422, 42202)),
        ("GET", "/subjects/none/versions/4294967296", None, (422, 42202)),
        ("GET", "/schemas/ids/4711", None, (404, 40403)),
        ("GET", "/schemas/ids/x", None, (404, 404)),
        ("GET", "/schemas/ids/1?fetchMaxId=maybe", None, (422, 422)),
        ("POST", "/subjects/none", {"schema": NARROW}, (404, 40401)),
        ("POST", "/subjects/s/versions", {"schema": "nonsense"}, (422, 42201)),
        ("POST", "/subjects/s/versions", {"schema": 7}, (422, 422)),
        ("POST", "/subjects/s/versions", {}, (422, 422)),
        ("POST", "/subjects/s/versions", {"schema": "{}", "schemaType": "PROTOBUF"}, (422, 42201)),
        ("POST", "/subjects/s/versions", {"schema": NARROW, "references": [{"name": "a"}]}, (422, 42201)),
        ("POST", "/subjects/s/versions", {"schema": NARROW, "id": 9}, (422, 42205)),
        ("POST", "/subjects/%00/versions", {"schema": NARROW}, (422, 42208)),
        ("POST", f"/subjects/{'s' * 501}/versions", {"schema": NARROW}, (422, 42208)),
        ("POST", "/subjects/s/versions", {"schema": " " * BODY_BYTES_MAX}, (413, 413)),
        ("GET", "/associations/resources/-/t?x=1", None, (404, 404)),
        ("GET", "/nowhere", None, (404, 404)),
        ("PUT", "/subjects", None, (405, 405)),
    ],
)
async def test_bad_input_is_answered_with_the_code_clients_know(
    served: Served, method: str, path: str, body: object, expected: tuple[int, int]
) -> None:
    assert refusal(await served.http.request(method, path, json=body)) == expected
    assert (await served.http.get("/subjects?deleted=true")).json() == []


async def test_a_body_that_is_no_json_is_refused(served: Served) -> None:
    assert refusal(await served.http.post("/subjects/s/versions", content=b"\xff{")) == (422, 422)


@pytest.mark.parametrize("subject", ["a/b", "a/versions/1", "ü ß", "100%", "%2F", "a?b#c", "a+b", ":.ctx:s"])
async def test_a_subject_may_hold_any_printable_character(served: Served, subject: str) -> None:
    schema_id = await served.client.register(subject, NARROW)
    assert (await served.http.get("/subjects")).json() == [subject]
    assert (await served.http.get(f"/subjects/{quote(subject, safe='')}/versions/latest")).json()["id"] == schema_id
    await served.client.set_compatibility(subject, "NONE")
    assert await served.client.compatible(subject, '"string"')


async def test_an_unknown_id_or_schema_is_told_from_a_failure(served: Served) -> None:
    with pytest.raises(UnknownSchema):
        await served.client.schema_by_id(4711)
    assert await served.client.lookup("s", NARROW) is None


async def test_a_restart_finds_everything_again(log: Log, topic: str) -> None:
    async with AsyncExitStack() as stack:
        served = await started(stack, log, topic)
        await served.client.set_compatibility("s", "NONE")
        ids = [await served.client.register("s", text) for text in (NARROW, WIDE, '"string"')]
        await served.http.delete("/subjects/s/versions/2")
        before = (await served.http.get("/schemas?deleted=true")).json()
    async with AsyncExitStack() as stack:
        served = await started(stack, log, topic)
        assert (await served.http.get("/schemas?deleted=true")).json() == before
        assert (await served.http.get("/config/s")).json() == {"compatibilityLevel": "NONE"}
        assert await served.client.register("s", '"bytes"') == max(ids) + 1


async def test_two_registries_on_one_log_are_one_registry(log: Log, topic: str) -> None:
    texts = [json.dumps({"type": "fixed", "name": f"F{size}", "size": size}) for size in range(1, 16)]
    async with AsyncExitStack() as stack:
        both = [await started(stack, log, topic) for _ in range(2)]
        await both[0].client.set_compatibility(None, "NONE")
        answers = await asyncio.gather(
            *(served.client.register(f"s{index % 3}", text) for index, text in enumerate(texts) for served in both)
        )
        assert answers[::2] == answers[1::2], "one schema, one id"
        assert len(set(answers)) == len(texts), "one id, one schema"
        lists = [await served.client.all_schemas() for served in both]
        assert lists[0] == lists[1]
        for subject in ("s0", "s1", "s2"):
            live = sorted(one.version for one in lists[0] if one.subject == subject)
            assert len(live) == len(set(live)) == 5
        assert {one.id: one.schema for one in lists[0]} == dict(zip(answers[::2], texts, strict=True))


async def test_what_one_registry_wrote_another_answers_at_once(log: Log, topic: str) -> None:
    async with AsyncExitStack() as stack:
        one, other = [await started(stack, log, topic) for _ in range(2)]
        for size in range(1, 6):
            text = json.dumps({"type": "fixed", "name": "F", "size": size})
            schema_id = await one.client.register(f"s{size}", text)
            assert (await other.http.get(f"/schemas/ids/{schema_id}")).json() == {"schema": text}
