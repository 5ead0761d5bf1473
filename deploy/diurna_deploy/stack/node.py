"""A server of the stack that several callers share: one starts it and owns nothing more than the rest, who join it.

The starter takes `owner.lock` and hands its descriptor to the server, so the lock lasts exactly as long as the server
and its children: a server killed with SIGKILL frees it, and a starter killed with SIGKILL does not.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from diurna_agents.process_identity import ProcessIdentity, adopt
from diurna_deploy.stack.files import (
    FileLock,
    last_lines,
    private_directory,
    read_json,
    require_space,
    write_json,
)
from diurna_deploy.stack.ports import asked_for, kept_ports
from diurna_deploy.stack.progress import Silent, Teller
from diurna_schemas.errors import Conflict, TimedOut, Unavailable

_POLL_SECONDS = 0.02
_PORT_ATTEMPTS_MAX = 3
_SPACE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """The server that runs in a folder, as its starter wrote it down."""

    identity: ProcessIdentity
    version: str
    ports: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> NodeRecord | None:
        content: dict[str, Any] = read_json(path) or {}
        identity = ProcessIdentity.from_json(content.get("process"))
        ports = content.get("ports")
        if identity is None or not isinstance(ports, dict):
            return None
        return cls(identity, str(content.get("version", "")), {str(k): int(v) for k, v in ports.items()})  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]

    def write(self, path: Path) -> None:
        write_json(path, {"process": self.identity.to_json(), "version": self.version, "ports": self.ports})


class Node(ABC):
    """A server with a folder of its own. `start` and `stop` may be called by anybody with that folder."""

    name: ClassVar[str]
    version: ClassVar[str]
    port_names: ClassVar[tuple[str, ...]]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_seconds: float = 20.0
    start_seconds: float = 90.0

    def __init__(self, state_dir: Path, *, port: int = 0, teller: Teller | None = None) -> None:
        self.state_dir = state_dir
        self.folder = state_dir / self.name
        self.log = state_dir / "logs" / f"{self.name}.log"
        self.asked_port = port
        self.teller = teller or Silent()

    async def start(self) -> bool:
        """Returns when the server answers: True where we started it, False where we joined one that ran.

        Raises `Conflict` where the folder is another account's or another version runs in it or an asked port is taken,
        `Unavailable` where the server does not come up.
        """
        private_directory(self.state_dir)
        private_directory(self.folder)
        private_directory(self.log.parent)
        await self.fetch()
        deadline = time.monotonic() + self.start_seconds
        while True:
            lock = FileLock.try_take(self.folder / "owner.lock")
            if lock is not None:
                with lock:
                    await self._own(lock)
                return True
            record = self.record()
            if record is not None and record.identity.is_alive() and await self._joins(record):
                return False
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{self.name}: another process holds {self.folder} and does not answer: `diurna down`"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def stop(self) -> bool:
        """Stops the server that runs in the folder, whoever started it. False where none runs."""
        record = self.running()
        if record is None:
            return False
        await record.identity.stop(first=self.stop_signal, seconds=self.stop_seconds)
        (self.folder / "node.json").unlink(missing_ok=True)
        return True

    def record(self) -> NodeRecord | None:
        return NodeRecord.read(self.folder / "node.json")

    def running(self) -> NodeRecord | None:
        """The server, if its process lives; whether it answers is another question."""
        record = self.record()
        return record if record is not None and record.identity.is_alive() else None

    async def is_answering(self) -> bool:
        record = self.running()
        return record is not None and await self.answers(record.ports)

    async def fetch(self) -> None:
        """Brings what is not on this machine yet; before any lock of the folder is taken."""
        return

    @abstractmethod
    def prepare(self) -> None:
        """Makes the folder ready for a first start; called with the lock held, may block."""

    @abstractmethod
    def launch(self, ports: dict[str, int], lock: FileLock) -> subprocess.Popen[bytes]:
        """Starts the process with the lock's descriptor inherited, in a session of its own."""

    @abstractmethod
    async def answers(self, ports: dict[str, int]) -> bool:
        """Whether the server takes requests."""

    async def _joins(self, record: NodeRecord) -> bool:
        if record.version != self.version:
            raise Conflict(
                f"{self.name} {record.version} runs in {self.folder} (process {record.identity.pid}), this is "
                f"{self.version}: stop it first with `diurna down`",
                code="other_version",
            )
        return await self.answers(record.ports)

    async def _own(self, lock: FileLock) -> None:
        require_space(self.folder, _SPACE_BYTES, self.name)
        await asyncio.to_thread(self.prepare)
        for attempt in range(1, _PORT_ATTEMPTS_MAX + 1):
            if self.asked_port:
                asked_for(f"DIURNA_{self.name.upper()}_PORT", self.asked_port)
            wanted = dict.fromkeys(self.port_names, 0) | {self.port_names[0]: self.asked_port}
            ports = kept_ports(self.folder / "ports.json", wanted)
            written_before = self.log.stat().st_size if self.log.exists() else 0
            if await self._came_up(ports, lock):
                return
            # between looking and listening somebody else may have taken the port: then choose again
            if attempt == _PORT_ATTEMPTS_MAX or not self._port_was_taken(written_before):
                raise Unavailable(f"{self.name} ended while it started, {self.log} says:\n{last_lines(self.log)}")

    async def _came_up(self, ports: dict[str, int], lock: FileLock) -> bool:
        """False where the process ended before it answered."""
        child = self.launch(ports, lock)
        identity = adopt(child)
        if identity is None:
            return False
        try:
            NodeRecord(identity, self.version, ports).write(self.folder / "node.json")
            deadline = time.monotonic() + self.start_seconds
            while not await self.answers(ports):
                if not identity.is_alive():
                    return False
                if time.monotonic() > deadline:
                    raise TimedOut(f"{self.name} (see {self.log})", self.start_seconds)
                await asyncio.sleep(_POLL_SECONDS)
        except BaseException:
            identity.send(signal.SIGKILL)
            raise
        return True

    def _port_was_taken(self, written_before: int) -> bool:
        with self.log.open("rb") as file:
            file.seek(written_before)
            return b"ddress already in use" in file.read()
