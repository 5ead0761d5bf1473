"""W3, LangGraph: a ten-node graph of about 0.6 kB of state, run and read back, beside LangGraph's saver in memory.

Each round is a process of its own, set up as the processes of the stack are. Every run is on a thread of its own.
InMemorySaver keeps dictionaries and is gone with its process: it is the limit of what any saver can do under LangGraph.
Ours is guarded by a lock a thread, on the log with acks=all, and in Postgres through the live projector; all of them
run beside it on the same machine.
"""

# LangGraph's annotations leave the types of states open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median, quantiles
from typing import Any, Final, Literal, TypedDict

import structlog
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from diurna.connection import Connection
from diurna.settings import ClientSettings
from diurna_deploy.bench import processes
from diurna_deploy.bench.rounds import Case, Measures, Rounds, interleaved
from diurna_projections.store import StoredThreads
from diurna_workflows.checkpointer import KafkaCheckpointSaver, SoleWriter

NODES: Final = 10
IN_FLIGHT: Final = 16
RUNS: Final = 60
CONCURRENT_RUNS: Final = 160
_MODULE: Final = "w3_langgraph"
_STATE_CHARACTERS: Final = 560
_WARM_UP_RUNS: Final = 5

Durability = Literal["async", "sync"]


class State(TypedDict):
    """What the graph works on: a text of constant size, and how many nodes have run."""

    text: str
    steps: int


async def measure(settings: ClientSettings, database_url: str, *, rounds: int = 5) -> dict[str, Any]:
    """Milliseconds a run, one at a time, and runs a second with 16 at once; ratios to InMemorySaver in each round."""
    where = settings.kafka_bootstrap_servers, settings.schema_registry_url, database_url
    found = [
        await processes.measured(await processes.started(_MODULE, str(turn), *where), _MODULE) for turn in range(rounds)
    ]
    return {
        "workload": "W3 LangGraph",
        "nodes": NODES,
        "durability": "1 broker, acks=all, page cache; InMemorySaver: none",
        **_figures(Rounds(tuple(found))),
    }


async def _round(settings: ClientSettings, database_url: str, turn: int) -> Mapping[str, Measures]:
    async with await Connection.open(settings, source="/bench") as connection:
        reads = await StoredThreads.connect(database_url)
        unguarded_reads = await StoredThreads.connect(database_url)
        async with (
            KafkaCheckpointSaver(connection, reads=reads) as ours,
            KafkaCheckpointSaver(connection, reads=unguarded_reads, guard=SoleWriter()) as unguarded,
        ):
            savers: dict[str, Callable[[], BaseCheckpointSaver[Any]]] = {
                "memory": InMemorySaver,
                "kafka": lambda: ours,
                "kafka_unguarded": lambda: unguarded,
            }
            cases: dict[str, Case] = {}
            for name, saver in savers.items():
                cases[name] = partial(_one_at_a_time, saver, "async")
                cases[f"{name}_16"] = partial(_many_at_once, saver, "async")
            cases["memory_sync"] = partial(_one_at_a_time, InMemorySaver, "sync")
            cases["kafka_sync"] = partial(_one_at_a_time, lambda: ours, "sync")
            cases["no_saver"] = partial(_one_at_a_time, lambda: None, "async")
            return (await interleaved(cases, rounds=1, turn=turn)).measured[0]


def _figures(found: Rounds) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for case in ("memory", "kafka", "kafka_unguarded", "memory_sync", "kafka_sync", "no_saver"):
        figures[f"{case}_p50_ms"] = found.median(case, "p50_ms")
        figures[f"{case}_p95_ms"] = found.median(case, "p95_ms")
    for case in ("memory_16", "kafka_16", "kafka_unguarded_16"):
        figures[f"{case}_runs_per_second"] = found.median(case, "per_second")
        figures[f"{case}_cpu_us"] = found.median(case, "cpu_us")
    for case in ("kafka", "kafka_unguarded"):
        figures[f"{case}_ratio"] = found.ratio(case, "memory", "p50_ms")
        figures[f"{case}_ratios"] = found.ratios(case, "memory", "p50_ms")
        figures[f"{case}_16_ratio"] = 1 / found.ratio(f"{case}_16", "memory_16", "per_second")
    figures["kafka_sync_ratio"] = found.ratio("kafka_sync", "memory_sync", "p50_ms")
    return figures


async def _one_at_a_time(
    make: Callable[[], BaseCheckpointSaver[Any] | None], durability: Durability
) -> dict[str, float]:
    graph = _graph(make())
    for _ in range(_WARM_UP_RUNS):
        await _run(graph, durability)
    seconds: list[float] = []
    for _ in range(RUNS):
        began = time.perf_counter()
        await _run(graph, durability)
        seconds.append(time.perf_counter() - began)
    return {"p50_ms": median(seconds) * 1000, "p95_ms": quantiles(seconds, n=20)[18] * 1000}


async def _many_at_once(
    make: Callable[[], BaseCheckpointSaver[Any] | None], durability: Durability
) -> dict[str, float]:
    graph = _graph(make())
    left = iter(range(CONCURRENT_RUNS))

    async def work() -> None:
        for _ in left:
            await _run(graph, durability)

    await _run(graph, durability)
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    took = time.perf_counter() - began
    return {"per_second": CONCURRENT_RUNS / took, "cpu_us": (time.process_time() - cpu) / CONCURRENT_RUNS * 1e6}


async def _run(graph: Any, durability: Durability) -> None:
    """A run on a thread of its own, and its state read back."""
    config = {"configurable": {"thread_id": f"bench-{uuid.uuid4()}"}}
    given = {"text": "x" * _STATE_CHARACTERS, "steps": 0}
    if graph.checkpointer is None:
        await graph.ainvoke(given, config)
        return
    final = await graph.ainvoke(given, config, durability=durability)
    state = await graph.aget_state(config)
    if state.values != final or final["steps"] != NODES:
        raise AssertionError(f"read back {state.values}, the run ended with {final}")


def _graph(saver: BaseCheckpointSaver[Any] | None) -> Any:
    graph = StateGraph(State)
    before = START
    for number in range(NODES):
        graph.add_node(f"node-{number}", _node)
        graph.add_edge(before, f"node-{number}")
        before = f"node-{number}"
    graph.add_edge(before, END)
    return graph.compile(checkpointer=saver)


async def _node(state: State) -> dict[str, Any]:
    return {"text": state["text"][1:] + str(state["steps"]), "steps": state["steps"] + 1}


def main() -> None:
    """`python -m diurna_deploy.bench.w3_langgraph TURN SERVERS REGISTRY DATABASE`: one round, printed as JSON."""
    import uvloop

    from diurna_deploy.collector import calm

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    turn, servers, registry, database_url = sys.argv[1:]
    calm()
    found = uvloop.run(_round(ClientSettings(servers, registry), database_url, int(turn)))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
