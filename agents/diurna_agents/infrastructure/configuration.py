"""Changes a configuration file, checked, whole or not at all, and taken back where it does harm: `update_config`."""

from __future__ import annotations

import asyncio
import fcntl
import glob
import hashlib
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, cast

from pydantic import Field, StringConstraints

from diurna_agents.environment_checks import Check
from diurna_agents.errors import ConfigurationBusy
from diurna_agents.infrastructure.config_checks import Difference, checked_by_schema, checked_types, differences
from diurna_agents.infrastructure.keeping import Kept
from diurna_agents.infrastructure.services import (
    Declared,
    Service,
    ServiceCheck,
    declared,
    service_of,
)
from diurna_agents.infrastructure.watching import until_healthy
from diurna_agents.payload import AbsolutePath, ServiceName, validated
from diurna_agents.structured_files import Document, Format, format_of, parsed, plain, read_document
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import InvalidInput
from diurna_schemas.merge_patch import merged

_CHANGES_NAMED_MAX: Final = 200
_WAIT_SECONDS: Final = 30.0
_SERVICE: Final = "the change"


class ConfigRequest(Declared):
    """What `update_config` takes. `updates` is a JSON merge patch (RFC 7396): null takes a name away.

    Without a schema, a value keeps its type, and a name that is not there needs `allow_new`. After the change,
    `restart` restarts a declared service, and `checks` (with that service's own) say whether it did well.
    """

    file: AbsolutePath
    format: Format | None = None
    updates: dict[str, Any] = Field(min_length=1, max_length=1_000)
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    schema_file: AbsolutePath | None = None
    allow_new: bool = False
    expected_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{64}$")] | None = None
    checks: tuple[ServiceCheck, ...] = Field(default=(), max_length=50, strict=False)
    restart: ServiceName | None = None
    health_seconds: float = Field(default=30, ge=0, le=600, allow_inf_nan=False)
    keep_backups: int = Field(default=5, ge=1, le=100)


@dataclass(frozen=True, slots=True)
class _Change:
    """What is about to be written, where, and over what."""

    path: Path
    before: bytes
    after: bytes
    found: list[Difference]


