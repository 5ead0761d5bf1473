"""Which requests are for people: they get pages, all others the API behind. Writes from other sites get neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diurna_deploy.pages.asking import Asking, Inner
from diurna_deploy.pages.site import Site
from diurna_schemas.problems import PROBLEM_TYPE
from diurna_schemas.shapes import Problem

FORM: Final = "application/x-www-form-urlencoded"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_HTML: Final = "text/html"
_JSON: Final = ("application/json", PROBLEM_TYPE)


class Pages:
    """ASGI middleware: the same addresses as the API's, answered with pages where HTML is preferred.

    Every request that writes is refused where a browser says that another site's page has sent it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._inner = Inner(app)
        self._site = Site(Asking(self._inner))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._may_concern(scope):
            await self._app(scope, receive, send)
            return
        self._inner.outer = scope.get("app")
        request = Request(scope)
        is_form = scope["method"] == "POST" and request.headers.get("content-type", "").partition(";")[0] == FORM
        if scope["method"] not in _SAFE and not _is_from_here(request.headers, must_say_so=is_form):
            await _refusal(request)(scope, receive, send)
        elif not is_form and not _wants_page(request.headers) and not self._site.is_file(scope["path"]):
            await self._app(scope, receive, send)
        elif self._site.has(scope):
            await self._site(scope, receive, send)
        elif is_form:
            await self._site.no_page(scope, receive, send)
        else:
            await self._or_problem_page(scope, receive, send)

    def _may_concern(self, scope: Scope) -> bool:
        """What is certainly no page passes at once: the reads of programs are asked all the time."""
        if scope["method"] not in _SAFE or self._site.is_file(scope["path"]):
            return True
        return any(name == b"hx-request" or (name == b"accept" and b"text/html" in value.lower())
                   for name, value in scope["headers"])  # fmt: skip

    async def _or_problem_page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the API has there; where that is a problem, a page that says what to do."""
        status = 0
        body = bytearray()

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                if dict(message["headers"]).get(b"content-type", b"") == PROBLEM_TYPE.encode():
                    status = message["status"]
            elif status:
                body.extend(message.get("body", b""))
            if not status:
                await send(message)

        await self._app(scope, receive, sent)
        if status:
            await self._site.problem_page(status, orjson.loads(body), scope, receive, send)


def _wants_page(headers: Mapping[str, str]) -> bool:
    """Whether HTML is wanted at least as much as JSON. htmx says who it is and accepts anything."""
    if "hx-request" in headers:
        return True
    wishes: dict[str, float] = {}
    for part in headers.get("accept", "").split(","):
        kind, _, rest = part.partition(";")
        quality = rest.strip().removeprefix("q=") if rest.strip().startswith("q=") else "1"
        try:
            wishes[kind.strip().lower()] = float(quality)
        except ValueError:
            continue
    return wishes.get(_HTML, 0) > 0 and wishes[_HTML] >= max(wishes.get(kind, 0) for kind in _JSON)


def _is_from_here(headers: Mapping[str, str], *, must_say_so: bool) -> bool:
    """Whether a write comes from a page of this address, or from no page at all.

    Browsers say where a request comes from; other programs say nothing, which a form may not.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    if origin is not None:
        return urlsplit(origin).netloc == headers.get("host", "")
    return not must_say_so


def _refusal(request: Request) -> Response:
    problem = Problem(
        title="Sent from another site",
        status=403,
        detail=f"only pages of {request.headers.get('host', 'this address')} may write here, and other programs: "
        f"this came from {request.headers.get('origin', 'a page that does not say where it is from')}",
        instance=request.url.path,
        code="other_site",
    )
    return Response(orjson.dumps(problem.model_dump(exclude_none=True)), 403, media_type=PROBLEM_TYPE)
