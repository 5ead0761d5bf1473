"""W5: a registry read over HTTP beside the same read through a pool of connections without HTTP.

Each part is a process of its own: the server, the load of 32 connections, the pool of 10 with 32 coroutines.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from statistics import quantiles
from typing import Any, Final, cast

import orjson

from diurna_deploy.bench.rounds import Rounds, interleaved

AGENTS: Final = 1_000
CONNECTIONS: Final = 32
POOL: Final = 10
_ANSWER_SECONDS_MAX: Final = 30.0


async def measure(database_url: str, *, rounds: int = 5, seconds: float = 3.0) -> dict[str, Any]:
    """Reads a second over HTTP and through the pool, interleaved, and the median of their ratios.

    Fills the schema `bench_reads` of the database with a thousand agents.
    """
    await _fill(database_url)
    async with _server(database_url) as port:

        async def http() -> dict[str, float]:
            return await _child("load", str(port), str(seconds))

        async def pool() -> dict[str, float]:
            return await _child("pool", database_url, str(seconds))

        found: Rounds = await interleaved({"http": http, "pool_read": pool}, rounds=rounds)
    return {
        "workload": "W5",
        "agents": AGENTS,
        "http_reads_per_second": found.median("http", "per_second"),
        "http_p50_ms": found.median("http", "p50_ms"),
        "http_p99_ms": found.median("http", "p99_ms"),
        "pool_reads_per_second": found.median("pool_read", "per_second"),
        "ratio": found.ratio("http", "pool_read", "per_second"),
        "ratios": found.ratios("http", "pool_read", "per_second"),
    }


SCHEMA: Final = "bench_reads"


async def _fill(database_url: str) -> None:
    """A thousand agents, each of one instance with two capabilities and a heartbeat."""
    from diurna_projections import rows
    from diurna_projections.store import Store

    store = await Store.connect(database_url, schema=SCHEMA)
    await store.drop()
    await store.migrate()
    now_ms = int(time.time() * 1000)
    capabilities = (
        '[{"name":"review_code","description":"reads","parameters":{},"cost_estimate":1.0,"tags":["python"]}]'
    )
    filled: dict[rows.Table[Any], list[tuple[Any, ...]]] = {
        table: [] for table in (rows.AGENTS, rows.AGENT_INSTANCES, rows.HEARTBEATS)
    }
    for number in range(AGENTS):
        name = f"agent-{number}"
        instance = f"{name}:1"
        at = (now_ms, now_ms, 0, number)
        about = (name, name.title(), "http://127.0.0.1:1", capabilities, "active", "{}", 1, *at)
        worker = (name, instance, name, "http://127.0.0.1:1", capabilities, 4, "active", "{}", number, *at)
        beat = (name, instance, now_ms, 0, "active", now_ms, 0, number)
        for table, row in zip(filled, (about, worker, beat), strict=True):
            filled[table].append(row)
    async with store.database.connection() as connection:
        for table, records in filled.items():
            await connection.copy_records_to_table(table.name, records=records, columns=list(table.columns))
    await store.close()


@asynccontextmanager
async def _server(database_url: str) -> AsyncGenerator[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "diurna_deploy.bench.w5_reads", "server", database_url, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_ANSWER_SECONDS_MAX):
            line = await cast("asyncio.StreamReader", process.stdout).readline()
        yield int(line)
    finally:
        process.terminate()
        await process.wait()


async def _child(*arguments: str) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "diurna_deploy.bench.w5_reads", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return cast("dict[str, float]", orjson.loads(output))


# --- the processes --------------------------------------------------------------------------------------


async def serve(database_url: str) -> None:
    """The read routes alone, on a free port, which is printed."""
    import uvicorn
    from fastapi import FastAPI

    from diurna_projections.api import HotReads, install_problems, read_router
    from diurna_projections.queries import Queries
    from diurna_schemas.codec import Codec

    queries = await Queries.connect(database_url, Codec.numbered(), schema=SCHEMA, connections_max=POOL)
    app = FastAPI()
    app.add_middleware(HotReads, queries=queries)
    app.include_router(read_router(queries))
    install_problems(app)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", access_log=False))
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await running
    await queries.close()


class _Load(asyncio.Protocol):
    """One connection that asks, waits for the whole answer, and asks again."""

    def __init__(self, number: int, until: float, took_ms: list[float]) -> None:
        self._number = number
        self._until = until
        self._took_ms = took_ms
        self._asked = 0.0
        self._left = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        if self._left <= 0:
            head, _, body = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                self.done.set_exception(RuntimeError(f"not an answer to be counted: {head[:80]!r}"))
                self._transport.close()
                return
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            self._left = length - len(body)
        else:
            self._left -= len(data)
        if self._left <= 0:
            now = time.perf_counter()
            self._took_ms.append((now - self._asked) * 1000)
            if now < self._until:
                self._ask()
            else:
                self.done.set_result(None)
                self._transport.close()

    def _ask(self) -> None:
        self._number = (self._number * 31 + 7) % AGENTS
        self._asked = time.perf_counter()
        self._transport.write(b"GET /agents/agent-%d HTTP/1.1\r\nHost: bench\r\n\r\n" % self._number)


async def load(port: str, seconds: str) -> None:
    """Prints answers a second and their latency with 32 connections."""
    took_ms: list[float] = []
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + float(seconds)
    started = time.perf_counter()
    made = [_Load(number, until, took_ms) for number in range(CONNECTIONS)]
    for protocol in made:
        await loop.create_connection(partial(_same, protocol), "127.0.0.1", int(port))
    await asyncio.gather(*(protocol.done for protocol in made))
    _tell(took_ms, time.perf_counter() - started)


async def pool_read(database_url: str, seconds: str) -> None:
    """Prints reads a second of a row by its key through asyncpg's pool as it comes, 10 connections, 32 coroutines."""
    import asyncpg

    took_ms: list[float] = []
    until = time.perf_counter() + float(seconds)
    async with asyncpg.create_pool(
        database_url, min_size=POOL, max_size=POOL, server_settings={"search_path": SCHEMA}
    ) as pool:

        async def ask(number: int) -> None:
            while (asked := time.perf_counter()) < until:
                number = (number * 31 + 7) % AGENTS
                row = await pool.fetchrow("select * from agents where agent_id = $1", f"agent-{number}")
                assert row is not None
                took_ms.append((time.perf_counter() - asked) * 1000)

        started = time.perf_counter()
        await asyncio.gather(*(ask(number) for number in range(CONNECTIONS)))
        _tell(took_ms, time.perf_counter() - started)


def _same(protocol: _Load) -> _Load:
    return protocol


def _tell(took_ms: list[float], seconds: float) -> None:
    cuts = quantiles(took_ms, n=100)
    found = {"per_second": len(took_ms) / seconds, "p50_ms": cuts[49], "p99_ms": cuts[98]}
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    import uvloop

    role, *rest = sys.argv[1:]
    roles: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"server": serve, "load": load, "pool": pool_read}
    uvloop.run(roles[role](*rest))
