"""Which texts are Avro schemas, and what is said about those that are not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diurna_schemas.catalogue import RECORDS, schema_text
from diurna_streams.schema_registry.parsing import SCHEMA_CHARACTERS_MAX, parse
from diurna_streams.schema_registry.refusals import RegistryRefusal


def record(*fields: dict[str, Any]) -> str:
    return json.dumps({"type": "record", "name": "R", "fields": list(fields)})


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_every_schema_of_ours_is_taken(name: str) -> None:
    assert parse(schema_text(name)).text == schema_text(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "{}",
        "7",
        "null",
        '"strnig"',
        '{"type":"record"}',
        '{"type":"record","name":"R"}',
        '{"type":"record","name":"R","fields":[{"name":"x","type":"Unknown"}]}',
        '{"type":"record","name":"R","fields":[{"name":"x"}]}',
        '{"type":"record","name":"R","fields":[{"name":"x","type":"int"},{"name":"x","type":"int"}]}',
        '{"type":"enum","name":"E","symbols":"A"}',
        '{"type":"fixed","name":"F"}',
        '{"type":"array"}',
        '["null","null"]',
        '{"type":"record","name":"1R","fields":[]}',
        '{"type":"record","name":"R","doc":"\\ud800","fields":[]}',
        "[" * 100_000,
        '{"type":"array","items":' * 5_000 + '"int"' + "}" * 5_000,
    ],
    ids=lambda text: text[:60] or "empty",
)
def test_what_is_no_schema_is_refused_and_nothing_breaks(text: str) -> None:
    with pytest.raises(RegistryRefusal) as caught:
        parse(text)
    assert (caught.value.http_status, caught.value.error_code) == (422, 42201)
    assert len(str(caught.value)) < 1_000


def test_a_schema_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(RegistryRefusal, match=f"at most {SCHEMA_CHARACTERS_MAX}"):
        parse('"string"' + " " * SCHEMA_CHARACTERS_MAX)


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("int", 2**31),
        ("int", True),
        ("long", "1"),
        ("string", None),
        ("boolean", 0),
        ("null", "null"),
        ({"type": "array", "items": "int"}, ["a"]),
        ({"type": "map", "values": "int"}, {"k": "v"}),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "B"),
        ({"type": "fixed", "name": "F", "size": 2}, "abc"),
        ({"type": "record", "name": "N", "fields": [{"name": "y", "type": "int"}]}, {}),
        ({"type": "long", "logicalType": "timestamp-millis"}, "now"),
        (["null", "string"], 3),
    ],
)
def test_a_default_that_its_type_does_not_allow_is_refused(kind: Any, default: Any) -> None:
    with pytest.raises(RegistryRefusal, match="x"):
        parse(record({"name": "x", "type": kind, "default": default}))


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("int", -1),
        ("double", 1),
        ("bytes", "\u00ff"),
        (["null", "string"], None),
        (["null", "string"], "x"),
        ({"type": "array", "items": "int"}, []),
        ({"type": "record", "name": "N", "fields": [{"name": "y", "type": "int", "default": 1}]}, {}),
        ({"type": "long", "logicalType": "timestamp-millis"}, 0),
    ],
)
def test_a_default_that_its_type_allows_is_taken(kind: Any, default: Any) -> None:
    parse(record({"name": "x", "type": kind, "default": default}))
