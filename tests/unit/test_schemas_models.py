"""The models are equal to the Avro files: names, fields, order, types, defaults, nullability."""

# pyright: reportUnknownVariableType=false
from __future__ import annotations

import inspect
import json
import types
import typing
from importlib import resources
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import avro.schema
import fastavro.schema
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from diurna_schemas import topics
from diurna_schemas.catalogue import (
    MESSAGES,
    RECORDS,
    RECORDS_OF_TOPIC,
    TYPE_NAMES,
    full_name,
    schema_of,
    schema_text,
    subjects,
)
from diurna_schemas.message import Command, Event, Message, Milliseconds, Part
from support.golden import committed_versions

PLAIN = {str: "string", int: "long", float: "double", bool: "boolean", bytes: "bytes", type(None): "null"}
POINTS_IN_TIME = ("at_ms", "deadline_ms", "timestamp_ms", "heartbeat_ms", "not_before_ms")
"""How the name of a point in time ends; every other number of milliseconds is a span."""


def expected_schema(record: type[BaseModel], defined: set[str]) -> Any:
    """What the Avro schema of a model must be, derived from the model alone."""
    namespace = f"diurna.{record.__module__.rpartition('.')[2]}"
    if record.__name__ in defined:
        return f"{namespace}.{record.__name__}"
    defined.add(record.__name__)
    hints = typing.get_type_hints(record, include_extras=True)
    fields: list[dict[str, Any]] = []
    for name, info in record.model_fields.items():
        field: dict[str, Any] = {"name": name, "type": expected_type(name, hints[name], defined)}
        default = info.get_default(call_default_factory=True, validated_data={})
        if default is not PydanticUndefined:
            field["default"] = default
        fields.append(field)
    return {"type": "record", "name": record.__name__, "namespace": namespace, "fields": fields}


def expected_type(name: str, annotation: Any, defined: set[str]) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation == Milliseconds and name.endswith(POINTS_IN_TIME):
        return {"type": "long", "logicalType": "timestamp-millis"}
    if origin is Annotated:
        return expected_type(name, arguments[0], defined)
    if origin is Literal:
        assert all(isinstance(value, str) for value in arguments)
        return "string"  # an Avro enum could never grow without breaking old readers
    if origin in {Union, types.UnionType}:
        some = [part for part in arguments if part is not type(None)]
        assert (len(some), len(arguments)) == (1, 2), f"{name}: only `X | None` has a schema here"
        return ["null", expected_type(name, some[0], defined)]
    if origin is list:
        return {"type": "array", "items": expected_type("", arguments[0], defined)}
    if origin is dict:
        return {"type": "map", "values": expected_type("", arguments[1], defined)}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return expected_schema(annotation, defined)
    return PLAIN[annotation]


def without_docs(schema: Any) -> Any:
    match schema:
        case dict():
            return {key: without_docs(value) for key, value in schema.items() if key != "doc"}
        case list():
            return [without_docs(item) for item in schema]
        case _:
            return schema


def collapsed(schema: Any) -> Any:
    """`{"type": "long"}` as `"long"`: the avro library leaves it where it drops a logical type."""
    match schema:
        case {"type": str(name), **rest} if not rest:
            return name
        case dict():
            return {key: collapsed(value) for key, value in schema.items()}
        case list():
            return [collapsed(item) for item in schema]
        case _:
            return schema


NAMES = sorted(RECORDS)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_equal_to_its_avro_file(name: str) -> None:
    assert without_docs(schema_of(name)) == expected_schema(RECORDS[name], set())


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_says_what_its_class_says(name: str) -> None:
    first_paragraph = inspect.cleandoc(RECORDS[name].__doc__ or "").split("\n\n")[0]
    assert schema_of(name)["doc"].split() == first_paragraph.split() or first_paragraph in schema_of(name)["doc"]


@pytest.mark.parametrize("name", NAMES)
def test_the_avro_library_accepts_the_file_and_both_libraries_agree_on_its_canonical_form(name: str) -> None:
    parsed = avro.schema.parse(schema_text(name))
    canonical = fastavro.schema.to_parsing_canonical_form(json.loads(schema_text(name)))
    assert collapsed(json.loads(parsed.canonical_form)) == json.loads(canonical)
    assert json.loads(avro.schema.parse(canonical).canonical_form) == json.loads(canonical)


def test_every_avro_file_belongs_to_a_record_and_every_record_has_one() -> None:
    files = {path.name for path in (resources.files("diurna_schemas") / "avro").iterdir()}
    assert files == {f"{name.removeprefix('diurna.')}.avsc" for name in RECORDS}


def test_every_message_class_is_in_the_catalogue() -> None:
    def leaves(parent: type[Message]) -> set[type[Message]]:
        children = {kind for kind in parent.__subclasses__() if kind.__module__.startswith("diurna_schemas")}
        return {parent} if not children else {leaf for child in children for leaf in leaves(child)}

    assert set(MESSAGES) == leaves(Command) | leaves(Event)
    assert len(TYPE_NAMES) == len(MESSAGES), "two messages share a type name"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_commands_stand_on_topics_of_commands_and_events_on_topics_of_events(message: type[Message]) -> None:
    family = next(family for family in topics.FAMILIES if message.topic in {family.commands, family.events})
    assert message.topic == (family.commands if issubclass(message, Command) else family.events)
    if issubclass(message, Event):
        at_first = {field["name"] for field in committed_versions(full_name(message))[0]["fields"]}
        defaulted = {name for name, info in message.model_fields.items() if not info.is_required()}
        assert defaulted == message.model_fields.keys() - at_first, (
            "a fact leaves nothing to a default but what older facts could not say"
        )


def test_subjects_are_named_by_topic_and_record() -> None:
    named = subjects()
    assert len({subject for subject, _ in named}) == len(named)
    assert ("agents.events-diurna.agents.RequestSubmitted", "diurna.agents.RequestSubmitted") in named
    assert set(RECORDS_OF_TOPIC) <= set(topics.TOPICS)


def test_the_check_itself_notices_a_difference() -> None:
    class Renamed(Part):
        agent: str
        sent_at_ms: Milliseconds

    right = {
        "type": "record",
        "name": "Renamed",
        "namespace": "diurna.test_schemas_models",
        "fields": [
            {"name": "agent", "type": "string"},
            {"name": "sent_at_ms", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ],
    }
    found = expected_schema(Renamed, set())
    assert found == right | {"namespace": found["namespace"]}
    broken = json.loads(json.dumps(found))
    broken["fields"][0]["type"] = ["null", "string"]
    assert broken != found
