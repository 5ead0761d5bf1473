"""Errors as HTTP says them: RFC 9457 problems, and bodies of a bounded size."""

from __future__ import annotations

from typing import Any, Final, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response

from diurna_schemas.errors import DiurnaError, InvalidInput, TooLarge
from diurna_schemas.message import PAYLOAD_BYTES_MAX
from diurna_schemas.problems import PROBLEM_TYPE, headers_of, problem_of

BODY_BYTES_MAX: Final = 3 * PAYLOAD_BYTES_MAX
"""Payload, metadata and the rest; each document has its own limit besides."""


def problem_response(error: DiurnaError, instance: str | None = None) -> Response:
    """The problem an error is, as an answer."""
    problem = problem_of(error, instance)
    return Response(problem.model_dump_json(exclude_none=True), problem.status, headers_of(problem), PROBLEM_TYPE)


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
