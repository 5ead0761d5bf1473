"""Keeps the processes of one state directory running: `python -m diurna_deploy.stack.supervisor STATE_DIR [preload]`.

It outlives whoever started it. Its orders lie in `orders.json`, which it reads again when they change; what runs it
writes to `processes/NAME.json`. A process that ends is started again, later each time it lives only briefly, and given
up after a bounded number of brief lives. Servers that die are started again on the same ports. SIGTERM stops the
processes, by falling stage, and then the supervisor.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from diurna_agents.process_identity import ProcessIdentity
from diurna_deploy.stack.environment import process_environment
from diurna_deploy.stack.files import FileLock, private_log
from diurna_deploy.stack.kafka import KafkaNode
from diurna_deploy.stack.node import Node
from diurna_deploy.stack.nursery import Forked, Nursery
from diurna_deploy.stack.postgres import PostgresNode
from diurna_deploy.stack.processes import (
    Order,
    Orders,
    ProcessRecord,
    log_file,
    orders_file,
    record_file,
    stop_leftovers,
)
from diurna_deploy.stack.state import StateDirectory
from diurna_schemas.errors import DiurnaError

BACKOFF_SECONDS_MIN: Final = 0.1
BACKOFF_SECONDS_MAX: Final = 5.0
BRIEF_SECONDS: Final = 10.0
"""A life shorter than this counts against a process."""
BRIEF_LIVES_MAX: Final = 12
LOG_BYTES_MAX: Final = 16 * 2**20
TICK_SECONDS: Final = 0.1
NODE_TICK_SECONDS: Final = 1.0


@dataclass(slots=True)
class Child:
    """One process and its luck so far."""

    order: Order
    state: StateDirectory
    nursery: Nursery
    popen: subprocess.Popen[bytes] | Forked | None = None
    identity: ProcessIdentity | None = None
    began: float = 0.0
    next_start: float = 0.0
    brief_lives: int = 0
    restarts: int = 0
    exit_code: int | None = None
    given_up: bool = False
    unwritten: str | None = None
    """What is true and could not be written down: the disk is full."""

    async def look(self) -> None:
        """Starts the process where it is due, notices where it has ended."""
        if self.unwritten is not None:
            self.write(self.unwritten)
        if self.given_up:
            return
        if self.popen is None:
            if time.monotonic() >= self.next_start:
                self._begin()
                await self._start()
        elif self.identity is None or not self.identity.is_alive():
            _kill_group(self.popen.pid)
            self.exit_code = self.popen.wait()
            self._ended(f"ended with {self.exit_code}")

    def _begin(self) -> None:
        if self.order.ready_file is not None:
            Path(self.order.ready_file).unlink(missing_ok=True)
        self.began = time.monotonic()

    async def _start(self) -> None:
        try:
            self.popen = await self.nursery.fork(self.order) or self._started_as_program()
        except OSError as error:
            self._ended(f"cannot be started: {error}")
            return
        self.identity = ProcessIdentity.of(self.popen.pid)
        self.write("running")

    def _started_as_program(self) -> subprocess.Popen[bytes]:
        with private_log(log_file(self.state, self.order.name)) as log:
            return subprocess.Popen(
                self.order.argv,
                env=process_environment(self.order.env),
                cwd=self.state.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _ended(self, how: str) -> None:
        lived = time.monotonic() - self.began
        self.popen, self.identity = None, None
        self.restarts += 1
        self.brief_lives = self.brief_lives + 1 if lived < BRIEF_SECONDS else 1
        self.given_up = self.brief_lives >= BRIEF_LIVES_MAX
        pause = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_MIN * 2 ** (self.brief_lives - 1))
        self.next_start = time.monotonic() + pause
        say(f"{self.order.name} {how} after {lived:.1f} s" + (": given up" if self.given_up else ""))
        self.write("given_up" if self.given_up else "waiting")

    async def stop(self) -> None:
        if self.popen is not None:
            if self.identity is not None:
                await self.identity.stop(seconds=self.order.stop_seconds)
            _kill_group(self.popen.pid)
            self.popen.wait()
        record_file(self.state, self.order.name).unlink(missing_ok=True)

    def write(self, state: str) -> None:
        """Writes down how the process is; where there is no room, again at the next look."""
        order = self.order
        record = ProcessRecord(
            order.name, self.identity, state, self.restarts, self.exit_code, order.stage, order.stop_seconds
        )
        try:
            record.write(self.state)
        except OSError as error:
            if self.unwritten is None:
                say(f"{order.name}: its record cannot be written: {error}")
            self.unwritten = state
        else:
            self.unwritten = None


class Supervisor:
    """The loop over the children, and beside it one over the servers."""

    def __init__(self, state: StateDirectory, *, preload: bool = False) -> None:
        self.state = state
        self.preload = preload
        self.nursery = Nursery(state)
        self.children: dict[str, Child] = {}
        self.orders = Orders()
        self._read_at: int | None = None
        self._stop = asyncio.Event()
        self._own = ProcessIdentity.of(os.getpid())
        self._servers: dict[str, ProcessIdentity] = {}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        if self.preload:
            self.nursery.start()
        await stop_leftovers(self.state)
        ProcessRecord("supervisor", self._own, "running").write(self.state)
        say("the supervisor runs")
        nodes = asyncio.create_task(self._keep_nodes())
        try:
            while not self._stop.is_set():
                if not self._is_known():
                    await self._abandon(nodes)
                    return
                await self._read_orders()
                for child in self.children.values():
                    await child.look()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), TICK_SECONDS)
        finally:
            nodes.cancel()
            await asyncio.gather(nodes, return_exceptions=True)
            self.nursery.stop()
            await self._stop_children(list(self.children))
            if self._is_known():
                record_file(self.state, "supervisor").unlink()
            say("the supervisor stopped")

    def _is_known(self) -> bool:
        """Whether the state directory still names us: nobody could stop a supervisor it does not name."""
        record = ProcessRecord.read(record_file(self.state, "supervisor"))
        return record is not None and record.identity == self._own

    async def _abandon(self, nodes: asyncio.Task[None]) -> None:
        """The state directory was deleted under us: what runs in it ends, and is not made anew."""
        say("the state directory is gone, and so is the stack")
        nodes.cancel()
        await asyncio.gather(nodes, return_exceptions=True)
        await self._stop_children(list(self.children))
        await asyncio.gather(*(server.stop(first=signal.SIGINT) for server in self._servers.values()))

    async def _read_orders(self) -> None:
        try:
            changed = orders_file(self.state).stat().st_mtime_ns
        except FileNotFoundError:
            return
        orders = Orders.read(self.state) if changed != self._read_at else None
        if orders is None:
            return
        self._read_at, self.orders = changed, orders
        for name, port in orders.nodes.items():
            if (server := self._node(name, port).running()) is not None:
                self._servers[name] = server.identity
        wanted = {order.name: order for order in orders.processes}
        obsolete = [name for name, child in self.children.items() if wanted.get(name) != child.order]
        await self._stop_children(obsolete)
        for name, order in wanted.items():
            if name not in self.children:
                self.children[name] = Child(order, self.state, self.nursery)

    async def _stop_children(self, names: list[str]) -> None:
        """A stage at a time, the last one first; the processes of one stage together."""
        for stage in sorted({self.children[name].order.stage for name in names}, reverse=True):
            staged = [name for name in names if self.children[name].order.stage == stage]
            await asyncio.gather(*(self.children[name].stop() for name in staged))
        for name in names:
            del self.children[name]

    async def _keep_nodes(self) -> None:
        """Starts a server again when it has died. On its old port: everybody knows that one."""
        while True:
            await asyncio.sleep(NODE_TICK_SECONDS)
            for name, port in self.orders.nodes.items():
                node = self._node(name, port)
                if (record := node.running()) is not None:
                    self._servers[name] = record.identity
                elif self._is_known():
                    say(f"{name} is gone and is started again")
                    try:
                        await node.start()
                        say(f"{name} answers again")
                    except (DiurnaError, OSError, subprocess.SubprocessError) as error:
                        say(f"{name} cannot be started: {error}")
            for log in self.state.logs.glob("*.log"):
                _bound(log)

    def _node(self, name: str, port: int) -> Node:
        if name == KafkaNode.name:
            return KafkaNode(self.state.root, Path(self.orders.cache_dir), port=port)
        return PostgresNode(self.state.root, port=port)


def say(text: str) -> None:
    """Writes a line to the log. One that finds no room is lost: whoever watches over others must not die of it."""
    with suppress(OSError):
        sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n")
        sys.stderr.flush()


def _kill_group(pid: int) -> None:
    """What a process started and left behind. Called before its exit code is taken: until then no other has its pid."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _bound(log: Path) -> None:
    """Keeps one old file beside the log. Writers append, so cutting the file off under them is safe; a line may go."""
    with suppress(OSError):
        if log.stat().st_size > LOG_BYTES_MAX:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            log.with_suffix(".log.1").chmod(0o600)
            os.truncate(log, 0)


def main() -> int:
    state = StateDirectory(Path(sys.argv[1]))
    lock = FileLock.try_take(state.processes / "supervisor.lock")
    if lock is None:
        say("another supervisor runs here")
        return 1
    with lock:
        asyncio.run(Supervisor(state, preload="preload" in sys.argv[2:]).run())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
