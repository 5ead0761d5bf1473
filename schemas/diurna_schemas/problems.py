"""Every error of ours as an RFC 9457 problem: which status it has, which field it names."""

from __future__ import annotations

from typing import Any, Final

from diurna_schemas.errors import (
    AgentOffline,
    Conflict,
    DiurnaError,
    InvalidInput,
    NotFound,
    Refused,
    TimedOut,
    TooLarge,
    Unavailable,
    VersionConflict,
    shown,
)
from diurna_schemas.shapes import Problem

PROBLEM_TYPE: Final = "application/problem+json"

_STATUS: Final[tuple[tuple[type[DiurnaError], int, str], ...]] = (
    (TooLarge, 413, "Too large"),
    (InvalidInput, 422, "Invalid input"),
    (NotFound, 404, "Not found"),
    (VersionConflict, 412, "Another version"),
    (Conflict, 409, "Conflict"),
    (AgentOffline, 409, "Agent offline"),
    (Refused, 409, "Refused"),
    (TimedOut, 504, "No answer in time"),
    (Unavailable, 503, "Unavailable"),
)


def problem_of(error: DiurnaError, instance: str | None = None) -> Problem:
    """The problem an error is, with the field and value that were wrong."""
    status, title = next(
        ((status, title) for kind, status, title in _STATUS if isinstance(error, kind)), (500, "Internal error")
    )
    errors: list[dict[str, Any]] | None = None
    if isinstance(error, InvalidInput):
        errors = [{"field": error.field, "value": shown(error.value), "reason": error.reason}]
    code = error.code if isinstance(error, Refused) else "unavailable" if isinstance(error, Unavailable) else "error"
    return Problem(
        title=title,
        status=status,
        detail=str(error),
        instance=instance,
        code=code,
        errors=errors,
        current_version=error.current if isinstance(error, VersionConflict) else None,
    )


def headers_of(problem: Problem) -> dict[str, str]:
    """The headers a problem is answered with: what may pass is worth another try, and which version is the current."""
    headers = {"Retry-After": "1"} if problem.status in {503, 504} else {}
    if problem.current_version is not None:
        headers["ETag"] = f'"{problem.current_version}"'
    return headers
