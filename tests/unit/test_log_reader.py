"""How much a reader of the log takes in while nobody reads from it, on a consumer that always has more."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest

from diurna_streams.log import librdkafka
from diurna_streams.log.librdkafka import HANDED_BYTES_MAX, LibrdkafkaReader
from diurna_streams.log.port import TopicPartition

SIZE = 100_000
AT_ONCE = 20
PLACE = TopicPartition("topic", 0)


class Large:
    """A message as confluent-kafka gives it."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def __len__(self) -> int:
        return SIZE

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return PLACE.topic

    def partition(self) -> int:
        return PLACE.partition

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1

    def key(self) -> None:
        return None

    def value(self) -> bytes:
        return b""

    def headers(self) -> None:
        return None


class Endless:
    """A consumer that has more than anybody should take."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.offsets = itertools.count()
        self.given = 0
        self.is_too_much = threading.Event()

    def assign(self, places: list[Any]) -> None: ...

    def poll(self, seconds: float) -> Large:
        return self.consume(1, 0)[0]

    def consume(self, count: int, seconds: float) -> list[Large]:
        some = [Large(next(self.offsets)) for _ in range(min(count, AT_ONCE))]
        self.given += len(some)
        if self.given * SIZE > 4 * HANDED_BYTES_MAX:
            self.is_too_much.set()
        return some

    def close(self) -> None: ...


async def test_a_reader_takes_in_a_bounded_number_of_bytes_and_goes_on_where_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Endless] = []

    def consumer(options: dict[str, Any]) -> Endless:
        made.append(Endless(options))
        return made[0]

    monkeypatch.setattr(librdkafka, "Consumer", consumer)
    reader = LibrdkafkaReader("nowhere", "reader")
    await reader.start_at({PLACE: 0})
    assert not made[0].is_too_much.wait(0.3), "the loop is busy, and the thread fills the memory"
    await asyncio.sleep(0.1)
    assert not made[0].is_too_much.is_set(), "nobody reads, and the thread fills the memory"
    seen = 0
    async with asyncio.timeout(30):
        while seen * SIZE < 8 * HANDED_BYTES_MAX:
            for record in await reader.read(records_max=7):
                assert record.offset == seen
                seen += 1
    assert (made[0].given - seen) * SIZE <= 2 * HANDED_BYTES_MAX
    await reader.close()
