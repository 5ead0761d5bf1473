"""Brings a stack up, takes it down, says how it is: what `diurna up`, `down` and `status` do.

`up` always leaves the stack running behind it: servers and a supervisor in sessions of their own. A caller who wants it
for a while calls `down` in the end.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from diurna_agents.process_identity import ProcessIdentity, adopt
from diurna_deploy.settings import API_PORT, Settings
from diurna_deploy.stack import outside
from diurna_deploy.stack.environment import process_environment
from diurna_deploy.stack.files import FileLock, last_lines, private_log, read_json
from diurna_deploy.stack.kafka import KafkaNode
from diurna_deploy.stack.node import Node
from diurna_deploy.stack.ports import LOOPBACK, asked_for, claimed, kept_ports
from diurna_deploy.stack.postgres import PostgresNode
from diurna_deploy.stack.processes import (
    Order,
    Orders,
    ProcessRecord,
    ProcessSpec,
    log_file,
    orders_file,
    record_file,
    running_processes,
    stop_leftovers,
    supervisor,
)
from diurna_deploy.stack.progress import Silent, Teller
from diurna_deploy.stack.state import SCHEMA_REGISTRY_PATH, Addresses, RunningProcess, StateDirectory
from diurna_schemas.errors import Conflict, TimedOut, Unavailable

Prepare = Callable[[Addresses], Awaitable[None]]
Specs = Sequence[ProcessSpec] | Callable[[Addresses], Sequence[ProcessSpec]]

LOCK_WAIT_SECONDS: Final = 120.0
READY_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 0.5
ENDS_MAX: Final = 3
"""A process that ends so often before it is ready will not become ready."""
SUPERVISOR_STOP_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack that answers. `joined` where it ran before we asked."""

    addresses: Addresses
    processes: tuple[RunningProcess, ...]
    joined: bool


async def up(
    settings: Settings,
    specs: Specs = (),
    *,
    prepare: Prepare | None = None,
    populate: Prepare | None = None,
    progress: Teller | None = None,
    ready_seconds: float = READY_SECONDS,
    preload: bool = False,
) -> Stack:
    """Starts what is not running and returns when everything answers; `stack.json` then says where.

    `prepare` runs when Kafka and Postgres answer, before any process; `populate` when the processes of the lowest stage
    are ready, before the others. Where it fails, what was started is stopped again. `preload` where the processes are
    workers of ours: then they are forked from a process that has loaded what they need (see `nursery`).
    Raises `Conflict` where the state directory is another's or an asked port is taken, `Unavailable` where a part does
    not come up.
    """
    teller = progress or Silent()
    state = StateDirectory(settings.state_dir)
    state.make()
    async with _alone(state):
        stack = _Starting(settings, state, teller, ready_seconds, preload=preload)
        try:
            return await stack.run(specs, prepare, populate)
        except BaseException:
            await asyncio.shield(stack.undo())
            raise
        finally:
            stack.close()


async def down(settings: Settings) -> list[str]:
    """Stops what runs in the state directory, and only that; returns the names of what it stopped."""
    state = StateDirectory(settings.state_dir)
    if not state.root.exists():
        return []
    state.make()
    async with _alone(state):
        stopped = await _stop_processes(state)
        nodes: list[Node] = [PostgresNode(state.root), KafkaNode(state.root, settings.cache_dir)]
        ended = await asyncio.gather(*(node.stop() for node in nodes))
        state.stack_file.unlink(missing_ok=True)
        return stopped + [node.name for node, was_running in zip(nodes, ended, strict=True) if was_running]


async def status(settings: Settings) -> dict[str, object]:
    """What runs in the state directory: the addresses (None where nothing is up) and every process.

    `running` where any of it lives, `healthy` where all of it does and answers.
    """
    state = StateDirectory(settings.state_dir)
    addresses = state.addresses()
    processes = await running(state, settings)
    told: dict[str, object] = {name: None for name in Addresses.__slots__}  # noqa: C420 - typed as objects
    if addresses is not None:
        told |= addresses.to_json()
    alive = addresses is not None and any(process.pid is not None for process in processes)
    healthy = alive and all(process.state == "running" and process.answers is not False for process in processes)
    return told | {
        "state_dir": str(state.root),
        "running": alive,
        "healthy": healthy,
        "processes": [process.to_json() for process in processes],
    }


async def running(state: StateDirectory, settings: Settings) -> list[RunningProcess]:
    """Servers, supervisor and processes of the state directory, with what is true now."""
    found: list[RunningProcess] = []
    nodes: list[Node] = [KafkaNode(state.root, settings.cache_dir), PostgresNode(state.root)]
    for node in nodes:
        record = node.running()
        if record is not None:
            answers = await node.answers(record.ports)
            found.append(RunningProcess(node.name, record.identity.pid, str(node.log), "running", answers=answers))
        elif node.record() is not None:
            found.append(RunningProcess(node.name, None, str(node.log), "stopped", answers=False))
    watching = supervisor(state)
    if watching is not None or orders_file(state).exists():
        alive = "stopped" if watching is None else "running"
        pid = None if watching is None else watching.pid
        found.append(RunningProcess("supervisor", pid, str(log_file(state, "supervisor")), alive))
    return found + running_processes(state)


