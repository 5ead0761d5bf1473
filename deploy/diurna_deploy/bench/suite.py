"""`diurna bench`: which measurements there are, and how each is run on the stack of a state directory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypedDict

from diurna_deploy.settings import Settings
from diurna_deploy.stack.state import Addresses, StateDirectory
from diurna_deploy.telling import Steps
from diurna_schemas.errors import InvalidInput, Unavailable

Figures = dict[str, Any]
Bench = Callable[[Settings, int], Awaitable[Figures]]


class _Place(TypedDict):
    """A broker, and whose numbers its records carry: a registry's, or our own where there is none."""

    bootstrap_servers: str
    schema_registry_url: str | None


async def measure(
    names: Iterable[str], *, settings: Settings, rounds: int, told: Callable[[Steps], None] = lambda _: None
) -> dict[str, Figures]:
    """The figures of each named measurement, or of all. Raises `InvalidInput` where there is none of that name."""
    chosen = list(names) or list(BENCHES)
    for name in chosen:
        if name not in BENCHES:
            raise InvalidInput("name", name, f"there are {', '.join(BENCHES)}")
    steps, found = Steps(len(chosen)), dict[str, Figures]()
    told(steps)
    for name in chosen:
        found[name] = await BENCHES[name](settings, rounds)
        steps.done += 1
        told(steps)
    return found


def addresses_of(settings: Settings) -> Addresses:
    """The stack that runs in the state directory. Raises `Unavailable` where none does."""
    found = StateDirectory(settings.state_dir).addresses()
    if found is None:
        raise Unavailable(f"no stack runs in {settings.state_dir}: `diurna up --detach` starts one to measure")
    return found


async def requests(settings: Settings, rounds: int) -> Figures:
    """W1: a request and its answer, across processes, beside two raw hops through Kafka."""
    from diurna_deploy.bench import w1_requests

    return await _path_and_beside(settings, lambda place: w1_requests.measure(**place, rounds=rounds))


async def locks(settings: Settings, rounds: int) -> Figures:
    """W2: locks of one client and of many, beside clients that fold the log themselves; and 100,000 held at once."""
    from diurna_deploy.bench import w2_locks, w2_memory

    found = await _path_and_beside(settings, lambda place: w2_locks.measure(**place, rounds=rounds))
    return {**found, "held": await w2_memory.measure(settings)}


async def workflows(settings: Settings, rounds: int) -> Figures:
    """W3: a unit of workflow state, thirteen operations, beside as many records written and read back."""
    from diurna_deploy.bench import w3_workflows

    return await _path_and_beside(settings, lambda place: w3_workflows.measure(**place, rounds=rounds))


async def _path_and_beside(settings: Settings, figures: Callable[[_Place], Awaitable[Figures]]) -> Figures:
    """The path alone (a broker of its own, who decides, who asks); then beside all that reads along in the stack."""
    from diurna_deploy.bench.own_servers import own_log

    stack = addresses_of(settings)
    async with own_log(settings) as servers:
        path = await figures({"bootstrap_servers": servers, "schema_registry_url": None})
    beside = await figures(
        {"bootstrap_servers": stack.kafka_bootstrap_servers, "schema_registry_url": stack.schema_registry_url}
    )
    return {**path, "with_the_whole_stack_beside": beside}


async def langgraph(settings: Settings, rounds: int) -> Figures:
    """W3: a ten-node graph on our checkpoint saver, beside LangGraph's own in memory."""
    from diurna.settings import ClientSettings
    from diurna_deploy.bench import w3_langgraph

    found = addresses_of(settings)
    client = ClientSettings(found.kafka_bootstrap_servers, found.schema_registry_url, found.api_url)
    return await w3_langgraph.measure(client, found.database_url, rounds=rounds)


async def projector(_: Settings, rounds: int) -> Figures:
    """W4: the projector in bulk, beside the plainest upsert; live; and how fresh the tables are."""
    from diurna_deploy.bench import w4_projector
    from diurna_deploy.bench.own_servers import own_database

    async with own_database() as url:
        return await w4_projector.measure(url, rounds=rounds)


async def rebuild(_: Settings, rounds: int) -> Figures:
    """W4: a million events into empty tables, beside the plainest upsert; a minute or two a round."""
    from diurna_deploy.bench import w4_rebuild
    from diurna_deploy.bench.own_servers import own_database

    async with own_database() as url:
        return await w4_rebuild.measure(url, rounds=rounds)


async def reads(_: Settings, rounds: int) -> Figures:
    """W5: an agent read over HTTP, beside a row read through a pool."""
    from diurna_deploy.bench import w5_reads
    from diurna_deploy.bench.own_servers import own_database

    async with own_database() as url:
        return await w5_reads.measure(url, rounds=rounds)


async def start(settings: Settings, rounds: int) -> Figures:
    """Seconds until Kafka, Postgres and the schema registry answer, and until all does: the first time, and again."""
    figures: dict[str, list[float]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="diurna-bench-") as folder:
            own = settings.model_copy(update={"state_dir": Path(folder), "api_port": 0})
            for turn in ("new", "again"):
                servers_seconds, seconds = await _started_and_stopped(own)
                figures.setdefault(f"{turn}_servers_seconds", []).append(servers_seconds)
                figures.setdefault(f"{turn}_seconds", []).append(seconds)
    return {name: min(seconds) for name, seconds in figures.items()} | {"rounds": rounds}


async def _started_and_stopped(settings: Settings) -> tuple[float, float]:
    """Seconds until the servers answered, and until all did."""
    from diurna_deploy.lifecycle import start_stack, stop_stack

    began = time.perf_counter()
    answered: list[float] = []

    async def note(_: Addresses) -> None:
        answered.append(time.perf_counter() - began)

    await start_stack(settings, populate=note)
    everything = time.perf_counter() - began
    await stop_stack(settings)
    return answered[0], everything


BENCHES: Final[dict[str, Bench]] = {
    "start": start,
    "w1": requests,
    "w2": locks,
    "w3": workflows,
    "w3-langgraph": langgraph,
    "w4": projector,
    "w4-rebuild": rebuild,
    "w5": reads,
}
"""By name, in the order in which they run."""
