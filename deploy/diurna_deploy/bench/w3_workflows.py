"""W3: a unit of workflow state (create, ten versioned updates, checkpoint, restore) beside the floor of its kind.

The floor writes as many records and reads each back before it writes the next, one hop an operation, and decides
nothing: whoever decides on the log cannot take less with these clients. Ours takes two hops, command and event.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from diurna_deploy.bench import processes
from diurna_deploy.bench.rounds import interleaved

P50_RATIO_MAX: Final = 1.5
RATE_RATIO_MIN: Final = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """How many units: one at a time after a warm-up, then many at once."""

    warm_up: int = 10
    one_at_a_time: int = 100
    at_once: int = 480
    in_flight: int = 16

    def arguments(self) -> list[str]:
        return [str(self.warm_up), str(self.one_at_a_time), str(self.at_once), str(self.in_flight)]


async def measure(
    bootstrap_servers: str, *, schema_registry_url: str | None = None, rounds: int = 3, load: Load | None = None
) -> dict[str, Any]:
    """Measures on a broker whose workflows somebody decides: units alone and together, and each operation's time."""
    asked = [bootstrap_servers, schema_registry_url or "-", *(load or Load()).arguments()]

    cases = {role: partial(processes.outcome, "w3_processes", role, *asked) for role in ("floor", "diurna")}
    found = await interleaved(cases, rounds=rounds)
    p50 = found.ratio("diurna", "floor", "p50_ms")
    rate = found.ratio("diurna", "floor", "units_per_second")
    operations = ("create", "update", "checkpoint", "restore")
    return {
        "workload": "W3",
        "unit_p50_ms": found.median("diurna", "p50_ms"),
        "unit_p99_ms": found.median("diurna", "p99_ms"),
        "units_per_second": found.median("diurna", "units_per_second"),
        **{f"{name}_p50_ms": found.median("diurna", f"{name}_p50_ms") for name in operations},
        "client_cpu_us_per_unit": found.median("diurna", "client_cpu_us_per_unit_many"),
        "floor_unit_p50_ms": found.median("floor", "p50_ms"),
        "floor_units_per_second": found.median("floor", "units_per_second"),
        "floor_write_p50_ms": found.median("floor", "write_p50_ms"),
        "p50_ratio": p50,
        "p50_ratios": found.ratios("diurna", "floor", "p50_ms"),
        "rate_ratio": rate,
        "rate_ratios": found.ratios("diurna", "floor", "units_per_second"),
        "is_reached": p50 <= P50_RATIO_MAX and rate >= RATE_RATIO_MIN,
    }
