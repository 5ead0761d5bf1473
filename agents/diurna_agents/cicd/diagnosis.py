"""Says whether what a service is made of is all there: the cicd agent's `diagnose_service`."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from diurna_agents.diagnosis import Diagnosis, DiagnosisRequest
from diurna_agents.workspace import Report, Workspace

_FREE_BYTES_MIN: Final = 64 * 2**20


async def diagnose_service(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Looks for the program, the files it is given, its directory, and room on the disk. Nothing is run or changed."""
    request = DiagnosisRequest.read(payload)
    found = await asyncio.to_thread(_diagnosed, request, workspace.environment.get("PATH", os.defpath))
    await report("diagnosed", {"service": request.service, "remedy": found.remedy})
    return found.as_json()


def _diagnosed(request: DiagnosisRequest, path: str) -> Diagnosis:
    known: dict[str, Any] = request.declared or {}
    command: object = known.get("command")
    if not isinstance(command, list) or not command:
        return Diagnosis("how it is run is not known here", "ask_person", 0.1)
    missing = list(_missing([str(word) for word in cast("list[object]", command)], known.get("directory"), path))
    if missing:
        return Diagnosis("what it is made of is not all there", "ask_person", 0.9, tuple(missing))
    return Diagnosis("what it is made of is all there", "restart_service", 0.3, (f"{command[0]} can be run",))


def _missing(command: Sequence[str], directory: object, path: str) -> Iterator[str]:
    if shutil.which(command[0], path=path) is None:
        yield f"{command[0]} is no program that can be run"
    folder = Path(str(directory)) if directory else None
    if folder is not None and not folder.is_dir():
        yield f"{folder} is no directory"
    elif folder is not None and shutil.disk_usage(folder).free < _FREE_BYTES_MIN:
        yield f"the disk of {folder} is full"
    # A word that is an absolute path ending in a suffix names a file the service reads: its script, its settings.
    for word in command[1:]:
        if Path(word).is_absolute() and Path(word).suffix and not Path(word).exists():
            yield f"{word} is not there"