class _Starting:
    """One `up`: what it started so far, so that a failure can undo it."""

    def __init__(
        self, settings: Settings, state: StateDirectory, teller: Teller, ready_seconds: float, *, preload: bool
    ) -> None:
        self.preload = preload
        self.settings = settings
        self.state = state
        self.teller = teller
        self.ready_seconds = ready_seconds
        self.kafka = KafkaNode(state.root, settings.cache_dir, port=settings.kafka_port, teller=teller)
        self.postgres = PostgresNode(state.root, port=settings.postgres_port, teller=teller)
        self.started_nodes: list[Node] = []
        self.launched: subprocess.Popen[bytes] | None = None
        self.api_claim: FileLock | None = None

    async def run(self, specs: Specs, prepare: Prepare | None, populate: Prepare | None) -> Stack:
        ran = supervisor(self.state) is not None and self.state.addresses() is not None
        if not ran:  # what a broken `up` or a killed supervisor left would hold our ports
            await _stop_processes(self.state)
        api_url = self._api_url()  # first: a port that is taken is known without starting a server
        if not ran:  # before the servers: it has things to load while they start
            self.state.stack_file.unlink(missing_ok=True)  # what it says is over, or cannot be read
            self.launched = _launch_supervisor(self.state, preload=self.preload)
        await self._servers()
        addresses = self._addresses(api_url)
        wanted = list(specs(addresses) if callable(specs) else specs)
        if self.launched is None:
            return await self._join(addresses, wanted)
        await self._check_outside()
        if prepare is not None:
            await prepare(addresses)
        await self._supervised(self.launched)
        steps = sorted({spec.step for spec in wanted})
        for step in steps or [0]:
            self._order([spec for spec in wanted if spec.step <= step], addresses)
            await self._ready([spec for spec in wanted if spec.step == step])
            if populate is not None and step == min(steps, default=0):
                await populate(addresses)
        processes = await running(self.state, self.settings)
        self.state.write_stack(addresses, processes)
        return Stack(addresses, tuple(processes), joined=False)

    async def undo(self) -> None:
        if self.launched is not None:
            # by its number: it may not have said yet who it is
            identity = ProcessIdentity.of(self.launched.pid)
            if identity is not None:
                await identity.stop(seconds=SUPERVISOR_STOP_SECONDS)
            await _stop_processes(self.state)
            self.state.stack_file.unlink(missing_ok=True)
        await asyncio.gather(*(node.stop() for node in self.started_nodes))

    def close(self) -> None:
        """Once everything answers, or nothing does."""
        if self.api_claim is not None:
            self.api_claim.release()
        self.teller.close()

    async def _servers(self) -> None:
        """Kafka and Postgres at once; neither where the settings name another."""
        nodes: list[Node] = []
        if self.settings.kafka_bootstrap_servers is None:
            nodes.append(self.kafka)
        if self.settings.database_url is None:
            nodes.append(self.postgres)
        results = await asyncio.gather(*(self._server(node) for node in nodes), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _server(self, node: Node) -> None:
        began = time.monotonic()
        started = await node.start()
        if started:
            self.started_nodes.append(node)
        did = "answers" if started else "ran already"
        self.teller.say(node.name, f"{did} after {time.monotonic() - began:.1f} s")

    def _api_url(self) -> str:
        before = self.state.addresses() if supervisor(self.state) is not None else None
        return before.api_url if before is not None else f"http://{LOOPBACK}:{self._api_port()}"

    def _addresses(self, api_url: str) -> Addresses:
        settings = self.settings
        return Addresses(
            kafka_bootstrap_servers=settings.kafka_bootstrap_servers or self.kafka.bootstrap_servers,
            database_url=settings.database_url or self.postgres.database_url(),
            schema_registry_url=settings.schema_registry_url or f"{api_url}{SCHEMA_REGISTRY_PATH}",
            api_url=api_url,
        )

    def _api_port(self) -> int:
        """The one asked for, or an error; else the usual one; else, where that is taken, one that stays the same."""
        settings = self.settings
        if settings.api_port_was_asked_for and settings.api_port:
            return asked_for("DIURNA_API_PORT", settings.api_port)
        if settings.api_port:
            self.api_claim = claimed(API_PORT)
            if self.api_claim is not None:
                return API_PORT
        return kept_ports(self.state.ports, {"api": 0})["api"]

    async def _join(self, addresses: Addresses, wanted: list[ProcessSpec]) -> Stack:
        """The stack that is up already. Raises `Conflict` where it is not the one we want."""
        orders = Orders.read(self.state)
        names = {order.name for order in orders.processes} if orders is not None else set[str]()
        if missing := {spec.name for spec in wanted} - names:
            raise Conflict(
                f"a stack without {', '.join(sorted(missing))} runs in {self.state.root}: stop it with `diurna down`"
            )
        if addresses != self.state.addresses():
            raise Conflict(f"a stack with other addresses runs in {self.state.root}: stop it with `diurna down`")
        await self._ready(wanted)
        return Stack(addresses, tuple(await running(self.state, self.settings)), joined=True)

    async def _check_outside(self) -> None:
        """Your own servers must answer before anything is started against them."""
        if self.settings.kafka_bootstrap_servers is not None:
            await outside.check_kafka(self.settings.kafka_bootstrap_servers)
        if self.settings.database_url is not None:
            await outside.check_postgres(self.settings.database_url)
        if self.settings.schema_registry_url is not None:
            await outside.check_registry(self.settings.schema_registry_url)

    async def _supervised(self, child: subprocess.Popen[bytes]) -> None:
        """Returns once the supervisor has said who it is."""
        deadline = time.monotonic() + self.ready_seconds
        while supervisor(self.state) is None:
            if child.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"the supervisor does not start:\n{last_lines(log_file(self.state, 'supervisor'))}")
            await asyncio.sleep(_POLL_SECONDS)

    def _order(self, specs: list[ProcessSpec], addresses: Addresses) -> None:
        env = addresses.to_environment() | {
            "DIURNA_API_PORT": addresses.api_url.rpartition(":")[2],
            "DIURNA_STATE_DIR": str(self.state.root),
            "DIURNA_CACHE_DIR": str(self.settings.cache_dir),
            "DIURNA_LOG_LEVEL": self.settings.log_level,
            "DIURNA_LOG_FORMAT": self.settings.log_format,
        }
        nodes = {
            node.name: record.ports[node.port_names[0]]
            for node in (self.kafka, self.postgres)
            if (record := node.running()) is not None
        }
        Orders(tuple(Order.of(spec, env) for spec in specs), nodes, str(self.settings.cache_dir)).write(self.state)

    async def _ready(self, specs: list[ProcessSpec]) -> None:
        await asyncio.gather(*(self._one_ready(spec) for spec in specs))

    async def _one_ready(self, spec: ProcessSpec) -> None:
        began = time.monotonic()
        log = log_file(self.state, spec.name)
        while True:
            record = ProcessRecord.read(record_file(self.state, spec.name))
            if record is not None and record.restarts >= ENDS_MAX:
                raise Unavailable(
                    f"{spec.name} ended {record.restarts} times, the last with {record.exit_code}, {log} says:\n"
                    f"{last_lines(log)}"
                )
            if record is not None and record.is_alive() and await self._is_ready(spec, record):
                self.teller.say(spec.name, f"ready after {time.monotonic() - began:.1f} s")
                return
            if time.monotonic() - began > self.ready_seconds:
                raise TimedOut(f"{spec.name} is not ready (see {log})", self.ready_seconds)
            await asyncio.sleep(_POLL_SECONDS)

    async def _is_ready(self, spec: ProcessSpec, record: ProcessRecord) -> bool:
        """A process that does not say when it is ready has to live for a moment, at least."""
        if spec.ready is None:
            return record.identity is not None and not await record.identity.ended(SETTLE_SECONDS)
        return await outside.is_ready(spec.ready)


