"""W1: a request to an agent in another process and back, beside a raw ping-pong over two topics of the same broker."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from diurna_deploy.bench import processes
from diurna_deploy.bench.rounds import Rounds, interleaved

P50_RATIO_MAX: Final = 2.5
RATE_RATIO_MIN: Final = 0.15
_MODULE: Final = "w1_processes"


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked: one at a time after a warm-up, then many at once."""

    warm_up: int = 200
    one_at_a_time: int = 1_000
    at_once: int = 6_000
    in_flight: int = 64

    def arguments(self) -> list[str]:
        return [str(self.warm_up), str(self.one_at_a_time), str(self.at_once), str(self.in_flight)]


def summary(found: Rounds) -> dict[str, Any]:
    """The medians in short, how they stand to the reference's, and whether they are what they should be."""
    p50, rate = found.ratio("diurna", "raw", "p50_ms"), found.ratio("diurna", "raw", "rate")
    return {
        "p50_ms": found.median("diurna", "p50_ms"),
        "p99_ms": found.median("diurna", "p99_ms"),
        "requests_per_second": found.median("diurna", "rate"),
        "raw_p50_ms": found.median("raw", "p50_ms"),
        "raw_p99_ms": found.median("raw", "p99_ms"),
        "raw_requests_per_second": found.median("raw", "rate"),
        "p50_ratio": p50,
        "p99_ratio": found.ratio("diurna", "raw", "p99_ms"),
        "rate_ratio": rate,
        "is_reached": p50 <= P50_RATIO_MAX and rate >= RATE_RATIO_MIN,
    }


async def measure(
    bootstrap_servers: str,
    *,
    schema_registry_url: str | None = None,
    rounds: int = 3,
    load: Load | None = None,
) -> dict[str, Any]:
    """Measures on a broker where somebody decides. Without a schema registry, records carry numbers of their own."""
    target = [bootstrap_servers, schema_registry_url or "-", f"bench-{uuid.uuid4().hex[:8]}"]
    asked = (load or Load()).arguments()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(processes.running(_MODULE, "echo", *target))
        await stack.enter_async_context(processes.running(_MODULE, "raw-echo", *target))
        cases = {
            name: partial(processes.outcome, _MODULE, role, *target, *asked)
            for name, role in (("raw", "raw-client"), ("diurna", "client"))
        }
        return summary(await interleaved(cases, rounds=rounds))
