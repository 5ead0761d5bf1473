"""A guard before an ASGI application: whoever changes something must show the token of a lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from diurna.fences import FenceGuard
from diurna.problems import problem_response
from diurna_schemas.errors import DiurnaError, InvalidInput
from diurna_schemas.problems import PROBLEM_TYPE
from diurna_schemas.shapes import Problem

RESOURCE_HEADER: Final = "Diurna-Lock-Resource"
TOKEN_HEADER: Final = "Diurna-Lock-Token"  # noqa: S105 - a fencing token is no secret
UNSAFE_METHODS: Final = ("POST", "PUT", "PATCH", "DELETE")
_DIGITS_MAX: Final = 16

ResourceOf = Callable[[Scope], str | None]
"""Which resource a request changes; None where it needs no lock."""


class FenceMiddleware:
    """Lets a request through where its headers name the resource and a token that is not stale.

    `resource_of` says what a request changes: then a token of another resource is refused. Without it the request's own
    word counts, and every unsafe method needs one. A stale token is answered 409, a missing one 428, as problems.

    The check comes before the application and is over when it begins: a request that is slow inside may still act after
    a later holder's. Where that matters, check in the same transaction as well, with `TableFenceGuard`.
    """

    def __init__(
        self,
        app: ASGIApp,
        guard: FenceGuard,
        *,
        resource_of: ResourceOf | None = None,
        methods: Iterable[str] = UNSAFE_METHODS,
    ) -> None:
        self._app = app
        self._guard = guard
        self._resource_of = resource_of
        self._methods = frozenset(method.upper() for method in methods)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await refusal(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        if scope["method"].upper() not in self._methods:  # some servers hand on `post` as it was sent
            return None
        expected = None if self._resource_of is None else self._resource_of(scope)
        if self._resource_of is not None and expected is None:
            return None
        headers, path = Headers(scope=scope), str(scope["path"])
        resource, token = headers.get(RESOURCE_HEADER), headers.get(TOKEN_HEADER)
        if resource is None or token is None:
            return _missing(expected, path)
        try:
            if expected not in {None, resource}:
                raise InvalidInput(RESOURCE_HEADER, resource, f"this needs the lock on {expected}")
            if not (token.isascii() and token.isdigit() and len(token) <= _DIGITS_MAX):
                raise InvalidInput(TOKEN_HEADER, token, "a fencing token is a whole number")
            await self._guard.check(resource, int(token))
        except DiurnaError as error:
            return problem_response(error, path)
        return None


def _missing(expected: str | None, path: str) -> Response:
    what = "the lock on what it changes" if expected is None else f"the lock on {expected}"
    problem = Problem(
        title="Precondition required",
        status=428,
        detail=f"this needs {what}: send {RESOURCE_HEADER} and {TOKEN_HEADER}",
        instance=path,
        code="token_required",
    )
    return Response(problem.model_dump_json(exclude_none=True), problem.status, media_type=PROBLEM_TYPE)
