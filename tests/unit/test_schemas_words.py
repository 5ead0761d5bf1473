"""Positions, ids, topics, partitions, and the one tree of errors."""

# pyright: reportUnknownVariableType=false
from __future__ import annotations

import inspect
import re

import pytest
from aiokafka.partitioner import murmur2 as kafka_murmur2
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from diurna_schemas import errors, topics
from diurna_schemas.agents import AgentRequest, CompleteRequest
from diurna_schemas.errors import InvalidInput, TooLarge, WrongPartition
from diurna_schemas.ids import Position, checked_id, checked_name
from diurna_schemas.message import METADATA_BYTES_MAX, PAYLOAD_BYTES_MAX

KAFKA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""From the tests of org.apache.kafka.common.utils.Utils."""


@pytest.mark.parametrize("key", KAFKA_VECTORS, ids=bytes.decode)
def test_murmur2_gives_what_kafka_gives(key: bytes) -> None:
    assert topics.murmur2(key) == KAFKA_VECTORS[key]


@given(key=st.binary(max_size=100))
def test_murmur2_agrees_with_the_clients_partitioner(key: bytes) -> None:
    assert topics.murmur2(key) & 0xFFFFFFFF == kafka_murmur2(key) & 0xFFFFFFFF


@given(key=st.text(st.characters(exclude_categories=["Cs"]), max_size=40), partitions=st.integers(1, 50))
def test_a_key_has_one_partition(key: str, partitions: int) -> None:
    partition = topics.partition_of(key, partitions)
    assert 0 <= partition < partitions
    assert partition == (kafka_murmur2(key.encode()) & 0x7FFFFFFF) % partitions
    topics.check_partition(key, partition, partitions)
    if partitions > 1:
        with pytest.raises(WrongPartition, match=f"partition {partition}"):
            topics.check_partition(key, (partition + 1) % partitions, partitions)


def test_keys_spread_over_all_partitions() -> None:
    counts = [0] * topics.PARTITIONS
    for number in range(6_000):
        counts[topics.partition_of(f"agent-{number}")] += 1
    assert min(counts) > 800


def test_decided_topics_are_timed_by_the_broker_and_kept_for_ever() -> None:
    for family in topics.FAMILIES:
        assert topics.TOPICS[family.commands].time == "LogAppendTime"
        assert topics.TOPICS[family.events].time == "CreateTime"
        assert topics.TOPICS[family.events].retention_ms == -1
        assert topics.TOPICS[family.snapshots].cleanup == "compact"
        partitions = {topics.TOPICS[name].partitions for name in (family.commands, family.events, family.snapshots)}
        assert len(partitions) == 1, "a command is answered, and its state set down, on its own partition"


@given(
    topic=st.from_regex(r"_{0,2}[A-Za-z0-9][A-Za-z0-9._-]{0,60}", fullmatch=True),
    partition=st.integers(0, 10**6),
    offset=st.integers(0, 2**53),
)
def test_a_position_is_read_as_it_is_written(topic: str, partition: int, offset: int) -> None:
    position = Position(topic, partition, offset)
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    ["", "agents.events", "agents.events:1", "agents.events:1:", "agents.events:-1:3", "agents.events:1:2:3",
     ":1:2", "agents.events:1:x", "agents.events:²:1", "a b:1:2", "agents.events:1:" + "9" * 5_000, "a\n:1:2"],
)  # fmt: skip
def test_what_is_no_position_is_refused_with_field_and_value(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Position.parse(text, field="min_position")
    assert refused.value.field == "min_position"
    assert "topic:partition:offset" in str(refused.value)
    assert len(str(refused.value)) < 400


@given(text=st.text(max_size=60))
def test_any_text_at_all_is_a_position_or_refused(text: str) -> None:
    try:
        position = Position.parse(text)
    except InvalidInput:
        return
    assert position.offset >= 0


@pytest.mark.parametrize("value", ["", " ", "-a", "a b", "a\n", "ä", "a" * 129, "a/b", "\x00"])
def test_what_is_no_name_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput, match="target_agent"):
        checked_name("target_agent", value)
    with pytest.raises(ValidationError):
        AgentRequest.model_validate(
            {"request_id": "r", "source_agent": value, "target_agent": "b", "request_type": "t", "correlation_id": "c",
             "created_at_ms": 0}
        )  # fmt: skip


@pytest.mark.parametrize("value", ["", "a b", "a\n", "ä", "a" * 201, "\x7f", "\x00", "\ud800"])
def test_what_is_no_id_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput, match="request_id"):
        checked_id("request_id", value)


def completion(**fields: object) -> CompleteRequest:
    whole = {
        "command_id": "c",
        "agent_id": "a",
        "request_id": "r",
        "instance_id": "i",
        "attempt": 1,
        "status": "success",
    }
    return CompleteRequest.model_validate(whole | fields)


@pytest.mark.parametrize(("field", "size_max"), [("result", PAYLOAD_BYTES_MAX), ("metadata", METADATA_BYTES_MAX)])
def test_documents_are_bounded_in_bytes_not_in_characters(field: str, size_max: int) -> None:
    assert getattr(completion(**{field: "x" * size_max}), field) is not None
    assert getattr(completion(**{field: "ä" * (size_max // 2)}), field) is not None
    for text in ("x" * (size_max + 1), "ä" * (size_max // 2 + 1)):
        with pytest.raises(ValidationError, match=f"at most {size_max} are allowed"):
            completion(**{field: text})


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(ValidationError):
        completion(result='"\ud800"')


def test_messages_do_not_change() -> None:
    with pytest.raises(ValidationError):
        completion().status = "error"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError):
        completion(unknown="field")


def drawn_tree(drawing: str) -> dict[str, str | None]:
    """Each class of the drawing, and the one above it."""
    parents: dict[str, str | None] = {}
    path: list[tuple[int, str]] = []
    for line in drawing.splitlines():
        found = re.match(r"^([│├└─ ]*)([A-Z][A-Za-z]+)(?:\s{2,}|$)", line)
        if found is None:
            continue
        depth = len(found[1])
        while path and path[-1][0] >= depth:
            path.pop()
        parents[found[2]] = path[-1][1] if path else None
        path.append((depth, found[2]))
    return parents


def test_the_tree_of_errors_is_the_one_that_is_drawn() -> None:
    classes = {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.DiurnaError) and kind.__module__ == errors.__name__
    }
    parents = {
        name: None if kind is errors.DiurnaError else kind.__bases__[0].__name__ for name, kind in classes.items()
    }
    assert drawn_tree(inspect.getdoc(errors) or "") == parents


def test_the_drawing_is_really_read() -> None:
    drawing = "Root\n├── Left     words\n│   └── Leaf\n└── Right\n"
    assert drawn_tree(drawing) == {"Root": None, "Left": "Root", "Leaf": "Left", "Right": "Root"}


def test_errors_carry_their_data_and_show_a_bounded_value() -> None:
    invalid = InvalidInput("timeout", "\x1b[31m" + "x" * 10_000, "a number is needed")
    assert (invalid.field, invalid.code) == ("timeout", "invalid_input")
    assert "\x1b" not in str(invalid)
    assert len(str(invalid)) < 300
    large = TooLarge("payload", 300_000, 262_144)
    assert (large.size, large.size_max, large.code) == (300_000, 262_144, "too_large")
    assert "300000 bytes" in str(large)
    assert "262144" in str(large)
    conflict = errors.VersionConflict("wf", expected=2, current=3)
    assert (conflict.expected, conflict.current) == (2, 3)
    assert isinstance(conflict, errors.Conflict)
    codes = [kind.code for kind in (errors.InvalidInput, errors.TooLarge, errors.NotFound, errors.Conflict,
                                    errors.VersionConflict, errors.AgentOffline)]  # fmt: skip
    assert len(set(codes)) == len(codes)
