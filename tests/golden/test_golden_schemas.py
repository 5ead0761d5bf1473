"""The gate: no schema changes in a way that an old record could not be read any more, and none unnoticed."""

from __future__ import annotations

import copy
import json

import pytest

from diurna_schemas.catalogue import RECORDS, schema_of
from diurna_schemas.codec import Codec
from support.golden import (
    RECORDS_FILE,
    SCHEMAS,
    WRITE_IT,
    JsonSchema,
    committed_versions,
    complaints,
    example_of,
    golden_codec,
    plain,
)

NAMES = sorted(RECORDS)
STORED = json.loads(RECORDS_FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_can_read_all_its_versions_and_is_the_newest_of_them(name: str) -> None:
    assert complaints(name, committed_versions(name), schema_of(name)) == []


def test_no_record_that_was_ever_written_is_forgotten() -> None:
    assert {path.name for path in SCHEMAS.iterdir()} <= set(RECORDS), "its records still stand on somebody's log"
    assert set(STORED) <= set(RECORDS)
    assert set(STORED) == set(RECORDS), f"this writes the new ones: {WRITE_IT}"


@pytest.mark.parametrize("name", sorted(STORED))
def test_a_record_of_version_1_is_read_for_ever(name: str) -> None:
    record = golden_codec().decode(bytes.fromhex(STORED[name]["bytes"]))
    assert type(record) is RECORDS[name]
    fields = plain(record)
    assert {key: fields[key] for key in STORED[name]["record"]} == STORED[name]["record"]


@pytest.mark.parametrize("name", sorted(STORED))
def test_a_golden_record_says_something_in_every_field(name: str) -> None:
    example = example_of(RECORDS[name])
    assert Codec.numbered().decode(Codec.numbered().encode(example)) == example
    assert None not in STORED[name]["record"].values()


BASE = "diurna.agents.RequestCompleted"


def changed(change: str) -> JsonSchema:
    schema = copy.deepcopy(committed_versions(BASE)[-1])
    fields = {field["name"]: field for field in schema["fields"]}
    match change:
        case "a field more without a default":
            schema["fields"].append({"name": "colour", "type": "string"})
        case "a field renamed":
            fields["instance_id"]["name"] = "worker_id"
        case "a type narrowed":
            fields["attempt"]["type"] = "int"
        case "a null no longer allowed":
            fields["result"]["type"] = "string"
        case "another meaning of the same number":
            fields["at_ms"]["type"] = {"type": "long", "logicalType": "timestamp-micros"}
        case "another name":
            schema["name"] = "RequestFinished"
        case "a field more with a default":
            schema["fields"].append({"name": "colour", "type": "string", "default": "red"})
        case "a field less":
            schema["fields"] = [field for field in schema["fields"] if field["name"] != "metadata"]
        case "a null allowed":
            fields["status"]["type"] = ["null", "string"]
        case _:
            raise AssertionError(change)
    return schema


@pytest.mark.parametrize(
    "change",
    ["a field more without a default", "a field renamed", "a type narrowed", "a null no longer allowed",
     "another meaning of the same number", "another name"],
)  # fmt: skip
def test_the_gate_itself_stops_an_incompatible_change(change: str) -> None:
    found = complaints(BASE, committed_versions(BASE), changed(change))
    assert found
    assert all("cannot read what version 1 wrote" in complaint for complaint in found)


@pytest.mark.parametrize("change", ["a field more with a default", "a field less", "a null allowed"])
def test_the_gate_itself_asks_for_a_new_version_of_a_compatible_change(change: str) -> None:
    versions, current = committed_versions(BASE), changed(change)
    assert complaints(BASE, versions, current) == [f"{BASE} is no committed version yet; this writes it: {WRITE_IT}"]
    assert complaints(BASE, [*versions, current], current) == []


def test_the_gate_looks_at_all_versions_not_only_at_the_newest() -> None:
    """A field that went and comes back with another type reads the newest version, and not the first."""
    first = committed_versions(BASE)[0]
    second = changed("a field less")
    third = copy.deepcopy(second)
    third["fields"].append({"name": "metadata", "type": "long", "default": 0})
    assert complaints(BASE, [second, third], third) == []
    assert "cannot read what version 1 wrote" in complaints(BASE, [first, second, third], third)[0]
