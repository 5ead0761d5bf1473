"""Which schemas may read what others wrote: a table of cases, and the library and fastavro as judges beside ours."""

from __future__ import annotations

import io
import json
import time
import warnings
from typing import Any

import avro.compatibility
import avro.schema
import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diurna_schemas.catalogue import RECORDS, schema_of
from diurna_schemas.compatibility import canonical_form, incompatibilities

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}


def record(*fields: dict[str, Any], name: str = "R", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "a.b", "fields": list(fields), **more}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


def decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


BASE = record(field("x", "string"))
NODE = record(field("next", ["null", "a.b.Node"]), name="Node")

CASES: list[tuple[str, Any, Any, bool]] = [
    ("the same schema", BASE, BASE, True),
    ("a new field with a default", record(field("x", "string"), field("y", "int", default=0)), BASE, True),
    ("a new field without default", record(field("x", "string"), field("y", "int")), BASE, False),
    ("a removed field", BASE, record(field("x", "string"), field("y", "int")), True),
    ("int read as long", record(field("x", "long")), record(field("x", "int")), True),
    ("long read as int", record(field("x", "int")), record(field("x", "long")), False),
    ("int read as double", record(field("x", "double")), record(field("x", "int")), True),
    ("double read as float", record(field("x", "float")), record(field("x", "double")), False),
    ("string read as bytes", record(field("x", "bytes")), BASE, True),
    ("bytes read as string", BASE, record(field("x", "bytes")), True),
    ("string read as int", record(field("x", "int")), BASE, False),
    ("a field made optional", record(field("x", ["null", "string"])), BASE, True),
    ("an optional field made required", BASE, record(field("x", ["null", "string"])), False),
    ("a union that grows", record(field("x", ["null", "string", "int"])), record(field("x", ["null", "string"])), True),
    (
        "a union that shrinks",
        record(field("x", ["null", "string"])),
        record(field("x", ["null", "string", "int"])),
        False,
    ),
    ("a union reordered", record(field("x", ["string", "null"])), record(field("x", ["null", "string"])), True),
    ("an enum that grows", record(field("x", enum("A", "B"))), record(field("x", enum("A"))), True),
    ("an enum that shrinks", record(field("x", enum("A"))), record(field("x", enum("A", "B"))), False),
    (
        "an enum that shrinks to a default",
        record(field("x", enum("A", default="A"))),
        record(field("x", enum("A", "B"))),
        True,
    ),
    ("a renamed field", record(field("y", "string")), BASE, False),
    ("a renamed field with an alias", record(field("y", "string", aliases=["x"])), BASE, True),
    ("a renamed record", record(field("x", "string"), name="Q"), BASE, False),
    ("a renamed record with an alias", record(field("x", "string"), name="Q", aliases=["R"]), BASE, True),
    ("a renamed record with a full alias", record(field("x", "string"), name="Q", aliases=["a.b.R"]), BASE, True),
    ("a record in another namespace", record(field("x", "string")) | {"namespace": "c"}, BASE, True),
    ("array items promoted", {"type": "array", "items": "long"}, {"type": "array", "items": "int"}, True),
    ("array items changed", {"type": "array", "items": "int"}, {"type": "array", "items": "string"}, False),
    ("map values promoted", {"type": "map", "values": "double"}, {"type": "map", "values": "float"}, True),
    ("map values changed", {"type": "map", "values": "null"}, {"type": "map", "values": "float"}, False),
    (
        "a fixed of the same size",
        {"type": "fixed", "name": "F", "size": 4},
        {"type": "fixed", "name": "F", "size": 4},
        True,
    ),
    (
        "a fixed of another size",
        {"type": "fixed", "name": "F", "size": 4},
        {"type": "fixed", "name": "F", "size": 8},
        False,
    ),
    ("a type that recurs", NODE, NODE, True),
    (
        "a nested field without default",
        record(field("n", record(field("x", "string"), field("y", "int"), name="N"))),
        record(field("n", record(field("x", "string"), name="N"))),
        False,
    ),
    ("an array made a map", {"type": "map", "values": "int"}, {"type": "array", "items": "int"}, False),
    ("anything into null", "null", "int", False),
]

LOGICAL_CASES: list[tuple[str, Any, Any, str]] = [
    ("millis to micros", MICROS, MILLIS, "x: the logical type changes from timestamp-millis to timestamp-micros"),
    ("a meaning added", MILLIS, "long", "x: the logical type changes from none to timestamp-millis"),
    ("a meaning lost", "long", MILLIS, "x: the logical type changes from timestamp-millis to none"),
    (
        "a decimal's scale",
        decimal(9, 3),
        decimal(9, 2),
        "x: the logical type changes from decimal(9, 2) to decimal(9, 3)",
    ),
    (
        "a decimal's precision",
        decimal(10, 2),
        decimal(9, 2),
        "x: the logical type changes from decimal(9, 2) to decimal(10, 2)",
    ),
    (
        "inside an array",
        {"type": "array", "items": MICROS},
        {"type": "array", "items": MILLIS},
        "x[]: the logical type changes",
    ),
    (
        "inside a map",
        {"type": "map", "values": MICROS},
        {"type": "map", "values": MILLIS},
        "x{}: the logical type changes",
    ),
    ("inside a union", ["null", MICROS], ["null", MILLIS], "x<long>: the logical type changes"),
    (
        "inside a record",
        record(field("t", MICROS), name="N"),
        record(field("t", MILLIS), name="N"),
        "x.t: the logical type changes",
    ),
    (
        "under a promotion",
        MILLIS,
        {"type": "int", "logicalType": "date"},
        "x: the logical type changes from date to timestamp-millis",
    ),
]


