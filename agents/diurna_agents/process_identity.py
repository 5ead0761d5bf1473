"""Which process a pid means: a number and the moment of birth, so that a recycled pid is never taken for ours."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"
_POLL_SECONDS = 0.02

_children: list[subprocess.Popen[bytes]] = []
"""Children that may outlive us: kept so that those that end are reaped and no zombie is taken for alive."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, for as long as it lives. `birth` differs between two processes that had the same pid."""

    pid: int
    birth: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now; None where there is none, or only its zombie."""
        birth = _birth(pid)
        return None if birth is None else cls(pid, birth)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Self | None:
        """None where the value does not name a process."""
        if value is None:
            return None
        pid, birth = value.get("pid"), value.get("birth")
        return cls(pid, birth) if isinstance(pid, int) and pid > 1 and isinstance(birth, str) else None

    def to_json(self) -> dict[str, object]:
        return {"pid": self.pid, "birth": self.birth}

    def is_alive(self) -> bool:
        reap()
        return _birth(self.pid) == self.birth

    def send(self, number: signal.Signals) -> None:
        """Signals the process if it still is the one we mean."""
        if self.is_alive():
            try:
                psutil.Process(self.pid).send_signal(number)
            except psutil.NoSuchProcess:
                return

    async def ended(self, seconds: float) -> bool:
        """Waits until the process is gone; False where it still lives after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.is_alive():
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def stop(self, *, first: signal.Signals = signal.SIGTERM, seconds: float = 10.0) -> bool:
        """Asks with `first`, then kills. True where it ended by being asked."""
        self.send(first)
        if await self.ended(seconds):
            return True
        self.send(signal.SIGKILL)
        await self.ended(seconds)
        return False


def adopt(child: subprocess.Popen[bytes]) -> ProcessIdentity | None:
    """Remembers a child to be reaped. None where it has ended already."""
    reap()
    _children.append(child)
    return ProcessIdentity.of(child.pid)


def reap() -> None:
    """Takes the exit codes of children that have ended."""
    _children[:] = [child for child in _children if child.poll() is None]


def _birth(pid: int) -> str | None:
    """Linux counts ticks since boot, which no clock step moves; elsewhere the creation time must do."""
    try:
        if _BOOT_ID.exists():
            # the name in parentheses may hold spaces and parentheses of its own
            fields = (
                (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            )
            return None if fields[0] in {"Z", "X"} else f"{_BOOT_ID.read_text(encoding='ascii').strip()}:{fields[19]}"
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except (OSError, IndexError, psutil.Error):
        return None
