"""Says whether data written with one Avro schema can be read with another, and where it cannot.

The verdict is `avro.compatibility`'s, sharpened by one rule of our own. The walk here finds the same faults and
names their path; where the library sees a fault that the walk does not, the library is believed.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, cast

import avro.compatibility
import avro.errors
import avro.schema

# pyright: reportUnknownMemberType=false
# The avro package is only half annotated.

AvroJson = str | list[Any] | dict[str, Any]
"""An Avro schema as parsed JSON: a type's name, a union's branches, or an object."""

PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_NAMED: Final = frozenset({"record", "error", "enum", "fixed"})
_PROMOTIONS: Final = {
    "long": frozenset({"int"}),
    "float": frozenset({"int", "long"}),
    "double": frozenset({"int", "long", "float"}),
    "bytes": frozenset({"string"}),
    "string": frozenset({"bytes"}),
}
"""Which other types a reader of this type can read."""
_FAULTS_MAX: Final = 50


def incompatibilities(reader: AvroJson, writer: AvroJson) -> list[str]:
    """Why data written with `writer` cannot be read with `reader`: one `path: reason` a fault, empty where it can.

    The rule of our own: a field whose logical type changes (timestamp-millis to timestamp-micros, a decimal's
    precision or scale) is incompatible. The bytes stay readable, so no Avro checker notices, and every reader
    would take them for something else.
    """
    ours, theirs = resolved(reader), resolved(writer)
    walk = _Walk(_names_in(ours), _names_in(theirs))
    faults = walk.faults(ours, theirs, "")
    return faults[:_FAULTS_MAX] or _faults_of_the_library(canonical_form(ours), canonical_form(theirs))


def canonical_form(schema: AvroJson) -> str:
    """The text that is equal for equal schemas: names in full, keys sorted, no white space.

    Avro's own Parsing Canonical Form is not used: it drops defaults and logical types, which readers live by.
    """
    return json.dumps(resolved(schema), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def resolved(schema: AvroJson, namespace: str = "") -> AvroJson:
    """The schema with every name in full and every primitive in its short form."""
    match schema:
        case str():
            return schema if schema in PRIMITIVES else _full(schema, namespace)
        case list():
            return [resolved(branch, namespace) for branch in schema]
        case dict():
            return _resolved_object(schema, namespace)


def _resolved_object(schema: dict[str, Any], namespace: str) -> AvroJson:
    kind = schema.get("type")
    if isinstance(kind, dict | list):
        # {"type": {"type": "long"}}: an object around a type adds nothing but its own attributes.
        inner = resolved(cast("AvroJson", kind), namespace)
        return inner if len(schema) == 1 else {**schema, "type": inner}
    match kind:
        case "array":
            return {**schema, "items": resolved(schema["items"], namespace)}
        case "map":
            return {**schema, "values": resolved(schema["values"], namespace)}
        case "record" | "error" | "enum" | "fixed":
            return _resolved_named(schema, namespace)
        case _ if len(schema) == 1:
            return resolved(cast("str", kind), namespace)
        case _:
            return schema


def _resolved_named(schema: dict[str, Any], namespace: str) -> dict[str, Any]:
    full = _full(schema["name"], str(schema.get("namespace", namespace)))
    within = full.rpartition(".")[0]
    named = {key: value for key, value in schema.items() if key != "namespace"} | {"name": full}
    if "aliases" in schema:
        named["aliases"] = [_full(alias, within) for alias in schema["aliases"]]
    if "fields" in schema:
        named["fields"] = [
            {
                **{key: value for key, value in one.items() if (key, value) != ("order", "ascending")},
                "type": resolved(one["type"], within),
            }
            for one in schema["fields"]
        ]
    return named


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _names_in(schema: AvroJson) -> dict[str, dict[str, Any]]:
    """Every named type of a resolved schema by its full name."""
    found: dict[str, dict[str, Any]] = {}
    open_ones: list[AvroJson] = [schema]
    while open_ones:
        match open_ones.pop():
            case str():
                pass
            case list() as branches:
                open_ones += branches
            case dict() as one:
                if one.get("type") in _NAMED:
                    found[one["name"]] = one
                open_ones += [one[part] for part in ("items", "values") if part in one]
                open_ones += [inner["type"] for inner in one.get("fields", ())]
                if isinstance(one.get("type"), dict | list):
                    open_ones.append(one["type"])
    return found


@dataclass(slots=True)
class _Walk:
    """Compares two resolved schemas, each pair of objects once.

    A pair that is being compared already counts as fitting, for types may recur; the faults of a pair that was
    compared before are not said again, for types used twice by types used twice would say them 2^n times.
    """

    reader_names: dict[str, dict[str, Any]]
    writer_names: dict[str, dict[str, Any]]
    fits: dict[tuple[int, int], bool] = field(default_factory=dict[tuple[int, int], bool])

    def faults(self, reader: AvroJson, writer: AvroJson, path: str) -> list[str]:
        reader = self.reader_names.get(reader, reader) if isinstance(reader, str) else reader
        writer = self.writer_names.get(writer, writer) if isinstance(writer, str) else writer
        if not isinstance(reader, dict) or not isinstance(writer, dict):
            return self._compared(reader, writer, path)
        pair = (id(reader), id(writer))
        if (before := self.fits.get(pair)) is not None:
            return [] if before else [_fault(path, f"{_named(reader) or _kind(reader)} does not fit, as said already")]
        self.fits[pair] = True
        found = self._compared(reader, writer, path)
        self.fits[pair] = not found
        return found

    def _compared(self, reader: AvroJson, writer: AvroJson, path: str) -> list[str]:
        if isinstance(writer, list):
            return [
                fault
                for branch in writer
                for fault in self.faults(reader, branch, f"{path}<{_named(branch) or _kind(branch)}>")
            ]
        if isinstance(reader, list):
            tries = [self.faults(branch, writer, path) for branch in reader]
            if any(not found for found in tries):
                return []
            return [_fault(path, f"the reader's union has no branch that reads {_kind(writer)}"), *_closest(tries)]
        found = self._types(reader, writer, path)
        return found or _logical_faults(reader, writer, path)

    def _types(self, reader: AvroJson, writer: AvroJson, path: str) -> list[str]:
        wanted, written = _kind(reader), _kind(writer)
        if wanted != written:
            if written in _PROMOTIONS.get(wanted, ()):
                return []
            return [_fault(path, f"the reader expects {wanted}, the writer wrote {written}")]
        if not isinstance(reader, dict) or not isinstance(writer, dict):
            return []
        match wanted:
            case "array":
                return self.faults(reader["items"], writer["items"], f"{path}[]")
            case "map":
                return self.faults(reader["values"], writer["values"], f"{path}{{}}")
            case "fixed":
                return _name_faults(reader, writer, path) + _size_faults(reader, writer, path)
            case "enum":
                return _name_faults(reader, writer, path) + _symbol_faults(reader, writer, path)
            case "record" | "error":
                return _name_faults(reader, writer, path) + self._fields(reader, writer, path)
            case _:
                return []

    def _fields(self, reader: dict[str, Any], writer: dict[str, Any], path: str) -> list[str]:
        written = {one["name"]: one for one in writer["fields"]}
        found: list[str] = []
        for one in reader["fields"]:
            names = (one["name"], *one.get("aliases", ()))
            other = next((written[name] for name in names if name in written), None)
            place = f"{path}.{one['name']}" if path else str(one["name"])
            if other is not None:
                found += self.faults(one["type"], other["type"], place)
            elif "default" not in one:
                found.append(_fault(place, "the reader expects a field that the writer did not have, without default"))
        return found


def _kind(schema: AvroJson) -> str:
    match schema:
        case str():
            return schema
        case list():
            return "union"
        case dict():
            kind = schema["type"]
            return "record" if kind == "error" else _kind(kind)


def _named(schema: AvroJson) -> str | None:
    return schema.get("name") if isinstance(schema, dict) else None


def _fault(path: str, reason: str) -> str:
    return f"{path or '(the schema itself)'}: {reason}"


def _closest(tries: list[list[str]]) -> list[str]:
    """The faults of the one branch that was of the right kind, where there is exactly one."""
    deeper = [found for found in tries if not any(": the reader expects " in fault for fault in found[:1])]
    return deeper[0] if len(deeper) == 1 else []


def _name_faults(reader: dict[str, Any], writer: dict[str, Any], path: str) -> list[str]:
    """Avro compares unqualified names, and the reader's aliases in full."""
    same = str(reader["name"]).rpartition(".")[2] == str(writer["name"]).rpartition(".")[2]
    if same or writer["name"] in reader.get("aliases", ()):
        return []
    return [_fault(path, f"the reader's {_kind(reader)} is named {reader['name']}, the writer's {writer['name']}")]


