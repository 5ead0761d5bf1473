"""The state directory: what lies where, and `stack.json`, which says what runs in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from diurna_deploy.stack.files import private_directory, read_json, write_json

SCHEMA_REGISTRY_PATH: Final = "/schema-registry"
"""Where the API serves the registry's routes."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything answers."""

    kafka_bootstrap_servers: str
    database_url: str
    schema_registry_url: str
    api_url: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self | None:
        """None where one of them is missing."""
        found = {name: value.get(name) for name in cls.__slots__}
        return cls(**{name: str(url) for name, url in found.items()}) if all(found.values()) else None

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def to_environment(self) -> dict[str, str]:
        """What a process is told, as the variables both settings modules read."""
        return {f"DIURNA_{name.upper()}": str(url) for name, url in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """One process of the stack, as `status` shows it."""

    name: str
    pid: int | None
    log: str
    state: str
    """running, waiting (to be started again), given_up, stopped."""
    restarts: int = 0
    answers: bool | None = None
    """None where nothing tells."""
    metrics_url: str | None = None

    def to_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """The folders of one stack; all for their owner's eyes alone.

    `kafka/` and `postgres/` hold data, `processes/` what runs, `logs/` a file for each process, `stack.json` the
    addresses, `up.lock` keeps two who start or stop at once apart.
    """

    root: Path

    @property
    def stack_file(self) -> Path:
        return self.root / "stack.json"

    @property
    def up_lock(self) -> Path:
        return self.root / "up.lock"

    @property
    def processes(self) -> Path:
        return self.root / "processes"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def ports(self) -> Path:
        return self.root / "ports.json"

    def make(self) -> None:
        """Raises `Conflict` where the directory belongs to another account."""
        for folder in (self.root, self.processes, self.logs):
            private_directory(folder)

    def addresses(self) -> Addresses | None:
        """Those of the stack that was last up; None where none is."""
        return Addresses.from_json(read_json(self.stack_file) or {})

    def write_stack(self, addresses: Addresses, processes: Sequence[RunningProcess]) -> None:
        listed = [process.to_json() for process in processes]
        write_json(self.stack_file, addresses.to_json() | {"processes": listed})
