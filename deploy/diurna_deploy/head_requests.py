"""HEAD on every route that answers GET: the same status and headers, and no body (RFC 9110, 9.3.2)."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ENDLESS: Final = "/events/stream"
"""What never ends by itself has nothing to be asked of."""


class HeadAsGet:
    """ASGI middleware: has the application answer a HEAD as the GET it is about, and keeps the body back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"] == _ENDLESS:
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, without_body)
