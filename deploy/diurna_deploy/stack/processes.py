"""The Python processes of the stack: what to run is data, what runs is a file for each that names its process."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from diurna_agents.process_identity import ProcessIdentity
from diurna_deploy.stack.files import read_json, write_json
from diurna_deploy.stack.state import RunningProcess, StateDirectory
from diurna_schemas.errors import InvalidInput

Ready = str | Path | Callable[[], Awaitable[bool]] | None
"""A URL that answers 2xx, a file the process makes, a question to ask, or None: it is enough that it runs."""

STAGE_MAX: Final = 9
RESERVED: Final = frozenset({"kafka", "postgres", "supervisor", "nursery"})
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to keep running. It is told the stack's addresses in `DIURNA_…` variables, then `env`."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    ready: Ready = None
    stage: int = 0
    """Processes start by rising stage, each stage once the one before is ready, and stop the other way round."""
    stop_seconds: float = 10.0
    waits_for: int | None = None
    """The stage that has to be ready before this one starts, where that is not the one before its own."""

    @property
    def step(self) -> int:
        """When it starts, beside the stages of the others."""
        return self.stage if self.waits_for is None else self.waits_for + 1

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in RESERVED:
            raise InvalidInput("name", self.name, "a process name is lower case, up to 64 letters, digits, - and _")
        if not self.argv:
            raise InvalidInput("argv", self.argv, "a process needs a program")
        if not 0 <= self.stage <= STAGE_MAX:
            raise InvalidInput("stage", self.stage, f"a stage is a number from 0 to {STAGE_MAX}")
        if self.waits_for is not None and not 0 <= self.waits_for < self.stage:
            raise InvalidInput("waits_for", self.waits_for, f"an earlier stage than {self.stage}, its own")


@dataclass(frozen=True, slots=True)
class Order:
    """What the supervisor is told of one process."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    ready_file: str | None
    stage: int
    stop_seconds: float

    @classmethod
    def of(cls, spec: ProcessSpec, env: Mapping[str, str]) -> Order:
        ready_file = str(spec.ready) if isinstance(spec.ready, Path) else None
        return cls(spec.name, spec.argv, {**env, **spec.env}, ready_file, spec.stage, spec.stop_seconds)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Order:
        return cls(
            name=str(value["name"]),
            argv=tuple(str(word) for word in value["argv"]),
            env={str(name): str(text) for name, text in value["env"].items()},
            ready_file=None if value["ready_file"] is None else str(value["ready_file"]),
            stage=int(value["stage"]),
            stop_seconds=float(value["stop_seconds"]),
        )

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Orders:
    """All the supervisor is told: the processes, and the servers (name → port) it starts again when they die."""

    processes: tuple[Order, ...] = ()
    nodes: Mapping[str, int] = field(default_factory=dict[str, int])
    cache_dir: str = ""

    @classmethod
    def read(cls, state: StateDirectory) -> Orders | None:
        content = read_json(orders_file(state))
        if content is None:
            return None
        processes = tuple(Order.from_json(value) for value in content["processes"])
        return cls(processes, {str(name): int(port) for name, port in content["nodes"].items()}, content["cache_dir"])

    def write(self, state: StateDirectory) -> None:
        processes = [order.to_json() for order in self.processes]
        write_json(orders_file(state), {"processes": processes, "nodes": dict(self.nodes), "cache_dir": self.cache_dir})


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """What the supervisor last wrote about one process."""

    name: str
    identity: ProcessIdentity | None
    state: str
    restarts: int = 0
    exit_code: int | None = None
    stage: int = 0
    stop_seconds: float = 10.0

    @classmethod
    def read(cls, path: Path) -> ProcessRecord | None:
        content = read_json(path)
        if content is None or "state" not in content:
            return None
        return cls(
            name=path.stem,
            identity=ProcessIdentity.from_json(content.get("process")),
            state=str(content["state"]),
            restarts=int(content.get("restarts", 0)),
            exit_code=content.get("exit_code"),
            stage=int(content.get("stage", 0)),
            stop_seconds=float(content.get("stop_seconds", 10.0)),
        )

    def write(self, state: StateDirectory) -> None:
        content = {name: getattr(self, name) for name in self.__slots__ if name != "identity"}
        content["process"] = None if self.identity is None else self.identity.to_json()
        write_json(record_file(state, self.name), content)

    def is_alive(self) -> bool:
        return self.identity is not None and self.identity.is_alive()


def orders_file(state: StateDirectory) -> Path:
    return state.root / "orders.json"


def record_file(state: StateDirectory, name: str) -> Path:
    return state.processes / f"{name}.json"


def log_file(state: StateDirectory, name: str) -> Path:
    return state.logs / f"{name}.log"


def records(state: StateDirectory) -> list[ProcessRecord]:
    """Of every process but the supervisor itself, by stage and name."""
    found = [ProcessRecord.read(path) for path in state.processes.glob("*.json") if path.stem != "supervisor"]
    return sorted((record for record in found if record is not None), key=lambda record: (record.stage, record.name))


def supervisor(state: StateDirectory) -> ProcessIdentity | None:
    """The supervisor that runs here; None where none does."""
    record = ProcessRecord.read(record_file(state, "supervisor"))
    return record.identity if record is not None and record.is_alive() else None


def running_processes(state: StateDirectory) -> list[RunningProcess]:
    """Every process the supervisor wrote down, with what is true now."""
    shown: list[RunningProcess] = []
    for record in records(state):
        alive = record.is_alive()
        told = "stopped" if record.state == "running" and not alive else record.state
        pid = record.identity.pid if record.identity is not None and alive else None
        ready = read_json(state.processes / f"{record.name}.ready") if pid is not None else None
        shown.append(
            RunningProcess(
                record.name,
                pid,
                str(log_file(state, record.name)),
                told,
                record.restarts,
                metrics_url=None if ready is None else ready.get("metrics_url"),
            )
        )
    return shown


async def stop_leftovers(state: StateDirectory, *, keep: Sequence[str] = ()) -> list[str]:
    """Stops what a supervisor left behind, by falling stage; only processes that are still the ones written down."""
    stopped: list[str] = []
    for record in reversed(records(state)):
        if record.name in keep:
            continue
        if record.identity is not None and record.identity.is_alive():
            await record.identity.stop(seconds=record.stop_seconds)
            stopped.append(record.name)
        record_file(state, record.name).unlink(missing_ok=True)
    return stopped