def by_the_library(reader: Any, writer: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schemas = [avro.schema.parse(canonical_form(one)) for one in (reader, writer)]
    checker = avro.compatibility.ReaderWriterCompatibilityChecker()
    return checker.get_compatibility(*schemas).compatibility is avro.compatibility.SchemaCompatibilityType.compatible


@pytest.mark.parametrize(("reader", "writer", "is_compatible"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_a_change_is_judged_as_avro_judges_it(reader: Any, writer: Any, is_compatible: bool) -> None:
    assert (incompatibilities(reader, writer) == []) is is_compatible
    assert by_the_library(reader, writer) is is_compatible


@pytest.mark.parametrize(
    ("reader", "writer", "fault"), [case[1:] for case in LOGICAL_CASES], ids=[c[0] for c in LOGICAL_CASES]
)
def test_a_changed_logical_type_is_incompatible_though_avro_sees_nothing(reader: Any, writer: Any, fault: str) -> None:
    ours, theirs = record(field("x", reader)), record(field("x", writer))
    assert any(found.startswith(fault) for found in incompatibilities(ours, theirs)), incompatibilities(ours, theirs)
    assert by_the_library(ours, theirs), "the library learnt it: the rule of our own can go"
    assert incompatibilities(ours, ours) == []


def test_a_fault_names_its_path() -> None:
    reader = record(field("items", {"type": "array", "items": record(field("price", "int"), name="Item")}))
    writer = record(field("items", {"type": "array", "items": record(field("price", "string"), name="Item")}))
    assert incompatibilities(reader, writer) == ["items[].price: the reader expects int, the writer wrote string"]


def test_every_schema_of_ours_reads_itself() -> None:
    assert {name: faults for name in RECORDS if (faults := incompatibilities(schema_of(name), schema_of(name)))} == {}


def test_types_used_twice_by_types_used_twice_are_compared_once() -> None:
    def tower(bottom: str) -> dict[str, Any]:
        floor: Any = record(field("x", bottom), name="T0")
        for height in range(1, 40):
            floor = record(field("one", floor), field("two", f"a.b.T{height - 1}"), name=f"T{height}")
        return floor

    started = time.perf_counter()
    assert incompatibilities(tower("int"), tower("int")) == []
    assert incompatibilities(tower("int"), tower("string")) != []
    assert time.perf_counter() - started < 5


primitives = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "bytes", "string"])


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.lists(st.tuples(st.sampled_from("xyz"), inner, st.booleans()), max_size=3, unique_by=lambda one: one[0])
    return st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda values: {"type": "map", "values": values}, inner),
        st.builds(lambda branches: list(dict.fromkeys(branches)), st.lists(primitives, min_size=1, max_size=3)),
        st.builds(
            lambda found: {
                "type": "record",
                "name": "_",
                "fields": [{"name": n, "type": t, "_default": d} for n, t, d in found],
            },
            fields,
        ),
    )


def numbered(schema: Any, path: str = "R") -> Any:
    """Gives every record a name by its place, so that two schemas of one shape have the same names."""
    match schema:
        case {"type": "record", "fields": fields}:
            made: list[dict[str, Any]] = []
            for one in fields:
                inner = numbered(one["type"], f"{path}_{one['name']}")
                nullable = one["_default"] and inner != "null" and not isinstance(inner, list)
                made.append(
                    {"name": one["name"], "type": ["null", inner], "default": None}
                    if nullable
                    else {"name": one["name"], "type": inner}
                )
            return {"type": "record", "name": path, "fields": made}
        case {"type": "array", "items": items}:
            return {"type": "array", "items": numbered(items, path + "_i")}
        case {"type": "map", "values": values}:
            return {"type": "map", "values": numbered(values, path + "_v")}
        case _:
            return schema


schemas = st.recursive(primitives, _grown, max_leaves=6).map(numbered)


@given(schemas, schemas)
def test_the_walk_and_the_library_agree(reader: Any, writer: Any) -> None:
    assert (incompatibilities(reader, writer) == []) is by_the_library(reader, writer)


EXAMPLES = {
    "null": None,
    "boolean": True,
    "int": 1,
    "long": 2**40,
    "float": 0.5,
    "double": 0.25,
    "bytes": b"x",
    "string": "x",
}


def example(schema: Any) -> Any:
    match schema:
        case str():
            return EXAMPLES[schema]
        case [first, *_]:
            return example(first)
        case {"type": "array", "items": items}:
            return [example(items)]
        case {"type": "map", "values": values}:
            return {"k": example(values)}
        case _:
            return {one["name"]: example(one["type"]) for one in schema["fields"]}


@given(schemas, schemas)
def test_what_is_called_compatible_is_read_by_fastavro(reader: Any, writer: Any) -> None:
    if incompatibilities(reader, writer):
        return
    written, wanted = (fastavro.parse_schema(json.loads(json.dumps(one))) for one in (writer, reader))
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, written, example(writer))
    buffer.seek(0)
    fastavro.schemaless_reader(buffer, written, wanted)
    assert buffer.read() == b""


def test_equal_schemas_have_one_canonical_form() -> None:
    short = {"type": "record", "name": "R", "namespace": "a", "fields": [{"name": "x", "type": "long"}]}
    long = {"fields": [{"type": {"type": "long"}, "order": "ascending", "name": "x"}], "name": "a.R", "type": "record"}
    assert canonical_form(short) == canonical_form(long)


@pytest.mark.parametrize("change", [{"default": 1}, {"doc": "said"}, {"type": MILLIS}, {"aliases": ["y"]}])
def test_what_readers_live_by_is_part_of_the_canonical_form(change: dict[str, Any]) -> None:
    plain = record(field("x", "long"))
    assert canonical_form(plain) != canonical_form(record({"name": "x", "type": "long", **change}))
