"""Errors as HTTP says them: RFC 9457 problems, and bodies of a bounded size."""

from __future__ import annotations

from typing import Any, Final, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response

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
from diurna_schemas.message import PAYLOAD_BYTES_MAX
from diurna_schemas.shapes import Problem

BODY_BYTES_MAX: Final = 3 * PAYLOAD_BYTES_MAX
"""Payload, metadata and the rest; each document has its own limit besides."""
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
    return Problem(title=title, status=status, detail=str(error), instance=instance, code=code, errors=errors)


def problem_response(error: DiurnaError, instance: str | None = None) -> Response:
    """The problem as an answer."""
    problem = problem_of(error, instance)
    headers = {"Retry-After": "1"} if problem.status in {503, 504} else None
    return Response(problem.model_dump_json(exclude_none=True), problem.status, headers, PROBLEM_TYPE)


async def body_of(request: Request, bytes_max: int = BODY_BYTES_MAX) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises `TooLarge` as soon as too much has come, `InvalidInput` where it is no JSON object.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > bytes_max:
        raise TooLarge("body", int(announced), bytes_max)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > bytes_max:
            raise TooLarge("body", size, bytes_max)
        chunks.append(chunk)
    try:
        found: object = orjson.loads(b"".join(chunks) or b"{}")
    except orjson.JSONDecodeError as error:
        raise InvalidInput("body", b"".join(chunks)[:80], f"it is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput("body", found, "a JSON object is expected")
    return cast("dict[str, Any]", found)
