"""Records to bytes and back, in the Confluent wire format: a zero, the schema id in four bytes, Avro."""

from __future__ import annotations

import io
import struct
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, Self, Union, cast, get_args, get_origin

import fastavro
from pydantic import BaseModel, ValidationError

from diurna_schemas import upcast
from diurna_schemas.catalogue import RECORDS, JsonSchema, full_name, schema_of
from diurna_schemas.errors import UnknownSchema, Unreadable
from diurna_schemas.message import Part

# pyright: reportUnknownMemberType=false
# fastavro's annotations leave the file's element type open.
_write = cast("Callable[[io.BytesIO, JsonSchema, dict[str, Any]], None]", fastavro.schemaless_writer)
_read = cast("Callable[[io.BytesIO, Any, JsonSchema | None], Any]", fastavro.schemaless_reader)

_PREFIX = struct.Struct(">bI")
_PREFIX_BYTES: Final = _PREFIX.size
MAGIC: Final = 0


class Codec:
    """Encodes and decodes the records of Diurna.

    `ids` names the registered schema id of each full name; foreign ids are made known with `learn`.
    """

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._prefixes = {name: _PREFIX.pack(MAGIC, schema_id) for name, schema_id in ids.items()}
        self._readers: dict[int, Callable[[bytes], Part]] = {}
        for name, schema_id in ids.items():
            self.learn(schema_id, schema_of(name))

    @classmethod
    def numbered(cls) -> Self:
        """A codec with ids of its own, for logs that no registry describes: tests and memory."""
        return cls({name: number for number, name in enumerate(sorted(RECORDS), start=1)})

    def learn(self, schema_id: int, schema: JsonSchema) -> None:
        """Makes a writer's schema known under its id. Raises `Unreadable` where it is no record of ours."""
        name = f"{schema.get('namespace', '')}.{schema.get('name', '')}".removeprefix(".")
        record = RECORDS.get(name)
        if record is None:
            raise Unreadable(f"schema id {schema_id} describes {name!r}, which is no record of Diurna")
        self._readers[schema_id] = _reader(record, schema)

    @property
    def ids(self) -> dict[str, int]:
        """The schema id of each full name, as it was given: another codec made of it writes the same bytes."""
        return {name: _PREFIX.unpack(prefix)[1] for name, prefix in self._prefixes.items()}

    def knows(self, schema_id: int) -> bool:
        """Whether records with this schema id can be decoded."""
        return schema_id in self._readers

    def encode(self, record: Part) -> bytes:
        """The bytes of a record."""
        return self.encode_fields(full_name(type(record)), _plain(type(record))(record))

    def encode_fields(self, name: str, fields: dict[str, Any]) -> bytes:
        """The bytes of a record of this full name whose fields were checked elsewhere; nested ones are dictionaries."""
        buffer = io.BytesIO()
        buffer.write(self._prefixes[name])
        _write(buffer, _parsed(name), fields)
        return buffer.getvalue()

    def decode(self, value: bytes | None) -> Part:
        """The record in these bytes.

        Raises `UnknownSchema` where the id is not known (yet), `Unreadable` where the bytes are broken or a field
        has a value that is not allowed.
        """
        schema_id = schema_id_of(value)
        reader = self._readers.get(schema_id)
        if reader is None or value is None:
            raise UnknownSchema(schema_id)
        return reader(value)


def schema_id_of(value: bytes | None) -> int:
    """The schema id of a value in the wire format. Raises `Unreadable` where it is not in that format."""
    if value is None:
        raise Unreadable("the value is null, a record was expected")
    if len(value) < _PREFIX_BYTES or value[0] != MAGIC:
        raise Unreadable(f"not in the Confluent wire format: the value begins with {value[:8]!r}")
    return int.from_bytes(value[1:5], "big")


def _reader(record: type[Part], writer: JsonSchema) -> Callable[[bytes], Part]:
    """Reads one record written with `writer`, resolved to the schema of today."""
    name = full_name(record)
    written = fastavro.parse_schema(_without_logical_types(writer))
    wanted = None if writer == schema_of(name) else _parsed(name)
    lift = upcast.of(name)
    validate = record.__pydantic_validator__.validate_python if record.__pydantic_complete__ else None

    def read(value: bytes) -> Part:
        nonlocal validate
        if validate is None:
            record.model_rebuild()
            validate = record.__pydantic_validator__.validate_python
        buffer = io.BytesIO(value)
        buffer.seek(_PREFIX_BYTES)
        try:
            fields = _read(buffer, written, wanted)
        except Exception as error:  # fastavro raises whatever the bytes provoke
            raise Unreadable(f"the bytes are no {record.__name__}: {type(error).__name__}: {error}") from error
        if buffer.tell() != len(value):
            raise Unreadable(f"bytes are left over after the {record.__name__}")
        try:
            part: Part = validate(fields if lift is None else lift(fields))
        except ValidationError as error:
            raise Unreadable(f"{record.__name__}: {describe(error)}") from error
        return part

    return read


def describe(error: ValidationError) -> str:
    """The first faults of a validation error: field, reason, value; bounded."""
    faults = error.errors(include_url=False)
    words = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'value'}: {fault['msg']}, got {ascii(fault['input'])[:80]}"
        for fault in faults[:3]
    ]
    return "; ".join(words) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")


def _without_logical_types(schema: Any) -> Any:
    """Times stay integers inside: the same bytes, read without the logical type."""
    match schema:
        case dict():
            fields = cast("dict[str, Any]", schema)
            return {key: _without_logical_types(value) for key, value in fields.items() if key != "logicalType"}
        case list():
            return [_without_logical_types(item) for item in schema]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return schema


@cache
def _parsed(name: str) -> JsonSchema:
    return cast("JsonSchema", fastavro.parse_schema(_without_logical_types(schema_of(name))))


Plain = Callable[[Part], dict[str, Any]]


@cache
def _plain(record: type[BaseModel]) -> Plain:
    """How to turn a record into a dictionary for the encoder; only nested records cost anything."""
    hints = typing.get_type_hints(record)
    single = [name for name in record.model_fields if _nested(hints[name])]
    many = [
        name for name in record.model_fields if get_origin(hints[name]) is list and _nested(get_args(hints[name])[0])
    ]
    if not single and not many:
        return vars

    def plain(part: Part) -> dict[str, Any]:
        fields = dict(part.__dict__)
        for name in single:
            if (inner := fields[name]) is not None:
                fields[name] = _flat(inner)
        for name in many:
            fields[name] = [_flat(inner) for inner in fields[name]]
        return fields

    return plain


def _flat(part: Part) -> dict[str, Any]:
    return _plain(type(part))(part)


def _nested(annotation: Any) -> bool:
    if get_origin(annotation) in {Union, types.UnionType}:
        return any(_nested(part) for part in get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
