"""Starts, stops and looks at kept services, by the identity of their processes and never by a name."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from diurna_agents import child_environment, service_keeper
from diurna_agents.errors import ServiceBusy
from diurna_agents.infrastructure.services import Service
from diurna_agents.process import end_of
from diurna_agents.process_identity import ProcessIdentity, adopt
from diurna_agents.workspace import Workspace
from diurna_schemas.errors import Refused

_POLL_SECONDS: Final = 0.05
_KEEPER_SECONDS: Final = 20.0
"""How long a keeper may take to begin, or to end beyond the service's own time."""
_OUTPUT_BYTES_MAX: Final = 4_000


@dataclass(frozen=True, slots=True)
class Standing:
    """How a kept service stands: running, waiting (to be started again), stopped, ended, given_up, failed, unknown."""

    state: str
    pid: int | None = None
    birth: str | None = None
    since: str | None = None
    restarts: int = 0
    exit_code: int | None = None
    detail: str | None = None

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    @property
    def is_over(self) -> bool:
        """It ended, and nobody will start it again unasked."""
        return self.state in {"ended", "given_up"}

    @property
    def lived_seconds(self) -> float:
        """How long it has been running; 0 where it is not."""
        if not self.is_running or self.since is None:
            return 0.0
        return max(time.time() - datetime.fromisoformat(self.since).timestamp(), 0.0)

    def as_json(self) -> dict[str, object]:
        """As an answer holds it."""
        return asdict(self)


class Kept:
    """One service of an agent: its directory, and the keeper that works in it."""

    def __init__(self, name: str, workspace: Workspace) -> None:
        self.name = name
        self.directory = workspace.root / "services" / name
        self._environment = workspace.environment

    def standing(self) -> Standing:
        """What is true now, whatever was written last."""
        found = service_keeper.read_state(self.directory)
        if not found:
            return Standing("stopped")
        process = ProcessIdentity.from_json(found.get("process"))
        state = str(found.get("state", "unknown"))
        is_alive = process is not None and process.is_alive()
        if state in {"running", "waiting"} and not is_alive:
            keeper = self._keeper()
            state = "waiting" if keeper is not None and keeper.is_alive() else "stopped"
        return Standing(
            state=state,
            pid=process.pid if process is not None and is_alive else None,
            birth=process.birth if process is not None and is_alive else None,
            since=found.get("since"),
            restarts=int(found.get("restarts", 0)),
            exit_code=found.get("exit_code"),
            detail=found.get("detail"),
        )

    def output(self) -> str:
        """The end of what the service said."""
        try:
            with (self.directory / service_keeper.OUTPUT).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 2 * _OUTPUT_BYTES_MAX))
                return end_of(file.read().decode("utf-8", "replace").strip(), _OUTPUT_BYTES_MAX)
        except OSError:
            return ""

    @asynccontextmanager
    async def alone(self, wait_seconds: float) -> AsyncGenerator[None]:
        """Holds the service for one task. Raises `ServiceBusy`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + wait_seconds
        with (self.directory / "task.lock").open("ab") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise ServiceBusy(self.name, wait_seconds) from None
                await asyncio.sleep(_POLL_SECONDS)
            yield

    async def start(self, service: Service) -> Standing:
        """Starts it where it does not run. Raises `Refused` where it cannot be started."""
        if (standing := self.standing()).is_running:
            return standing
        if service.command is None:
            raise Refused(f"service {self.name}: it has no command to start it with", code="not_startable")
        await self._end_keeper(service.stop_seconds)
        self._write(service)
        before = service_keeper.read_state(self.directory).get("since")
        identity = adopt(await asyncio.to_thread(self._started_keeper))
        deadline = time.monotonic() + _KEEPER_SECONDS
        while time.monotonic() < deadline:
            found = service_keeper.read_state(self.directory)
            if found.get("since") not in {None, before}:
                standing = self.standing()
                if standing.state == "failed":
                    raise Refused(f"service {self.name}: {standing.detail}", code="not_startable")
                return standing
            if identity is None or not identity.is_alive():
                break
            await asyncio.sleep(_POLL_SECONDS)
        raise Refused(f"service {self.name}: its keeper did not begin, see {self.directory}", code="not_startable")

    def _started_keeper(self) -> subprocess.Popen[bytes]:
        with (self.directory / "keeper.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "diurna_agents.service_keeper", self.directory],
                cwd=self.directory,
                env={
                    **child_environment.for_services(self._environment),
                    "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def stop(self, stop_seconds: float) -> Standing:
        """Stops the service and its keeper; what is not there is stopped."""
        await self._end_keeper(stop_seconds)
        found = ProcessIdentity.from_json(service_keeper.read_state(self.directory).get("process"))
        if found is not None and found.is_alive():
            # Its keeper was killed before.
            await found.stop(seconds=stop_seconds)
        return self.standing()

    async def _end_keeper(self, stop_seconds: float) -> None:
        keeper = self._keeper()
        if keeper is not None and keeper.is_alive():
            keeper.send(signal.SIGTERM)
            if not await keeper.ended(stop_seconds + _KEEPER_SECONDS):
                await keeper.stop(first=signal.SIGKILL, seconds=1.0)

    def _keeper(self) -> ProcessIdentity | None:
        return ProcessIdentity.from_json(service_keeper.read_state(self.directory).get("keeper"))

    def _write(self, service: Service) -> None:
        directory = service.directory or str(self.directory)
        environment = {**child_environment.for_services(self._environment), **service.environment}
        content = {
            "command": service.command,
            "directory": directory,
            "environment": environment,
            "restart": service.restart,
            "stop_seconds": service.stop_seconds,
        }
        path = self.directory / service_keeper.SERVICE
        # It may hold what the service's environment keeps secret.
        path.touch(mode=0o600)
        path.write_text(json.dumps(content), "utf-8")