async def update_config(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Changes values of a JSON, TOML or YAML file, comments and order kept.

    Answers `outcome`: updated; unchanged; rolled_back, where the checks said afterwards that it did harm and the file
    is again what it was. With `changes` by path (never their values), checksums, the `backup` and the `health`.
    """
    request = validated(ConfigRequest, payload)
    service = None
    if request.restart is not None:
        service = service_of(await declared(request, workspace), request.restart)
    path = await asyncio.to_thread(_real_path, request.file)
    async with _alone(path, workspace):
        change = await asyncio.to_thread(_prepared, request, path)
        answer: dict[str, object] = {
            "file": str(path),
            "format": request.format or format_of(path),
            "changes": [asdict(one) for one in change.found[:_CHANGES_NAMED_MAX]],
            "changes_total": len(change.found),
            "sha256_before": _checksum(change.before),
            "sha256_after": _checksum(change.after),
            "backup": None,
            "health": None,
        }
        if change.before == change.after:
            # A request that is worked on twice finds its own change, and still wants to know how it did.
            answer["health"] = _health(await _looked(request, None, workspace))
            return {**answer, "outcome": "unchanged", "reason": "the file says so already"}
        backup = await asyncio.to_thread(_back_up, change, request.keep_backups)
        await asyncio.to_thread(_write, change.path, change.after, change.before)
        await report("written", {"file": str(path), "changes": len(change.found)})
        answer["backup"] = str(backup)
        try:
            checks = await _looked(request, service, workspace)
        except BaseException:
            # Cancelled while nobody knows yet whether it did harm: back to what is known.
            await asyncio.shield(asyncio.to_thread(_write, change.path, change.before, change.after))
            raise
        answer["health"] = _health(checks)
        ill = next((check for check in checks if not check.healthy), None)
        if ill is None:
            return {**answer, "outcome": "updated", "reason": f"{len(change.found)} values were changed"}
        await asyncio.to_thread(_write, change.path, change.before, change.after)
        again = await _looked(request, service, workspace)
        await report("rolled_back", {"file": str(path), "problem": ill.name})
        reason = f"after the change, {ill.name}: {ill.detail}; the file is again what it was"
        return {**answer, "outcome": "rolled_back", "reason": reason, "health_after_rollback": _health(again)}


def _prepared(request: ConfigRequest, path: Path) -> _Change:
    """The change, wholly checked. Raises `InvalidInput` naming the value that is wrong."""
    document = read_document("file", path, request.format)
    found = _checksum(document.raw)
    if request.expected_sha256 is not None and request.expected_sha256.lower() != found:
        raise ConfigurationBusy(f"file: {path} has the checksum {found}, not {request.expected_sha256}")
    before = dict(document.plain)
    wanted = merged(before, request.updates)
    schema = _schema(request)
    if schema is not None:
        checked_by_schema(wanted, schema)
    else:
        checked_types(before, request.updates, allow_new=request.allow_new)
    after = _applied(document, request.updates, wanted, path)
    return _Change(path, document.raw, document.raw if wanted == before else after, list(differences(before, wanted)))


def _applied(document: Document, updates: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> bytes:
    """The file's new content. What it says is compared with what it should say before anybody writes it."""
    try:
        _merge_into(document.root, updates)
        after = document.dumped()
    except (TypeError, ValueError) as error:
        raise InvalidInput("updates", dict(updates), f"{document.format.upper()} cannot hold it: {error}") from error
    if plain(parsed("updates", str(path), after, document.format).root) != plain(wanted):
        raise InvalidInput("updates", dict(updates), f"{document.format.upper()} cannot hold it as it is")
    return after


def _merge_into(root: Any, updates: Mapping[str, Any]) -> None:
    """The merge patch, done to the library's own objects, so that comments stay where they are."""
    for name, value in updates.items():
        if value is None:
            root.pop(name, None)
        elif isinstance(value, Mapping):
            if not isinstance(root.get(name), Mapping):
                root[name] = {}
            _merge_into(root[name], cast("Mapping[str, Any]", value))
        else:
            root[name] = value


def _schema(request: ConfigRequest) -> Mapping[str, Any] | None:
    if request.schema_file is None:
        return request.json_schema
    if request.json_schema is not None:
        raise InvalidInput("schema_file", request.schema_file, "give schema or schema_file, not both")
    return read_document("schema_file", Path(request.schema_file)).plain


async def _looked(request: ConfigRequest, service: Service | None, workspace: Workspace) -> list[Check]:
    """Restarts what was asked for, and looks."""
    checks: list[Check] = []
    if service is not None and request.restart is not None:
        kept = Kept(request.restart, workspace)
        async with kept.alone(_WAIT_SECONDS):
            await kept.stop(service.stop_seconds)
            await kept.start(service)
            checks += await until_healthy(request.restart, service, workspace, request.health_seconds)
    if request.checks:
        declared_checks = Service(checks=request.checks)
        checks += await until_healthy(_SERVICE, declared_checks, workspace, request.health_seconds)
    return checks


def _health(checks: list[Check]) -> dict[str, object] | None:
    if not checks:
        return None
    return {"healthy": all(check.healthy for check in checks), "checks": [asdict(check) for check in checks]}


def _real_path(file: str) -> Path:
    """The file itself, where a link leads to it: the link stays one."""
    try:
        return Path(file).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise InvalidInput("file", file, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


@asynccontextmanager
async def _alone(path: Path, workspace: Workspace) -> AsyncGenerator[None]:
    folder = workspace.root / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.lock").open("ab") as file:
        for _ in range(round(_WAIT_SECONDS / 0.1)):
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            await asyncio.sleep(0.1)
        else:
            raise ConfigurationBusy(f"file: {path} is being changed by another request")
        yield


def _back_up(change: _Change, keep: int) -> Path:
    """Keeps the content aside under the moment's name, and the newest few of those before."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    backup = change.path.with_name(f"{change.path.name}.bak-{moment}")
    _write(backup, change.before, None, like=change.path)
    for old in sorted(change.path.parent.glob(f"{glob.escape(change.path.name)}.bak-*"))[:-keep]:
        old.unlink(missing_ok=True)
    return backup


def _write(path: Path, content: bytes, expected: bytes | None, *, like: Path | None = None) -> None:
    """The whole content or none of it, with the modes and the owner of before. Raises `ConfigurationBusy`."""
    state = (like or path).stat()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            os.fchmod(file.fileno(), state.st_mode & 0o7777)
            with suppress(PermissionError):
                os.fchown(file.fileno(), state.st_uid, state.st_gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if expected is not None and path.read_bytes() != expected:
            raise ConfigurationBusy(f"file: {path} was changed by somebody else meanwhile")
        partial.replace(path)
    except OSError as error:
        raise InvalidInput("file", str(path), f"cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
