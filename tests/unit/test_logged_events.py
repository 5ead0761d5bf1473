"""Events as Postgres' COPY takes them: packed from the bytes of the headers, equal to the rows made of text."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from diurna_projections.logged import packed, row_of
from diurna_projections.rows import EVENTS
from diurna_schemas.envelope import Headers, cloud_event
from diurna_streams.log.port import Record

_NAMES = ["ce_id", "ce_type", "ce_source", "ce_subject", "correlationid", "causationid", "traceparent", "ce_time"]
_WORDS = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"", b"\x00", b"a\tb\\N\n", "ä€😀".encode() * 120, b"\xff\xfe", b"x" * 200, b"y" * 201, b"w" * 90]
    ),
)
_ANY_HEADERS = st.lists(st.tuples(st.sampled_from(_NAMES), _WORDS), max_size=12).map(tuple)
_OURS = st.builds(
    cloud_event,
    id=st.text(st.characters(codec="utf-8"), max_size=5),
    type_name=st.sampled_from(["workflow.created", "", "t" * 180]),
    source=st.sampled_from(["/deciders/workflows.events/3", ""]),
    subject=st.text(st.characters(codec="utf-8"), max_size=5),
    at_ms=st.just(1_700_000_000_000),
    correlation_id=st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=5)),
    causation_id=st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=5)),
    traceparent=st.one_of(st.none(), st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
)
_RECORDS = st.builds(
    Record,
    st.sampled_from(["workflows.events", "agents.broadcasts"]),
    st.integers(0, 11),
    st.integers(0, 2**62),
    st.integers(-1, 2**53),
    st.one_of(st.none(), st.binary(max_size=300)),
    st.one_of(st.none(), st.binary(max_size=600)),
    st.one_of(_OURS, _ANY_HEADERS),
)


def unpacked(data: bytes) -> Iterator[tuple[bytes | None, ...]]:
    """The columns of each row, as Postgres' manual says they are packed."""
    at = 0
    while at < len(data):
        (count,) = struct.unpack_from(">h", data, at)
        at += 2
        columns: list[bytes | None] = []
        for _ in range(count):
            (size,) = struct.unpack_from(">i", data, at)
            at += 4
            columns.append(None if size < 0 else data[at : at + size])
            at += max(size, 0)
        yield tuple(columns)


def column(kind: str, name: str, value: str | int | bytes | None) -> bytes | None:
    if isinstance(value, int):
        return struct.pack(">i" if name == "partition" else ">q", value)
    assert value is None or isinstance(value, bytes) == (kind == "bytea")
    return value.encode() if isinstance(value, str) else value


@given(st.lists(_RECORDS, max_size=4))
def test_events_are_packed_as_their_rows_are(records: list[Record]) -> None:
    wanted = [
        tuple(map(column, EVENTS.types, EVENTS.columns, row_of(record)))
        for record in records
    ]  # fmt: skip
    assert list(unpacked(packed(records))) == wanted


def test_the_bytes_of_headers_that_need_no_care_are_taken_as_they_are() -> None:
    headers: Headers = cloud_event(
        id="e-1", type_name="lock.granted", source="/s", subject="r", at_ms=1, correlation_id="c", causation_id="a"
    )
    (row,) = unpacked(packed([Record("locks.events", 2, 7, 9, b"r", b"\x00v", headers)]))
    assert row[:3] == (b"locks.events", b"\x00\x00\x00\x02", b"\x00" * 7 + b"\x07")
    assert row[3:9] == (b"e-1", b"lock.granted", b"r", b"/s", b"c", b"a")
    assert row[9:] == (b"\x00" * 7 + b"\x09", b"r", b"\x00v")
