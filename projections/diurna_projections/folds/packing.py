"""Many writes in one value: what a task wrote is written and read together, and a row for each would cost more."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

_HEAD: Final = struct.Struct(">qIII")


class PackedWrite(NamedTuple):
    """One write: its index among the task's, the channel, how the value is serialised, and the value."""

    number: int
    channel: str
    kind: str
    value: bytes


def pack(writes: Iterable[PackedWrite]) -> bytes:
    """In order of their indexes: each with its index and three lengths before channel, kind and value."""
    parts: list[bytes] = []
    for write in sorted(writes, key=lambda one: one.number):
        channel, kind = write.channel.encode(), write.kind.encode()
        parts += (_HEAD.pack(write.number, len(channel), len(kind), len(write.value)), channel, kind, write.value)
    return b"".join(parts)


def unpack(data: bytes) -> list[PackedWrite]:
    """What `pack` packed."""
    writes: list[PackedWrite] = []
    start = 0
    while start < len(data):
        number, channel_size, kind_size, value_size = _HEAD.unpack_from(data, start)
        start += _HEAD.size
        channel = data[start : start + channel_size].decode()
        start += channel_size
        kind = data[start : start + kind_size].decode()
        start += kind_size
        writes.append(PackedWrite(number, channel, kind, data[start : start + value_size]))
        start += value_size
    return writes
