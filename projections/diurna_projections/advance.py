"""Which records of a partition count, and where the projection stands afterwards: pure, the same for every store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from diurna_projections.errors import OutOfStep
from diurna_projections.records import CHAINED, WITH_GAPS, LogRecord, Reading
from diurna_schemas.chain import Acceptor, Head, Verdict
from diurna_schemas.codec import Codec
from diurna_schemas.errors import Unreadable


@dataclass(frozen=True, slots=True)
class Advance:
    """What a batch does to one partition: the records that count, and how many did not."""

    head: Head
    accepted: list[Reading]
    repeated: int = 0
    duplicates: int = 0
    aliens: int = 0


def understood(codec: Codec, records: Iterable[LogRecord]) -> list[Reading]:
    """Decodes records; what cannot be decoded says why."""
    decode = codec.decode
    readings: list[Reading] = []
    for record in records:
        try:
            readings.append(Reading(record, decode(record.value)))
        except Unreadable as error:
            readings.append(Reading(record, error))
    return readings


def advance(topic: str, partition: int, head: Head, readings: Sequence[Reading]) -> Advance:
    """Goes from `head` over the next records of one partition.

    Records below the head were projected before and are left out. Raises `OutOfStep` where a record is missing between
    the head and the first of the others, or between two of them.
    """
    acceptor = Acceptor(head) if topic in CHAINED else None
    is_accepted = Verdict.ACCEPTED
    has_gaps = topic in WITH_GAPS
    expected = head.next_offset
    accepted: list[Reading] = []
    repeated = 0
    for reading in readings:
        record = reading.record
        offset = record.offset
        if offset < expected:
            repeated += 1
            continue
        if offset > expected and not has_gaps:
            raise OutOfStep(topic, partition, expected=expected, found=offset)
        expected = offset + 1
        if acceptor is None or acceptor.accept(offset, record.headers) is is_accepted:
            accepted.append(reading)
    if acceptor is None:
        return Advance(head.past(expected - 1), accepted, repeated)
    return Advance(acceptor.head, accepted, repeated, acceptor.duplicates, acceptor.aliens)
