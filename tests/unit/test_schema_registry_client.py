"""What the client makes of a registry's answers: retries, fall-backs for lesser registries, errors of the one tree."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from diurna_schemas.errors import Conflict, InvalidInput, Refused, Unavailable, UnknownSchema, Unreadable
from diurna_streams.schema_registry.client import RegisteredSchema, SchemaRegistryClient

Answer = Callable[[httpx.Request], httpx.Response]


def client_of(answer: Answer, *, deadline_s: float = 5.0) -> SchemaRegistryClient:
    return SchemaRegistryClient("http://registry/prefix/", deadline_s=deadline_s, transport=httpx.MockTransport(answer))


def scripted(*answers: httpx.Response | Exception) -> tuple[Answer, list[str]]:
    """Answers in order, and what was asked."""
    asked: list[str] = []
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.raw_path.decode()}")
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return answer, asked


def no(status: int, error_code: int) -> httpx.Response:
    return httpx.Response(status, json={"error_code": error_code, "message": "no"})


async def test_a_registry_that_comes_up_late_is_waited_for() -> None:
    answer, asked = scripted(httpx.ConnectError("refused"), httpx.Response(503), httpx.Response(200, json={"id": 7}))
    async with client_of(answer) as client:
        assert await client.register("a/b", '"int"') == 7
    assert asked == ["POST /prefix/subjects/a%2Fb/versions"] * 3


async def test_a_registry_that_stays_away_is_unavailable_after_the_deadline() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with client_of(answer, deadline_s=0.2) as client, asyncio.timeout(5):
        with pytest.raises(Unavailable, match="http://registry/prefix did not answer: ConnectError: refused"):
            await client.schema_by_id(1)


async def test_what_was_answered_once_is_not_asked_again() -> None:
    answer, asked = scripted(httpx.Response(200, json={"id": 7}), httpx.Response(200, json={"schema": '"int"'}))
    async with client_of(answer) as client:
        for _ in range(3):
            assert await client.register("s", '"int"') == 7
            assert await client.lookup("s", '"int"') == 7
            assert await client.schema_by_id(7) == '"int"'
    assert len(asked) == 2


async def test_a_refusal_is_not_asked_again() -> None:
    answer, asked = scripted(no(422, 42201), no(409, 409), no(404, 40403), no(404, 40401))
    async with client_of(answer) as client:
        with pytest.raises(Refused) as caught:
            await client.register("s", "nonsense")
        assert caught.value.code == "schema_registry_42201"
        with pytest.raises(Conflict):
            await client.register("s", '"int"')
        with pytest.raises(UnknownSchema):
            await client.schema_by_id(9)
        assert await client.lookup("s", '"int"') is None
    assert len(asked) == 4


async def test_a_wrong_address_is_not_taken_for_an_unknown_schema() -> None:
    answer, _ = scripted(httpx.Response(404, text="nothing here"))
    async with client_of(answer) as client:
        with pytest.raises(Refused, match="HTTP 404"):
            await client.schema_by_id(9)
    with pytest.raises(InvalidInput, match="schema_registry_url"):
        SchemaRegistryClient("localhost:8081")


@pytest.mark.parametrize("lesser", [httpx.Response(405), httpx.Response(200, json=[{"schema": '"int"'}])])
async def test_all_schemas_are_asked_one_by_one_where_one_answer_cannot_say_it(lesser: httpx.Response) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        match request.url.path.removeprefix("/prefix"):
            case "/subjects":
                return httpx.Response(200, json=["a", "b"])
            case "/subjects/a/versions":
                return httpx.Response(200, json=[1, 2])
            case "/subjects/b/versions":
                return httpx.Response(200, json=[5])
            case path if path.startswith("/subjects/"):
                _, _, subject, _, version = path.split("/")
                body = {"subject": subject, "version": int(version), "id": int(version) + 10, "schema": '"int"'}
                return httpx.Response(200, json=body)
            case _:
                return lesser

    async with client_of(answer) as client:
        found = await client.all_schemas()
    assert found == [
        RegisteredSchema(subject, version, version + 10, '"int"') for subject, version in (("a", 1), ("a", 2), ("b", 5))
    ]


async def test_compatibility_is_asked_of_the_latest_where_all_versions_cannot_be() -> None:
    answer, asked = scripted(httpx.Response(405), httpx.Response(200, json={"is_compatible": False}))
    async with client_of(answer) as client:
        assert not await client.compatible("s", '"int"')
    assert [path.rpartition("/")[2] for path in asked] == ["versions", "latest"]


async def test_a_new_subject_takes_any_schema() -> None:
    answer, _ = scripted(no(404, 40401), no(404, 40401))
    async with client_of(answer) as client:
        assert await client.compatible("s", '"int"')


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"id":"7"}'])
async def test_an_answer_that_makes_no_sense_is_unreadable(body: bytes) -> None:
    answer, _ = scripted(httpx.Response(200, content=body))
    async with client_of(answer) as client:
        with pytest.raises(Unreadable):
            await client.register("s", '"int"')


async def test_a_default_that_apicurio_refuses_is_sent_again_escaped() -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content)["schema"])
        return no(422, 42201) if '"{}"' in sent[-1] else httpx.Response(200, json={"id": 7})

    schema = '{"type":"record","name":"R","fields":[{"name":"m","type":"string","default":"{}"}]}'
    async with client_of(answer) as client:
        assert await client.register("s", schema) == 7
    assert len(sent) == 2
    assert json.loads(sent[1]) == json.loads(schema)
