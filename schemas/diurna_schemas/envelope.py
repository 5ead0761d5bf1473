"""The headers of a record: CloudEvents 1.0 in binary mode, what ties it to other records, and the chain's link."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from diurna_schemas.errors import BrokenChain, shown
from diurna_schemas.message import Event, Message

Headers = tuple[tuple[str, bytes], ...]

GENESIS: Final = "0" * 32
"""The hash before the first event of a partition."""
_NAMESPACE = uuid.UUID("6f1d8a4e-3c0b-5d4a-9a55-0d1a7c2e9b10")
CONTENT_TYPE: Final = b"application/avro"
LOGIC_VERSION: Final = "logicversion"


@dataclass(frozen=True, slots=True)
class Link:
    """Where an event stands in its partition's history.

    `command_offset` and `index` name the decision; `previous` and `hash` (32 hex digits) tie it to the event before.
    """

    incarnation: int
    command_offset: int
    index: int
    previous: str
    hash: str

    @property
    def order(self) -> tuple[int, int, int]:
        """Later decisions are larger."""
        return (self.incarnation, self.command_offset, self.index)

    @property
    def at(self) -> str:
        return f"{self.incarnation}.{self.command_offset}.{self.index}"


def chain_hash(previous: str, at: str, type_name: str, key: bytes, value: bytes) -> str:
    """The hash of an event: BLAKE2b, 16 bytes, over its predecessor's hash, its place, type, key and value."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (previous.encode(), at.encode(), type_name.encode(), key):
        digest.update(len(part).to_bytes(4, "big") + part)
    digest.update(value)
    return digest.hexdigest()


def event_id(topic: str, incarnation: int, partition: int, command_offset: int, index: int) -> str:
    """The id of an event: a name-based UUID of its place, so that every owner gives it the same."""
    # uuid.uuid5 step by step: it is made for every event, and the class costs more than the hash.
    name = f"{topic}/{incarnation}/{partition}/{command_offset}/{index}"
    digest = hashlib.sha1(_NAMESPACE.bytes + name.encode(), usedforsecurity=False).digest()[:16].hex()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:]}"


def iso(ms: int) -> str:
    """Milliseconds UTC as ISO 8601, such as `2026-11-23T22:12:49.123Z`."""
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def cloud_event(
    *,
    id: str,  # noqa: A002 - CloudEvents' own word
    type_name: str,
    source: str,
    subject: str,
    at_ms: int,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    traceparent: str | None = None,
) -> Headers:
    """The headers of any record."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", id.encode()),
        ("ce_type", type_name.encode()),
        ("ce_source", source.encode()),
        ("ce_subject", subject.encode()),
        ("ce_time", iso(at_ms).encode()),
        ("content-type", CONTENT_TYPE),
    ]
    if correlation_id:
        headers.append(("correlationid", correlation_id.encode()))
    if causation_id:
        headers.append(("causationid", causation_id.encode()))
    if traceparent:
        headers.append(("traceparent", traceparent.encode()))
    return tuple(headers)


def command_headers(
    command: Message,
    *,
    command_id: str,
    source: str,
    at_ms: int,
    correlation_id: str | None,
    traceparent: str | None,
) -> Headers:
    """The headers of a command."""
    return cloud_event(
        id=command_id,
        type_name=command.type_name,
        source=source,
        subject=command.subject,
        at_ms=at_ms,
        correlation_id=correlation_id or command.correlation,
        traceparent=traceparent,
    )


def event_headers(
    event: Event,
    link: Link,
    *,
    partition: int,
    correlation_id: str | None,
    traceparent: str | None,
    logic_version: int = 1,
) -> Headers:
    """The headers of a decided event, its link in the chain among them.

    `logic_version` says by which rules it was decided; the first ones go without saying. An event that belongs to other
    work than its command (an answer makes room for somebody else's request) is not part of its command's trace.
    """
    is_of_its_work = not event.correlation or not correlation_id or event.correlation == correlation_id
    version = () if logic_version == 1 else ((LOGIC_VERSION, str(logic_version).encode()),)
    return (
        *cloud_event(
            id=event_id(event.topic, link.incarnation, partition, link.command_offset, link.index),
            type_name=event.type_name,
            source=f"/deciders/{event.topic}/{partition}",
            subject=event.subject,
            at_ms=event.at_ms,
            correlation_id=event.correlation or correlation_id,
            causation_id=event.command_id,
            traceparent=traceparent if is_of_its_work else None,
        ),
        *version,
        ("chain_at", link.at.encode()),
        ("chain_previous", link.previous.encode()),
        ("chain_hash", link.hash.encode()),
    )


def logic_version_of(headers: Iterable[tuple[str, bytes]]) -> int:
    """By which version of the rules an event was decided; 0 where the header says nothing that could be one."""
    for key, value in headers:
        if key == LOGIC_VERSION:
            return int(value) if _VERSION.fullmatch(value) else 0
    return 1


def header(headers: Iterable[tuple[str, bytes]], name: str) -> str | None:
    """The text of a header; none where it is missing, replacement characters where it is no UTF-8."""
    for key, value in headers:
        if key == name:
            return value.decode("utf-8", "replace")
    return None


def link_of(headers: Sequence[tuple[str, bytes]]) -> Link:
    """The chain's link an event carries. Raises `BrokenChain` where it carries none."""
    place, previous, digest = link_parts(headers)
    return Link(*place, previous.decode(), digest.decode())


def link_parts(headers: Sequence[tuple[str, bytes]]) -> tuple[tuple[int, int, int], bytes, bytes]:
    """The same without an object: the place in the chain (comparable), and both hashes as they stand there."""
    try:  # where `event_headers` puts them
        (first, at), (second, previous), (third, digest) = headers[-3:]
    except ValueError:
        first = second = third = ""
        at = previous = digest = b""
    if third != "chain_hash" or second != "chain_previous" or first != "chain_at":
        found = dict(headers)
        at, previous, digest = [found.get(name, b"") for name in ("chain_at", "chain_previous", "chain_hash")]
    place = _PLACE.fullmatch(at)
    if place is None or len(previous) != 32 or len(digest) != 32 or (previous + digest).translate(None, _HEX_DIGITS):
        raise BrokenChain(f"no link of the chain in the headers: chain_at is {shown(at)}")
    incarnation, command_offset, index = place.groups()
    return (int(incarnation), int(command_offset), int(index)), previous, digest


# Bounded, because headers come from anywhere: a number of thousands of digits would be another error than ours.
_PLACE = re.compile(rb"([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})")
_HEX_DIGITS: Final = b"0123456789abcdef"
_VERSION = re.compile(rb"[0-9]{1,9}")
