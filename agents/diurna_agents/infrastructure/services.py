"""The services an agent watches and restarts, as they are declared: in a payload, or in a file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from diurna_agents.infrastructure.request import web_address
from diurna_agents.payload import AbsolutePath, Payload, ServiceName, Word, validated
from diurna_agents.structured_files import read_document
from diurna_agents.workspace import Workspace
from diurna_schemas.errors import InvalidInput, NotFound

DEFAULT_FILE: Final = "services.toml"
_Seconds = Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)]


class HttpCheck(Payload):
    """A URL answers, with a status (else any 2xx), and with these words in its body."""

    kind: Literal["http"]
    url: Annotated[Word, AfterValidator(web_address)]
    status: int | None = Field(default=None, ge=100, le=599)
    contains: Word | None = None
    timeout_seconds: _Seconds = 5


class TcpCheck(Payload):
    """Somebody listens."""

    kind: Literal["tcp"]
    host: Word = "127.0.0.1"
    port: int = Field(ge=1, le=65_535)
    timeout_seconds: _Seconds = 5


class ProcessCheck(Payload):
    """A process lives: the one whose number stands in `pid_file`, else the one kept for this service."""

    kind: Literal["process"]
    pid_file: AbsolutePath | None = None


class FileAgeCheck(Payload):
    """A file was written lately."""

    kind: Literal["file_age"]
    path: AbsolutePath
    age_seconds_max: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)]


ServiceCheck = Annotated[HttpCheck | TcpCheck | ProcessCheck | FileAgeCheck, Field(discriminator="kind")]


class Service(Payload):
    """One service. With a `command` it can be started, stopped and restarted here; it is run without a shell."""

    command: Annotated[list[Word], Field(min_length=1, max_length=100)] | None = None
    directory: AbsolutePath | None = None
    environment: dict[str, str] = Field(default_factory=dict, max_length=200)
    checks: tuple[ServiceCheck, ...] = Field(default=(), max_length=50, strict=False)
    restart: Literal["always", "never"] = "always"
    start_seconds: _Seconds = 30
    stop_seconds: _Seconds = 10


class Declared(Payload):
    """Where services are declared: in `services`, else in the file, else in `services.toml` in the agent's work dir."""

    services: dict[ServiceName, Service] | None = Field(default=None, min_length=1, max_length=500)
    services_file: AbsolutePath | None = None


class _ServicesFile(Payload):
    services: dict[ServiceName, Service] = Field(min_length=1, max_length=500)


async def declared(request: Declared, workspace: Workspace) -> Mapping[str, Service]:
    """The services that are declared. Raises `InvalidInput` naming the file and the field."""
    if request.services is not None:
        if request.services_file is not None:
            raise InvalidInput("services_file", request.services_file, "give services or services_file, not both")
        return request.services
    path = Path(request.services_file) if request.services_file else workspace.root / DEFAULT_FILE
    document = await asyncio.to_thread(read_document, "services_file", path)
    try:
        return validated(_ServicesFile, document.plain).services
    except InvalidInput as error:
        raise InvalidInput(f"services_file: {path}: {error.field}", error.value, error.reason) from error


def service_of(services: Mapping[str, Service], name: str) -> Service:
    """One of them. Raises `NotFound`."""
    found = services.get(name)
    if found is None:
        raise NotFound("service", name)
    return found
