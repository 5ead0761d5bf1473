"""W2: locks beside the floor, a client that folds the lock's log itself, in the same rounds on the same broker.

A: one client, acquire and release. B: 16 contenders in four processes for one lock. C: 64 clients, each with a lock of
its own. Deciders, contenders and clients are processes of their own.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

from diurna_deploy.bench import processes
from diurna_deploy.bench.rounds import Measures, Rounds, interleaved
from diurna_schemas.topics import Topic
from diurna_streams.log.kafka import KafkaLog

ONE_RATIO_MAX: Final = 1.5
ONE_RATIO_STRETCH: Final = 1.1
CONTENDED_RATIO_MIN: Final = 0.6
FAIRNESS_MIN: Final = 0.98
MANY_RATIO_MIN: Final = 0.4
_MODULE: Final = "w2_processes"


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked of each."""

    warm_up: int = 200
    pairs: int = 1_000
    seconds: int = 4
    contenders: int = 16
    contending_processes: int = 4
    locks: int = 64


class Hold(NamedTuple):
    """Who held the lock when, in seconds of one clock."""

    contender: int
    asked: float
    entered: float
    left: float


async def measure(
    bootstrap_servers: str,
    *,
    schema_registry_url: str | None = None,
    rounds: int = 3,
    load: Load | None = None,
) -> dict[str, Any]:
    """Measures on a broker where somebody decides. Without a schema registry, records carry numbers of their own."""
    given = load or Load()
    name = f"bench-{uuid.uuid4().hex[:8]}"
    async with KafkaLog(bootstrap_servers, client_id="bench") as log:
        await log.provision([Topic(name, "lock", 1, "delete", "CreateTime", 3_600_000, "the bench's")])
    target = (bootstrap_servers, schema_registry_url or "-")
    turn = 0

    async def case(system: str) -> Measures:
        nonlocal turn
        turn += 1
        resources = name if system == "floor" else f"{name}-{turn}"
        place = (system, *target, resources)
        return {
            **await _one(place, given),
            **await _contended(place, given),
            **await _many(place, given),
        }

    return summary(await interleaved({"floor": lambda: case("floor"), "diurna": lambda: case("diurna")}, rounds=rounds))


def summary(found: Rounds) -> dict[str, Any]:
    """The figures in short, and whether they are what they should be."""
    one = found.ratio("diurna", "floor", "one_p50_ms")
    contended = found.ratio("diurna", "floor", "contended_pairs")
    many = found.ratio("diurna", "floor", "many_pairs")
    fairness, holders = found.median("diurna", "fairness"), max(_all(found, "diurna", "holders_max"))
    figures = {
        f"{prefix}{measure}": round(found.median(case, measure), 4)
        for measure in found.measured[0]["diurna"]
        for case, prefix in (("diurna", ""), ("floor", "floor_"))
    }
    return {
        **figures,
        "one_p50_ratio": round(one, 3),
        "contended_pairs_ratio": round(contended, 3),
        "many_pairs_ratio": round(many, 3),
        "holders_max": holders,
        "is_reached": one <= ONE_RATIO_MAX
        and contended >= CONTENDED_RATIO_MIN
        and fairness >= FAIRNESS_MIN
        and many >= MANY_RATIO_MIN
        and holders == 1,
    }


def judged(holds: Sequence[Hold], contenders: int) -> Measures:
    """What the holds of all contenders say together: how many held at once, how quick the hand-over, how fair."""
    ordered = sorted(holds, key=lambda hold: hold.entered)
    handovers = sorted(
        after.entered - before.left for before, after in pairwise(ordered) if before.contender != after.contender
    )
    waits = sorted(hold.entered - hold.asked for hold in ordered)
    return {
        "contended_pairs": len(ordered) / (max(hold.left for hold in ordered) - min(hold.asked for hold in ordered)),
        "handover_p50_ms": _quantile(handovers, 0.5) * 1000,
        "handover_p99_ms": _quantile(handovers, 0.99) * 1000,
        "wait_p99_ms": _quantile(waits, 0.99) * 1000,
        "fairness": fairness(Counter(hold.contender for hold in ordered), contenders),
        "holders_max": holders_max(ordered),
    }


def fairness(pairs: Counter[int], contenders: int) -> float:
    """Jain's index: 1 where everybody had as much, 1/n where one had it all."""
    total, squares = sum(pairs.values()), sum(count * count for count in pairs.values())
    return total * total / (contenders * squares) if squares else 0.0


def holders_max(holds: Sequence[Hold]) -> int:
    """How many held the lock at once, at most."""
    # Leaving before entering at the same moment: that is a hand-over.
    moments = sorted([(hold.entered, 1) for hold in holds] + [(hold.left, -1) for hold in holds])
    inside = most = 0
    for _, change in moments:
        inside += change
        most = max(most, inside)
    return most


async def _one(place: tuple[str, ...], load: Load) -> Measures:
    (found,) = await _together([("one", *place, str(load.warm_up), str(load.pairs))])
    took = sorted(found["took"])
    return {
        "one_p50_ms": _quantile(took, 0.5) * 1000,
        "one_p99_ms": _quantile(took, 0.99) * 1000,
        "one_client_cpu_us": found["cpu"] / len(took) * 1e6,
    }


async def _contended(place: tuple[str, ...], load: Load) -> Measures:
    share = load.contenders // load.contending_processes
    found = await _together(
        [
            ("contend", *place, str(load.seconds), str(number * share), str(share))
            for number in range(load.contending_processes)
        ]
    )
    holds = [Hold(*hold) for one in found for hold in one["holds"]]
    cpu = sum(one["cpu"] for one in found)
    return {**judged(holds, share * load.contending_processes), "contended_client_cpu_us": cpu / len(holds) * 1e6}


async def _many(place: tuple[str, ...], load: Load) -> Measures:
    (found,) = await _together([("many", *place, str(load.seconds), str(load.locks))])
    return {
        "many_pairs": found["pairs"] / found["seconds"],
        "many_client_cpu_us": found["cpu"] / found["pairs"] * 1e6,
    }


async def _together(commands: Sequence[Sequence[str]]) -> list[Any]:
    """Starts processes, lets them go at once when all are ready, and returns what each measured."""
    running = [await processes.started(_MODULE, *command) for command in commands]
    try:
        for process, command in zip(running, commands, strict=True):
            await processes.ready(process, command[0])
        for process in running:
            if process.stdin is not None:
                process.stdin.write(b"go\n")
        return await asyncio.gather(
            *(processes.measured(process, command[0]) for process, command in zip(running, commands, strict=True))
        )
    finally:
        for process in running:
            await processes.stopped(process)


def _quantile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def _all(found: Rounds, case: str, measure: str) -> list[float]:
    return [one[case][measure] for one in found.measured]
