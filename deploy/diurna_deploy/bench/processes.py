"""The processes of a bench: started with a role, told to go, and asked what they measured."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from diurna_schemas.errors import Unavailable

_READY_SECONDS: Final = 60.0
_ROUND_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 10.0

Process = asyncio.subprocess.Process


async def started(module: str, role: str, *arguments: str) -> Process:
    """`python -m diurna_deploy.bench.<module> ROLE ARGUMENT…`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"diurna_deploy.bench.{module}",
        role,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def outcome(module: str, role: str, *arguments: str) -> Any:
    """Starts a process, and returns what it measured by itself."""
    return await measured(await started(module, role, *arguments), role)


@asynccontextmanager
async def running(module: str, role: str, *arguments: str) -> AsyncGenerator[Process]:
    """A process that has said that it is ready; stopped when the block ends."""
    process = await started(module, role, *arguments)
    try:
        await ready(process, role)
        yield process
    finally:
        await stopped(process)


async def ready(process: Process, role: str) -> bytes:
    """Waits until it says so, and returns the line. Raises `Unavailable` where it says something else."""
    try:
        async with asyncio.timeout(_READY_SECONDS):
            said = await process.stdout.readline() if process.stdout else b""
    except TimeoutError:
        said = b"nothing"
    if not said.startswith(b"ready"):
        raise Unavailable(f"the bench's process {role} did not start: {said!r}")
    return said


async def stopped(process: Process) -> None:
    """Ends it, however long that takes it."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def measured(process: Process, role: str) -> Any:
    """What it prints last, as JSON, once it has ended. Raises `Unavailable` where it failed."""
    async with asyncio.timeout(_ROUND_SECONDS):
        out, _ = await process.communicate()
    if process.returncode != 0:
        raise Unavailable(f"the bench's process {role} ended with {process.returncode}")
    return json.loads(out.splitlines()[-1])
