"""Routes that match the path as it was sent: a subject may hold `/`, and `%2F` is not a `/`.

Starlette matches the decoded path, where the subject `a/versions/1` cannot be told from version 1 of `a`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from urllib.parse import unquote

import orjson
import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from diurna_schemas.errors import DiurnaError, TimedOut, Unavailable
from diurna_streams.schema_registry.refusals import RegistryRefusal

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_log = structlog.get_logger(__name__)


def answer(content: Any, *, status: int = 200) -> Response:
    """A JSON answer of the type Confluent's clients expect."""
    return Response(orjson.dumps(content), status_code=status, media_type=MEDIA_TYPE)


def refused(status: int, error_code: int, message: str) -> Response:
    """An error as Confluent's clients expect it."""
    return answer({"error_code": error_code, "message": message}, status=status)


class RawPathRoute(APIRoute):
    """Matches the raw path, decodes each parameter by itself, and answers errors in the registry's dialect.

    The errors are answered here and not by the application's handlers, for the application may speak another one.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        raw = scope.get("raw_path")
        if not raw:
            return super().matches(scope)
        match, found = super().matches({**scope, "path": raw.decode("latin-1")})
        if "path_params" in found:
            found["path_params"] = {
                name: unquote(value, errors="replace") if isinstance(value, str) else value
                for name, value in found["path_params"].items()
            }
        return match, found

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle: Callable[[Request], Awaitable[Response]] = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handle(request)
            except RegistryRefusal as refusal:
                return refused(refusal.http_status, refusal.error_code, str(refusal))
            except RequestValidationError as error:
                fault = error.errors()[0]
                place = ".".join(str(part) for part in fault["loc"])
                return refused(422, 422, f"{place}: {fault['msg']}, got {str(fault.get('input'))[:120]!r}")
            except TimedOut as error:
                return refused(500, 50002, f"Operation timed out: {error}")
            except Unavailable as error:
                return refused(500, 50001, f"Error in the backend data store: {error}")
            except DiurnaError as error:
                _log.exception("the schema registry failed")
                return refused(500, 50001, f"Error in the backend data store: {error}")

        return answered
