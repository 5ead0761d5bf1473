"""W4: a million events into empty tables: how fast, whether the last ones as fast as the first, and in what memory."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

import psutil

from diurna_deploy.bench.w4_projector import filled
from diurna_streams.project.hands import HAND

PARTS: Final = 4


async def measure(database_url: str, *, events: int = 1_000_000, rounds: int = 1) -> dict[str, Any]:
    """Events a second, beside the plainest upsert of as many; the rate and the most memory in each quarter."""
    async with filled(database_url, events) as bench:
        found: list[dict[str, Any]] = []
        for _ in range(rounds):
            course = _Course(events)
            made = await bench.bulk(course.advance)
            plain = await bench.aio_upsert()
            found.append({
                "events_per_second": made["per_second"],
                "cpu_us_per_event": made["cpu_us"],
                "aio_upsert_events_per_second": plain["per_second"],
                "ratio": made["per_second"] / plain["per_second"],
                "quarters_events_per_second": course.rates,
                "quarters_memory_mb": course.memory_mb,
            })  # fmt: skip
    return {"workload": "W4 rebuild", "events": events, "rounds": found}


class _Course:
    """What each part of the work took."""

    def __init__(self, events: int) -> None:
        self._part = events / PARTS
        self._process = psutil.Process()
        self._done = self._counted = 0
        self._began = time.perf_counter()
        self._most_mb = 0.0
        self.rates: list[float] = []
        self.memory_mb: list[float] = []

    def advance(self, records: int) -> None:
        self._done += records
        self._most_mb = max(self._most_mb, _memory_mb(self._process))
        if self._done >= self._part * (len(self.rates) + 1):
            now = time.perf_counter()
            self.rates.append((self._done - self._counted) / (now - self._began))
            self.memory_mb.append(self._most_mb)
            self._began, self._counted, self._most_mb = now, self._done, 0.0


def _memory_mb(process: psutil.Process) -> float:
    """Of a process and of those that do a part of its work."""
    found = process.memory_info().rss
    for child in process.children():
        with suppress(psutil.Error):  # it may just have ended
            if HAND in child.cmdline():
                found += child.memory_info().rss
    return float(found) / 2**20
