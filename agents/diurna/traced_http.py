"""A span for every HTTP request, from the caller's `traceparent` on."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diurna_streams import tracing

_HEADER = tracing.TRACEPARENT.encode()
_QUIET = frozenset({"/health", "/livez", "/readyz", "/metrics"})
"""Asked every few seconds: nobody wants to read of them."""


class Traced:
    """Middleware. What the routes write to the log belongs to the request's span: they see it as their caller's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not tracing.is_on() or scope["path"] in _QUIET:
            await self._app(scope, receive, send)
            return
        parent = dict(scope["headers"]).get(_HEADER)
        method: str = scope["method"]
        with tracing.span(
            method,
            kind="server",
            parent=None if parent is None else parent.decode("latin-1"),
            attributes={"http.request.method": method, "url.path": scope["path"]},
        ) as span:

            async def told(message: Message) -> None:
                if message["type"] == "http.response.start" and span is not None:
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            await self._app(_below(scope), receive, told)
            route: Any = scope.get("route")
            if span is not None and route is not None:
                span.update_name(f"{method} {route.path}")
                span.set_attribute("http.route", route.path)


def _below(scope: Scope) -> Scope:
    """The scope itself, so that what the router notes in it is seen here, with our span as the caller's."""
    own = (tracing.traceparent() or "").encode()
    scope["headers"] = [*(pair for pair in scope["headers"] if pair[0] != _HEADER), (_HEADER, own)]
    return scope
