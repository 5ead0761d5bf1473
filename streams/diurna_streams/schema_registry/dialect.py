"""Routes that speak as a Confluent schema registry does, in their answers and in their errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import orjson
import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError

from diurna_projections.raw_path import RawPathRoute
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


class RegistryRoute(RawPathRoute):
    """Matches the raw path, for a subject may hold `/`, and answers errors in the registry's dialect.

    The errors are answered here and not by the application's handlers, for the application may speak another one.
    """

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
