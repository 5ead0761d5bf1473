"""The golden files: schemas as they were committed, one record of every type, and a recorded log of agents."""

# pyright: reportUnknownVariableType=false
from __future__ import annotations

import json
import random
import types
import typing
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from diurna_schemas.catalogue import RECORDS, full_name, schema_of
from diurna_schemas.codec import Codec
from diurna_schemas.compatibility import canonical_form, incompatibilities
from diurna_schemas.envelope import chain_hash
from diurna_schemas.ids import ID_PATTERN, NAME_PATTERN
from diurna_schemas.message import Command, Heading, Part
from diurna_streams.deciders.agents import RULES
from support.agents_book import Book, Random

GOLDEN = Path(__file__).parents[1] / "golden"
SCHEMAS = GOLDEN / "schemas"
RECORDS_FILE = GOLDEN / "records" / "version-1.json"
LOG_FILE = GOLDEN / "agents-log.jsonl"
WRITE_IT = "uv run python tests/golden/make.py"

JsonSchema = dict[str, Any]


def _golden_ids() -> dict[str, int]:
    """The schema id each record was written with; a new one's follows from its name, so that none ever moves."""
    stored = json.loads(RECORDS_FILE.read_text(encoding="utf-8")) if RECORDS_FILE.exists() else {}
    known = {name: int(golden["bytes"][2:10], 16) for name, golden in stored.items()}
    return {name: known.get(name, 1_000_000 + zlib.crc32(name.encode()) % 2**30) for name in sorted(RECORDS)}


GOLDEN_IDS = _golden_ids()


def committed_versions(name: str) -> list[JsonSchema]:
    """The committed versions of a record's schema, the oldest first."""
    paths = sorted((SCHEMAS / name).glob("*.avsc"), key=lambda path: int(path.stem))
    assert [int(path.stem) for path in paths] == list(range(1, len(paths) + 1)), f"{name}: a version is missing"
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def differs(committed: JsonSchema, current: JsonSchema) -> bool:
    return canonical_form(committed) != canonical_form(current)


def complaints(name: str, versions: list[JsonSchema], current: JsonSchema) -> list[str]:
    """Why this schema must not be released as it is: nothing where it may."""
    found = [
        f"{name} cannot read what version {number} wrote: {fault}"
        for number, version in enumerate(versions, start=1)
        for fault in incompatibilities(current, version)
    ]
    if not found and (not versions or differs(versions[-1], current)):
        found.append(f"{name} is no committed version yet; this writes it: {WRITE_IT}")
    return found


# --- one record of every type -------------------------------------------------------------------------------


DOCUMENTS = {"payload", "result", "metadata", "state", "updates", "details", "data", "parameters"}
SMALL_NUMBERS = {"concurrency", "attempts_max"}


def example_of(record: type[Part]) -> Part:
    """A record with a value of its own in every field, the same one each time."""
    hints = typing.get_type_hints(record, include_extras=True)
    return record(**{name: _example(name, hints[name]) for name in record.model_fields})


def _example(name: str, annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        patterns = [getattr(constraint, "pattern", None) for constraint in arguments[1:]]
        if NAME_PATTERN in patterns or ID_PATTERN in patterns:
            return f"{name.replace('_', '-')}-1"
        return _example(name, arguments[0])
    if origin is Literal:
        return arguments[-1]
    if origin in {Union, types.UnionType}:
        return _example(name, next(part for part in arguments if part is not type(None)))
    if origin is list:
        return [_example(name, arguments[0])]
    if origin is dict:
        return {"name": _example(name, arguments[1])}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return example_of(typing.cast("type[Part]", annotation))
    if annotation is str and name in DOCUMENTS:
        return '{"größe":[1,2.5,null]}'
    if annotation is int and name in SMALL_NUMBERS:
        return 3
    return {str: f"{name}: ünïcode", int: 5_000, float: 2.5, bool: True, bytes: b"\x00\xff"}[annotation]


@cache
def golden_codec() -> Codec:
    """Reads what version 1 wrote: the ids of today's file, the schemas as they were committed then."""
    stored = json.loads(RECORDS_FILE.read_text(encoding="utf-8"))
    codec = Codec({name: 2**31 + number for number, name in enumerate(GOLDEN_IDS)})
    for name, golden in stored.items():
        codec.learn(int(golden["bytes"][2:10], 16), committed_versions(name)[0])
    return codec


def hexadecimal(record: Part) -> str:
    name = full_name(type(record))
    assert schema_of(name)
    return Codec(GOLDEN_IDS).encode(record).hex()


def plain(record: Part) -> dict[str, Any]:
    """The record as JSON, its bytes in hexadecimal digits."""
    return typing.cast("dict[str, Any]", _without_bytes(record.model_dump()))


def _without_bytes(value: Any) -> Any:
    match value:
        case bytes():
            return {"hex": value.hex()}
        case dict():
            return {key: _without_bytes(inner) for key, inner in value.items()}
        case list():
            return [_without_bytes(inner) for inner in value]
        case _:
            return value


# --- a recorded log -----------------------------------------------------------------------------------------


def golden_commands() -> Iterator[tuple[Command, int]]:
    """Two hundred commands of a team that works, fails, leaves, comes back, and repeats itself."""
    book, source = Book(RULES), Random(random.Random(20_261_139))
    for number in range(200):
        command, time_ms = source.next(book)
        if command not in source.sent[:-1]:
            command = command.model_copy(update={"command_id": f"golden-{number}"})
            source.sent[-1] = command
        book.put(command, time_ms)
        yield command, time_ms


def events_of(state: Any, command: Command, heading: Heading, previous: str) -> tuple[Any, str, list[dict[str, Any]]]:
    """What a command leads to, with its hashes, as the recorded log has it."""
    codec = Codec(GOLDEN_IDS)
    decision = RULES.decide(state, typing.cast("Any", command), heading)
    events: list[dict[str, Any]] = []
    for index, event in enumerate(decision.events):
        value = codec.encode(event)
        at = f"{heading.incarnation}.{heading.offset}.{index}"
        previous = chain_hash(previous, at, event.type_name, event.key.encode(), value)
        events.append(
            {"type": event.type_name, "at": at, "hash": previous, "fields": plain(event), "bytes": value.hex()}
        )
    return decision.state, previous, events
