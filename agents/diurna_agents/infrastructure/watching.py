"""Looks at declared services: does a URL answer, does somebody listen, does a process live, is a file fresh."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

import httpx
import psutil

from diurna_agents.environment_checks import Check
from diurna_agents.infrastructure.keeping import Kept
from diurna_agents.infrastructure.services import (
    FileAgeCheck,
    HttpCheck,
    ProcessCheck,
    Service,
    ServiceCheck,
    TcpCheck,
)
from diurna_agents.workspace import Workspace

_BODY_BYTES_MAX: Final = 1024 * 1024
_PAUSE_SECONDS: Final = 0.2
_STEADY_SECONDS: Final = 1.0
"""So long must a process have lived to count as started."""


async def looked_at(services: Mapping[str, Service], workspace: Workspace) -> dict[str, object]:
    """All of them at once: `healthy`, each service with its checks, and the `issues` by name."""
    names = list(services)
    found = await asyncio.gather(*(service_checks(name, services[name], workspace) for name in names))
    by_name = dict(zip(names, found, strict=True))
    issues = [
        {"service": name, "check": check.name, "detail": check.detail}
        for name, checks in by_name.items()
        for check in checks
        if not check.healthy
    ]
    shown = {
        name: {"healthy": all(check.healthy for check in checks), "checks": [asdict(check) for check in checks]}
        for name, checks in by_name.items()
    }
    return {"healthy": not issues, "services": shown, "issues": issues}


async def service_checks(name: str, service: Service, workspace: Workspace) -> list[Check]:
    """What is declared for a service; where nothing is, that its process lives."""
    checks: tuple[ServiceCheck, ...] = service.checks
    if not checks:
        if service.command is None:
            return [
                Check("declared", False, "nothing is declared that could be looked at: neither checks nor command", 0)
            ]
        checks = (ProcessCheck(kind="process"),)
    return list(await asyncio.gather(*(_looked(name, check, workspace) for check in checks)))


async def until_healthy(name: str, service: Service, workspace: Workspace, seconds: float) -> list[Check]:
    """Looks again until all is well and the process has lived for a while, or the time is over; the last look counts.

    A program that cannot run lives for a moment too.
    """
    deadline = time.monotonic() + seconds
    kept = Kept(name, workspace)
    while True:
        checks = await service_checks(name, service, workspace)
        standing = kept.standing()
        is_well = all(check.healthy for check in checks) and standing.lived_seconds >= _STEADY_SECONDS
        if is_well or standing.is_over or time.monotonic() >= deadline:
            return checks
        await asyncio.sleep(_PAUSE_SECONDS)


async def _looked(name: str, check: ServiceCheck, workspace: Workspace) -> Check:
    started = time.monotonic()
    match check:
        case HttpCheck():
            shown, (healthy, detail) = f"GET {check.url}", await _http(check)
        case TcpCheck():
            shown, (healthy, detail) = f"tcp {check.host}:{check.port}", await _tcp(check)
        case ProcessCheck():
            shown, (healthy, detail) = "process", await asyncio.to_thread(_process, name, check, workspace)
        case FileAgeCheck():
            shown, (healthy, detail) = f"file {check.path}", await asyncio.to_thread(_file_age, check)
    return Check(shown, healthy, detail, round((time.monotonic() - started) * 1000))


async def _http(check: HttpCheck) -> tuple[bool, str]:
    try:
        async with (
            asyncio.timeout(check.timeout_seconds),
            httpx.AsyncClient(timeout=check.timeout_seconds, trust_env=False) as client,
            client.stream("GET", check.url) as answer,
        ):
            expected = answer.is_success if check.status is None else answer.status_code == check.status
            if not expected or check.contains is None:
                wanted = "" if expected else f", not {check.status or '2xx'}"
                return expected, f"HTTP {answer.status_code}{wanted}"
            body = b""
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _BODY_BYTES_MAX:
                    break
    except TimeoutError:
        return False, f"no answer within {check.timeout_seconds:g} s"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return False, f"{type(error).__name__}: {error}"
    is_there = check.contains.encode() in body
    return is_there, f"HTTP {answer.status_code}" + ("" if is_there else f", without {check.contains!r}")


async def _tcp(check: TcpCheck) -> tuple[bool, str]:
    try:
        async with asyncio.timeout(check.timeout_seconds):
            _, writer = await asyncio.open_connection(check.host, check.port)
    except TimeoutError:
        return False, f"no answer within {check.timeout_seconds:g} s"
    except OSError as error:
        return False, error.strerror or str(error)
    writer.close()
    return True, "somebody listens"


def _process(name: str, check: ProcessCheck, workspace: Workspace) -> tuple[bool, str]:
    if check.pid_file is None:
        standing = Kept(name, workspace).standing()
        return standing.is_running, f"process {standing.pid}" if standing.is_running else standing.state
    try:
        pid = int(Path(check.pid_file).read_text("utf-8").strip())
    except OSError as error:
        return False, f"{check.pid_file} cannot be read: {error.strerror}"
    except ValueError:
        return False, f"{check.pid_file} holds no process number"
    try:
        status = psutil.Process(pid).status()
    except (psutil.Error, ValueError):
        return False, f"process {pid} is not there"
    return status != psutil.STATUS_ZOMBIE, f"process {pid} is {status}"


def _file_age(check: FileAgeCheck) -> tuple[bool, str]:
    try:
        age = time.time() - Path(check.path).stat().st_mtime
    except OSError as error:
        return False, error.strerror or str(error)
    is_fresh = age <= check.age_seconds_max
    return is_fresh, f"written {age:.0f} s ago" + (
        "" if is_fresh else f", at most {check.age_seconds_max:g} s are allowed"
    )
