"""Every error as an RFC 9457 problem, FastAPI's own among them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, cast

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from diurna_projections.api.described import describe_problems
from diurna_schemas.errors import DiurnaError, shown
from diurna_schemas.problems import PROBLEM_TYPE, headers_of, problem_of
from diurna_schemas.shapes import Problem

logger = structlog.get_logger(__name__)

_METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


def problem_response(error: DiurnaError, instance: str | None = None) -> Response:
    """The problem an error is, with the field and value that were wrong."""
    return _response(problem_of(error, instance))


def install_problems(app: FastAPI, *, besides: str | None = None) -> None:
    """Makes the app answer every error as a problem, and say so in its OpenAPI.

    Paths under `besides` answer their own errors in a dialect of their own.
    """
    describe_problems(app, besides=besides)
    app.add_exception_handler(DiurnaError, _on_ours)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_ours(request: Request, error: Exception) -> Response:
    return problem_response(cast("DiurnaError", error), request.url.path)


async def _on_invalid(request: Request, error: Exception) -> Response:
    faults = cast("RequestValidationError", error).errors()
    errors = [
        {
            "field": ".".join(str(part) for part in fault["loc"][1:]) or str(fault["loc"][0]),
            "value": shown(fault.get("input")),
            "reason": fault["msg"],
        }
        for fault in faults[:10]
    ]
    detail = "; ".join(f"{one['field']}: {one['reason']}, got {one['value']}" for one in errors[:3])
    return _response(
        Problem(
            title="Invalid input",
            status=422,
            detail=detail,
            instance=request.url.path,
            code="invalid_input",
            errors=errors,
        )
    )


async def _on_http(request: Request, error: Exception) -> Response:
    found = cast("HTTPException", error)
    title = HTTPStatus(found.status_code).phrase
    code = title.lower().replace(" ", "_")
    problem = Problem(title=title, status=found.status_code, detail=found.detail, instance=request.url.path, code=code)
    headers = dict(found.headers or {})
    if found.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods_at(request))
    return _response(problem, headers)


def _methods_at(request: Request) -> list[str]:
    """What is allowed at an address: each method has a route of its own there, of which Starlette names but one."""
    routes: list[BaseRoute] = request.app.routes
    asked = [{**request.scope, "method": method} for method in _METHODS]
    return [scope["method"] for scope in asked if any(route.matches(scope)[0] is Match.FULL for route in routes)]


async def _on_unexpected(request: Request, error: Exception) -> Response:
    logger.error("an unexpected error", path=request.url.path, exc_info=error)
    return _response(Problem(title="Internal error", status=500, instance=request.url.path, code="internal_error"))


def _response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    content = problem.model_dump_json(exclude_none=True)
    return Response(content, problem.status, {**(headers or {}), **headers_of(problem)}, PROBLEM_TYPE)
