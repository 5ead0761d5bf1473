"""The AsyncAPI document: valid by AsyncAPI's own schema, and every topic and record there is stands in it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import fastavro
import jsonschema
import pytest

from diurna_schemas.agents import DeregisterAgent
from diurna_schemas.asyncapi import asyncapi_document
from diurna_schemas.catalogue import RECORDS_OF_TOPIC, full_name, schema_of
from diurna_schemas.envelope import Link, command_headers, event_headers
from diurna_schemas.locks import LockWaitCancelled
from diurna_schemas.topics import TOPICS

SCHEMA = Path(__file__).parents[1] / "support" / "asyncapi" / "3.0.0.json.gz"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads(gzip.decompress(SCHEMA.read_bytes())))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(json.dumps(asyncapi_document("0.1.0", "one:9092, two:9092")))


def followed(document: dict[str, Any], reference: str) -> Any:
    """What a reference names, part by part as JSON Pointer has it."""
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def references(value: Any) -> list[str]:
    match value:
        case {"$ref": str(reference)}:
            return [reference]
        case dict():
            return [one for item in value.values() for one in references(item)]
        case list():
            return [one for item in value for one in references(item)]
        case _:
            return []


def test_the_document_is_valid_by_asyncapis_own_schema(
    validator: jsonschema.Draft7Validator, document: dict[str, Any]
) -> None:
    assert [error.message[:200] for error in validator.iter_errors(document)] == []
    assert [error.message[:200] for error in validator.iter_errors(asyncapi_document("0.1.0"))] == []


def test_the_schema_notices_what_is_wrong(validator: jsonschema.Draft7Validator, document: dict[str, Any]) -> None:
    assert not validator.is_valid({**document, "asyncapi": "2.6.0"})
    channels = {**document["channels"], "agents.events": {"adress": "agents.events"}}
    assert not validator.is_valid({**document, "channels": channels})
    assert not validator.is_valid({name: part for name, part in document.items() if name != "info"})


def test_every_topic_and_every_record_stands_in_it_with_its_own_schema(document: dict[str, Any]) -> None:
    assert document["channels"].keys() == TOPICS.keys()
    for topic, records in RECORDS_OF_TOPIC.items():
        found = document["channels"][topic]
        assert found["bindings"]["kafka"]["partitions"] == TOPICS[topic].partitions
        messages = [followed(document, one["$ref"]) for one in found["messages"].values()]
        assert [one["payload"]["schema"] for one in messages] == [schema_of(full_name(record)) for record in records]
    for message in document["components"]["messages"].values():
        fastavro.parse_schema(message["payload"]["schema"])


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = references(document)
    assert len(found) > 100
    for reference in found:
        assert followed(document, reference), reference


def test_the_headers_of_a_record_are_as_the_document_says(document: dict[str, Any]) -> None:
    command = DeregisterAgent(command_id="c", agent_id="a", reason="")
    event = LockWaitCancelled.model_construct(
        command_id="c", at_ms=0, resource_id="r", lock_id="l", agent_id="a", waited_ms=0
    )
    sent = {
        "agents.DeregisterAgent": command_headers(
            command, command_id="c", source="/s", at_ms=0, correlation_id="w", traceparent=None
        ),
        "locks.LockWaitCancelled": event_headers(
            event, Link(1, 2, 0, "0" * 32, "1" * 32), partition=0, correlation_id=None, traceparent=None
        ),
    }
    for name, headers in sent.items():
        schema = document["components"]["messages"][name]["headers"]
        told = {key: value.decode() for key, value in headers}
        jsonschema.validate(told, schema)
        assert told.keys() <= schema["properties"].keys()
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**told, "ce_type": "another"}, schema)
