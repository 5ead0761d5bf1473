"""Runs a command while a lock is held, and not a moment longer: what `diurna lock run` does."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psutil

from diurna.locks import Lease, ResourceLockManager
from diurna_schemas.errors import shown

TOKEN: Final = "DIURNA_LOCK_TOKEN"  # noqa: S105 - a fencing token is no secret
RESOURCE: Final = "DIURNA_LOCK_RESOURCE"
LOCK_ID: Final = "DIURNA_LOCK_ID"
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""What a shell exits with where it cannot run a command."""
_STOP_SECONDS: Final = 2.0
"""What a command that is told to stop may take; then it is killed."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is to be held while a command runs, and in whose name."""

    resource_id: str
    agent_id: str
    timeout: float
    wait_timeout: float
    reason: str


async def run_under_lock(
    locks: ResourceLockManager, held: Held, command: Sequence[str], environment: Mapping[str, str]
) -> int:
    """Runs the command while the lock is held and renewed, and returns its exit code, as a shell tells it.

    Token, resource and lock id are in its environment. Where the lock is lost, the command and what it started are
    told to stop, killed two seconds later, and `LockLost` is raised. Raises `ResourceLockError` where the lock is not
    to be had: then nothing was run.
    """
    async with locks.acquire(
        held.resource_id,
        held.agent_id,
        timeout=held.timeout,
        wait_timeout=held.wait_timeout,
        reason=held.reason or f"runs {command[0]}"[:200],
        auto_renew=True,
    ) as lease:
        return await _run(command, {**environment, **_told(lease)})


async def stopping_at_sigterm(work: Callable[[], Awaitable[int]]) -> int:
    """Runs the work; a SIGTERM cancels it, so that the command is stopped and the lock given back."""
    task = asyncio.ensure_future(work())
    is_told = False

    def stop() -> None:
        nonlocal is_told
        is_told = True
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if not is_told:
            raise
        return 128 + signal.SIGTERM


def _told(lease: Lease) -> dict[str, str]:
    return {TOKEN: str(lease.token), RESOURCE: lease.resource_id, LOCK_ID: lease.lock_id}


async def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    try:
        process = await asyncio.create_subprocess_exec(*command, env=dict(environment))
    except OSError as error:
        print(f"diurna: {shown(command[0])} cannot be run: {error.strerror}", file=sys.stderr)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            await _stop(process)
    return 128 - code if code < 0 else code


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Tells the command and everything it started to stop, and kills what does not."""
    family = _family(process.pid)
    _signal(family, signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
            # Gone itself, it may have left behind what it started: that has the rest of the time.
            await asyncio.to_thread(psutil.wait_procs, family[1:], _STOP_SECONDS)
    except TimeoutError:
        pass
    finally:
        _signal(family, signal.SIGKILL)
    await process.wait()


def _family(pid: int) -> list[psutil.Process]:
    """A process and its descendants, as they are now."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)  # psutil knows its start: a number that was given anew is left alone
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