def _size_faults(reader: dict[str, Any], writer: dict[str, Any], path: str) -> list[str]:
    if reader["size"] == writer["size"]:
        return []
    return [_fault(path, f"the reader expects {reader['size']} bytes, the writer wrote {writer['size']}")]


def _symbol_faults(reader: dict[str, Any], writer: dict[str, Any], path: str) -> list[str]:
    unknown = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
    if not unknown or reader.get("default") in reader["symbols"]:
        return []
    return [_fault(path, f"the reader lacks the symbols {', '.join(unknown)} and has no default")]


def _logical_faults(reader: AvroJson, writer: AvroJson, path: str) -> list[str]:
    ours, theirs = _meaning(reader), _meaning(writer)
    return [] if ours == theirs else [_fault(path, f"the logical type changes from {theirs} to {ours}")]


def _meaning(schema: AvroJson) -> str:
    """The logical type with all that belongs to it."""
    match schema:
        case {"logicalType": "decimal", **rest}:
            return f"decimal({rest.get('precision')}, {rest.get('scale', 0)})"
        case {"logicalType": str(name)}:
            return name
        case _:
            return "none"


def _faults_of_the_library(reader: str, writer: str) -> list[str]:
    checker = avro.compatibility.ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(_parsed(reader), _parsed(writer))
    if result.compatibility is avro.compatibility.SchemaCompatibilityType.compatible:
        return []
    places, reasons = ", ".join(sorted(result.locations)), "; ".join(sorted(result.messages))
    return [_fault(places, reasons or "incompatible")]


@lru_cache(maxsize=1_024)
def _parsed(text: str) -> avro.schema.Schema:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", avro.errors.AvroWarning)
        return avro.schema.parse(text)
