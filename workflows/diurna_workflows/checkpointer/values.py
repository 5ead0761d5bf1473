"""Values to bytes and back through LangGraph's serialiser, and which of them go before their record in chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol

from diurna_schemas.checkpoints import CHUNK_BYTES, INLINE_BYTES_MAX, VALUE_BYTES_MAX
from diurna_schemas.errors import InvalidInput, TooLarge, Unreadable

SMALL_CHARACTERS_MAX: Final = 64
_NUMBERS: Final = frozenset({int, float, bool, type(None)})

StoredFields = dict[str, Any]
"""A `StoredValue` as the encoder takes it."""


class Value(NamedTuple):
    """A serialised value: how, and its bytes."""

    kind: str
    data: bytes


def is_small(value: object) -> bool:
    """Whether the value costs less within a checkpoint's body than as a value of its own."""
    kind = type(value)
    return kind in _NUMBERS or (kind is str and len(value) <= SMALL_CHARACTERS_MAX)  # type: ignore[arg-type]


def dump(serde: SerializerProtocol, name: str, value: Any) -> Value:
    """The value's bytes.

    Raises `InvalidInput` where the serialiser refuses it, `TooLarge` above 16 MiB.
    """
    try:
        kind, data = serde.dumps_typed(value)
    except Exception as error:  # serialisers raise whatever the value provokes
        raise InvalidInput(name, value, f"it cannot be serialised: {type(error).__name__}: {error}") from error
    if len(data) > VALUE_BYTES_MAX:
        raise TooLarge(name, len(data), VALUE_BYTES_MAX)
    return Value(kind, bytes(data))  # LangGraph hands bytearrays over as they are


def load(serde: SerializerProtocol, what: str, kind: str, data: bytes) -> Any:
    """The value in these bytes. Raises `Unreadable` where the serialiser does not understand them."""
    try:
        return serde.loads_typed((kind, data))
    except Exception as error:  # serialisers raise whatever the bytes provoke
        raise Unreadable(f"{what} cannot be read as {kind}: {type(error).__name__}: {error}") from error


class Packed(NamedTuple):
    """Values as their record names them, the chunks to be written before it with their SHA-256, and what is left."""

    stored: list[StoredFields]
    chunks: list[tuple[str, list[bytes]]]
    inline_bytes: int


def packed(values: Sequence[Value]) -> Packed:
    """Leaves in the record what fits into it; the largest of what does not fit goes out first."""
    inline_bytes = 0
    for value in values:
        inline_bytes += len(value.data)
    if inline_bytes <= INLINE_BYTES_MAX:
        return Packed([{"kind": kind, "data": data, "size": len(data)} for kind, data in values], [], inline_bytes)
    by_size = sorted(range(len(values)), key=lambda number: len(values[number].data), reverse=True)
    out: set[int] = set()
    for number in by_size:
        if inline_bytes <= INLINE_BYTES_MAX:
            break
        out.add(number)
        inline_bytes -= len(values[number].data)
    found = Packed([], [], inline_bytes)
    for number, (kind, data) in enumerate(values):
        if number not in out:
            found.stored.append({"kind": kind, "data": data, "size": len(data)})
            continue
        parts = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
        digest = hashlib.sha256(data).hexdigest()
        found.stored.append({"kind": kind, "data": None, "sha256": digest, "size": len(data), "chunks": len(parts)})
        if all(digest != known for known, _ in found.chunks):
            found.chunks.append((digest, parts))
    return found
