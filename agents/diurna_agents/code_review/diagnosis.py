"""Reads what an ill service said before it fell silent: the code-review agent's `diagnose_service`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from diurna_agents.diagnosis import Diagnosis, DiagnosisRequest, Remedy
from diurna_agents.workspace import Report, Workspace

LINES_MAX: Final = 60
"""What was said before these is of earlier lives."""
_SIGNS: Final[tuple[tuple[re.Pattern[str], str, Remedy, float], ...]] = (
    (re.compile(r"No space left on device"), "the disk is full", "ask_person", 0.9),
    (
        re.compile(r"^(?:ModuleNotFoundError|ImportError|SyntaxError|IndentationError)\b.*"),
        "its code cannot be loaded, and will not be next time either",
        "ask_person",
        0.8,
    ),
    (re.compile(r"[Pp]ermission denied"), "it may not do what it has to", "ask_person", 0.7),
    (re.compile(r"[Aa]ddress already in use"), "somebody else listens at its address", "restart_service", 0.4),
    (
        re.compile(r"\bMemoryError\b|[Oo]ut of memory|Cannot allocate memory"),
        "its memory ran out",
        "restart_service",
        0.7,
    ),
    (re.compile(r"[Cc]onnection refused"), "something it needs does not answer", "restart_service", 0.4),
    (
        re.compile(r"^\w+(?:\.\w+)*(?:Error|Exception)\b.*"),
        "an exception nobody caught ended it",
        "restart_service",
        0.5,
    ),
)
"""The first that fits counts: what no restart heals comes first."""


async def diagnose_service(payload: Mapping[str, object], *, workspace: Workspace, report: Report) -> dict[str, object]:
    """Looks for a cause in the `output` and the exit code. Answers a diagnosis; nothing is changed."""
    del workspace  # nothing but the request is read
    request = DiagnosisRequest.read(payload)
    exit_code: object = (request.standing or {}).get("exit_code")
    found = diagnosed(request.output, exit_code if isinstance(exit_code, int) else None)
    await report("diagnosed", {"service": request.service, "remedy": found.remedy})
    return found.as_json()


def diagnosed(output: str, exit_code: int | None) -> Diagnosis:
    """What the last lines and the exit code say."""
    lines = [line.strip() for line in output.splitlines()[-LINES_MAX:]]
    for sign, words, remedy, confidence in _SIGNS:
        said = next((line for line in reversed(lines) if sign.search(line)), None)
        if said is not None:
            return Diagnosis(words, remedy, confidence, (said[:300],))
    if exit_code is not None and exit_code < 0:
        return Diagnosis(f"it was killed by signal {-exit_code}", "restart_service", 0.8, (f"exit code {exit_code}",))
    return Diagnosis("it said nothing of why", "restart_service", 0.2)
