"""Errors as HTTP says them: RFC 9457 problems, and bodies of a bounded size."""

from __future__ import annotations

import json
import re
from typing import Any, Final, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response

from diurna_schemas.errors import DiurnaError, InvalidInput, TooLarge
from diurna_schemas.message import PAYLOAD_BYTES_MAX
from diurna_schemas.problems import PROBLEM_TYPE, headers_of, problem_of

BODY_BYTES_MAX: Final = 3 * PAYLOAD_BYTES_MAX
"""Payload, metadata and the rest; each document has its own limit besides."""


_LONG_NUMBER: Final = re.compile(rb"\d{19}")


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
    body = b"".join(chunks) or b"{}"
    try:
        found: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("body", body[:80], f"it is no JSON: {error}") from error
    if _LONG_NUMBER.search(body):
        _check_whole_numbers(body)
    if not isinstance(found, dict):
        raise InvalidInput("body", found, "a JSON object is expected")
    return cast("dict[str, Any]", found)


def _check_whole_numbers(body: bytes) -> None:
    """Raises `InvalidInput` where one does not fit into 64 bits: the parser makes it another number, without a word."""

    def fitting(digits: str) -> int:
        number = int(digits)
        if not -(2**63) <= number < 2**64:
            raise InvalidInput("body", digits[:80], "whole numbers of at most 64 bits are allowed")
        return number

    try:
        json.loads(body, parse_int=fitting)
    except (RecursionError, ValueError) as error:  # also where Python reads no number of so many digits
        raise InvalidInput("body", body[:80], f"it cannot be read: {error}") from error
