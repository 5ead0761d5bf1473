"""The pages as one application: their addresses, their templates, and the headers every page carries."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from diurna_deploy.pages import actions, events, locks, projections, team, topics, workflows
from diurna_deploy.pages.asking import Asking, Reading, Refusal
from diurna_deploy.pages.shown import FILTERS, GLOBALS, milliseconds
from diurna_deploy.pages.view import View

logger = structlog.get_logger(__name__)

HERE: Final = Path(__file__).parent
STATIC: Final = "/static"
SECURITY: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Nothing runs but our own files: a script that came with a payload would not, even where escaping failed."""
_PAGE: Final = {"Cache-Control": "no-store", "Vary": "Accept, HX-Request", **SECURITY}
_FILE: Final = {"Cache-Control": "public, max-age=31536000, immutable", **SECURITY}
_NO_PAST: Final = ("/projections", "/asyncapi", "/static")

Handler = Callable[[View], Awaitable[tuple[str, dict[str, Any]]]]

PAGES: Final[dict[str, Handler]] = {
    "/": team.overview,
    "/agents": team.agents,
    "/agents/{agent_id}": team.agent,
    "/capabilities/search": team.capabilities,
    "/requests": team.requests,
    "/requests/{request_id}": team.request,
    "/workflows": workflows.workflows,
    "/workflows/{workflow_id}": workflows.workflow,
    "/locks": locks.locks,
    "/locks/{lock_id}": locks.lock,
    "/events": events.events,
    "/events/{position}": events.event,
    "/timeline/{correlation_id}": events.timeline,
    "/projections": projections.projections,
    "/asyncapi": topics.topics,
}
"""What is shown where: each handler names a template and what stands in it."""
_NOT_PAGES: Final = frozenset({"/events/stream", "/locks/queue", "/locks/history", "/locks/statistics"})


class Site:
    """All pages, on the API behind them."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._first_ms: int | None = None
        self._templates = _templates()
        routes = [Route(path, self._shows(handler), methods=["GET"]) for path, handler in PAGES.items()]
        routes += [Route(path, self._does(action), methods=["POST"]) for path, action in actions.ACTIONS.items()]
        self._routes = routes
        files = Mount(STATIC, StaticFiles(directory=HERE / "static"), name="static")
        self._app = Starlette(
            routes=[files, *routes], exception_handlers={Refusal: self._on_refusal, Exception: self._on_unexpected}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.is_file(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = [(name.lower().encode(), value.encode()) for name, value in _FILE.items()]
                message = {**message, "headers": [*message["headers"], *kept]}
            await send(message)

        await self._app(scope, receive, sent)

    def is_file(self, path: str) -> bool:
        """Whether it is one of the files beside the pages."""
        return path.startswith(f"{STATIC}/")

    def has(self, scope: Scope) -> bool:
        """Whether a page or an action is to be found there."""
        if scope["path"] in _NOT_PAGES and scope["method"] != "POST":
            return False
        return self.is_file(scope["path"]) or any(route.matches(scope)[0] is Match.FULL for route in self._routes)

    async def no_page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Says that there is nothing at an address, and where to look."""
        problem = {"title": "Not found", "detail": f"There is no page at {scope['path']}.", "status": 404}
        await self.problem_page(404, problem, scope, receive, send)

    async def problem_page(
        self, status: int, problem: Mapping[str, Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Says what is wrong, and what can be done."""
        response = await self._problem(Request(scope, receive), status, problem)
        await response(scope, receive, send)

    def _shows(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def show(request: Request) -> Response:
            view = View(request, Reading.of(self._asking, request.query_params))
            template, context = await handler(view)
            return await self._page(request, template, context)

        return show

    def _does(self, action: actions.Action) -> Callable[[Request], Awaitable[Response]]:
        async def do(request: Request) -> Response:
            where = await actions.done(action, request, self._asking)
            return Response(status_code=303, headers={"Location": where, **SECURITY})

        return do

    async def _on_refusal(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return await self._problem(request, error.status, error.problem)

    async def _on_unexpected(self, request: Request, error: Exception) -> Response:
        logger.error("a page failed", path=request.url.path, exc_info=error)
        detail = "The server could not make this page. What went wrong is in its log."
        return await self._problem(request, 500, {"title": "Internal error", "detail": detail, "status": 500})

    async def _problem(self, request: Request, status: int, problem: Mapping[str, Any]) -> Response:
        context = {"problem": problem, "status": status, "first": request.url.path.strip("/").partition("/")[0]}
        return await self._page(request, "problem.html", context, status)

    async def _page(self, request: Request, template: str, context: dict[str, Any], status: int = 200) -> Response:
        as_of = request.query_params.get("as_of") or None
        path = request.url.path
        common = {
            "path": path,
            "query": {key: value for key, value in request.query_params.items() if key not in {"as_of", "cursor"}},
            "here": f"{path}?{request.url.query}" if request.url.query else path,
            "as_of": as_of,
            "has_past": not path.startswith(_NO_PAST) and status == 200,
            "now_ms": int(time.time() * 1000),
            "first_ms": await self._first_event_ms(),
            "key": uuid.uuid4,
        }
        body = self._templates.get_template(template).render({**common, **context})
        return Response(body, status, {**_PAGE, "Content-Type": "text/html; charset=utf-8"})

    async def _first_event_ms(self) -> int | None:
        """When the log began: where the time slider does."""
        if self._first_ms is None:
            try:
                found = await self._asking.ask("GET", "/events", {"limit": 1})
            except Refusal:
                return None  # the page is to say what is wrong, not its slider
            self._first_ms = milliseconds(found.document[0]["time"]) if found.document else None
        return self._first_ms


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = environment.filters
    names: dict[str, Any] = environment.globals
    filters.update(FILTERS)
    names.update(GLOBALS, static=_static)
    return environment


def _static(name: str) -> str:
    """The address of a file, another one whenever its content is."""
    digest = hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:12]
    return f"{STATIC}/{name}?{digest}"
