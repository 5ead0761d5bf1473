"""Bytes and records: what was written is read back, and what is broken is unreadable, never anything else."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import copy
import io
import struct
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diurna_schemas import upcast
from diurna_schemas.catalogue import RECORDS, full_name, schema_of
from diurna_schemas.codec import Codec, schema_id_of
from diurna_schemas.errors import UnknownSchema, Unreadable
from diurna_schemas.locks import AcquireLock
from diurna_schemas.message import Part
from diurna_schemas.records import Broadcast
from support.record_strategies import records_of

CODEC = Codec.numbered()
NAMES = sorted(RECORDS)
ANY_RECORD = st.one_of([records_of(record) for record in RECORDS.values()])


@pytest.mark.parametrize("name", NAMES)
def test_every_record_is_read_back_as_it_was_written(name: str) -> None:
    @settings(max_examples=25, deadline=None)
    @given(record=records_of(RECORDS[name]))
    def holds(record: Part) -> None:
        value = CODEC.encode(record)
        assert CODEC.decode(value) == record
        assert CODEC.encode(record) == value

    holds()


def reads_or_is_unreadable(value: bytes | None) -> Part | None:
    """Anything but a record or `Unreadable` escapes and fails the test."""
    try:
        return CODEC.decode(value)
    except Unreadable:
        return None


@settings(max_examples=300, deadline=None)
@given(value=st.one_of(st.none(), st.binary(max_size=200)))
def test_random_bytes_are_unreadable(value: bytes | None) -> None:
    reads_or_is_unreadable(value)


@settings(max_examples=500, deadline=None)
@given(body=st.binary(max_size=300), schema_id=st.integers(1, len(RECORDS)))
def test_random_bytes_behind_a_known_id_are_unreadable_or_a_valid_record(body: bytes, schema_id: int) -> None:
    found = reads_or_is_unreadable(struct.pack(">bI", 0, schema_id) + body)
    if found is not None:
        assert type(found).model_validate(found.model_dump()) == found


@settings(max_examples=300, deadline=None)
@given(record=ANY_RECORD, data=st.data())
def test_truncated_bytes_are_unreadable(record: Part, data: st.DataObject) -> None:
    value = CODEC.encode(record)
    cut = data.draw(st.integers(0, len(value) - 1))
    assert reads_or_is_unreadable(value[:cut]) is None


@settings(max_examples=500, deadline=None)
@given(record=ANY_RECORD, data=st.data())
def test_flipped_bits_give_a_valid_record_or_are_unreadable(record: Part, data: st.DataObject) -> None:
    value = bytearray(CODEC.encode(record))
    for _ in range(data.draw(st.integers(1, 4))):
        value[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    reads_or_is_unreadable(bytes(value))


@settings(max_examples=50, deadline=None)
@given(record=ANY_RECORD, rest=st.binary(min_size=1, max_size=10))
def test_bytes_left_over_are_unreadable(record: Part, rest: bytes) -> None:
    with pytest.raises(Unreadable):
        CODEC.decode(CODEC.encode(record) + rest)


@pytest.mark.parametrize("count", [2**31, 2**62, -(2**62), -1])
def test_a_length_nobody_has_bytes_for_is_unreadable_at_once(count: int) -> None:
    zigzag = (count << 1) ^ (count >> 63)
    varint = bytearray()
    while zigzag > 0x7F:
        varint.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    varint.append(zigzag)
    prefix = CODEC.encode(Broadcast(broadcast_id="b", event_type="e", source_agent="a", created_at_ms=1))[:5]
    with pytest.raises(Unreadable):
        CODEC.decode(prefix + bytes(varint) + b"abc")


def test_an_unknown_id_is_told_apart_from_broken_bytes() -> None:
    with pytest.raises(UnknownSchema) as unknown:
        CODEC.decode(b"\0" + (999_999).to_bytes(4, "big") + b"x")
    assert unknown.value.schema_id == 999_999
    for value in (None, b"", b"\0\0\0\0", b"{}", b"\1\0\0\0\1"):
        with pytest.raises(Unreadable) as broken:
            schema_id_of(value)
        assert not isinstance(broken.value, UnknownSchema)


def test_a_field_with_a_value_that_is_not_allowed_is_named_with_its_value() -> None:
    whole = AcquireLock(command_id="c", resource_id="r", lock_id="l", agent_id="a", lease_ms=5_000)
    broken = whole.model_copy(update={"agent_id": "no spaces allowed"})
    with pytest.raises(Unreadable, match=r"agent_id.*'no spaces allowed'"):
        CODEC.decode(CODEC.encode(broken))


def test_a_writer_that_did_not_know_a_field_yet_is_read_with_its_default() -> None:
    codec = Codec.numbered()
    older = copy.deepcopy(schema_of(full_name(Broadcast)))
    older["fields"] = [field for field in older["fields"] if field["name"] not in {"metadata", "correlation_id"}]
    record = Broadcast(broadcast_id="b", event_type="e", source_agent="a", created_at_ms=1, data='{"x":1}')
    codec.learn(7_001, older)
    written = _written(older, record.model_dump(), 7_001)
    assert codec.decode(written) == record


def test_a_writer_that_knows_a_field_more_is_read_without_it() -> None:
    codec = Codec.numbered()
    newer = copy.deepcopy(schema_of(full_name(Broadcast)))
    newer["fields"].append({"name": "colour", "type": "string", "default": "red"})
    record = Broadcast(broadcast_id="b", event_type="e", source_agent="a", created_at_ms=1)
    codec.learn(7_002, newer)
    assert codec.decode(_written(newer, record.model_dump() | {"colour": "blue"}, 7_002)) == record


def test_a_schema_of_somebody_else_is_not_learnt() -> None:
    with pytest.raises(Unreadable, match=r"'else\.Thing'"):
        Codec.numbered().learn(9, {"type": "record", "name": "Thing", "namespace": "else", "fields": []})


def _written(schema: dict[str, Any], fields: dict[str, Any], schema_id: int) -> bytes:
    plain = copy.deepcopy(schema)
    for field in plain["fields"]:
        if isinstance(field["type"], dict):
            field["type"] = field["type"]["type"] if "logicalType" in field["type"] else field["type"]
    buffer = io.BytesIO(struct.pack(">bI", 0, schema_id))
    buffer.seek(5)
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(plain), fields)
    return buffer.getvalue()


def is_pure(lift: upcast.Upcaster, fields: dict[str, Any]) -> bool:
    """The same twice, its argument untouched."""
    before = copy.deepcopy(fields)
    first, second = lift(fields), lift(copy.deepcopy(before))
    return fields == before and first == second


@pytest.mark.parametrize("name", sorted(upcast.UPCASTERS) or [pytest.param("", marks=pytest.mark.skip("none yet"))])
def test_upcasters_are_pure_and_leave_today_alone(name: str) -> None:
    @settings(max_examples=25, deadline=None)
    @given(record=records_of(RECORDS[name]))
    def holds(record: Part) -> None:
        fields = record.model_dump()
        lift = upcast.UPCASTERS[name]
        assert is_pure(lift, copy.deepcopy(fields))
        assert lift(copy.deepcopy(fields)) == fields

    holds()


def test_an_upcaster_is_applied_and_an_impure_one_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def lift(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "event_type": fields["event_type"].replace("old.", "new.")}

    def impure(fields: dict[str, Any]) -> dict[str, Any]:
        fields["event_type"] = "x"
        return fields

    monkeypatch.setitem(upcast.UPCASTERS, full_name(Broadcast), lift)
    codec = Codec.numbered()
    record = Broadcast(broadcast_id="b", event_type="old.e", source_agent="a", created_at_ms=1)
    read = codec.decode(codec.encode(record))
    assert isinstance(read, Broadcast)
    assert read.event_type == "new.e"
    assert is_pure(lift, record.model_dump())
    assert not is_pure(impure, record.model_dump())