def _launch_supervisor(state: StateDirectory, *, preload: bool) -> subprocess.Popen[bytes]:
    orders_file(state).unlink(missing_ok=True)
    options = ["preload"] if preload else []
    with private_log(log_file(state, "supervisor")) as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "diurna_deploy.stack.supervisor", str(state.root), *options],
            env=process_environment(),
            cwd=state.root,  # where `-m` looks first: a module of the user's directory is none of ours
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    adopt(child)
    return child


async def _stop_processes(state: StateDirectory) -> list[str]:
    """The supervisor with its processes, and what a killed supervisor left."""
    names = [process.name for process in running_processes(state) if process.pid is not None]
    watching = supervisor(state)
    if watching is not None:
        names.append("supervisor")
        await watching.stop(seconds=SUPERVISOR_STOP_SECONDS)
    record_file(state, "supervisor").unlink(missing_ok=True)
    await stop_leftovers(state)
    orders_file(state).unlink(missing_ok=True)
    return names


@asynccontextmanager
async def _alone(state: StateDirectory) -> AsyncGenerator[None]:
    """Keeps two who start or stop in one state directory apart: the second waits, then finds what the first did."""
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while (lock := FileLock.try_take(state.up_lock)) is None:
        if time.monotonic() > deadline:
            holder = (read_json(state.up_lock) or {}).get("pid", "unknown")
            raise Conflict(f"process {holder} has been starting or stopping {state.root} for {LOCK_WAIT_SECONDS:g} s")
        await asyncio.sleep(_POLL_SECONDS)
    with lock:
        lock.sign()
        yield
