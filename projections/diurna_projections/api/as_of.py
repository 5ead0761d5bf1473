"""`as_of` on every read: the same routes, answering from the tables as they were."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final
from urllib.parse import parse_qs, unquote

from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diurna_projections.api.answers import wait_for_positions
from diurna_projections.api.problems import install_problems, problem_response
from diurna_projections.api.router import read_router
from diurna_projections.past import PastQueries, Pasts
from diurna_projections.raw_path import raw_path_of
from diurna_projections.store import past
from diurna_schemas import topics
from diurna_schemas.errors import DiurnaError, InvalidInput
from diurna_schemas.topics import partition_of

_APPS_MAX: Final = 16
_UNAVAILABLE: Final = 503
_FAMILIES: Final = {
    "agents": topics.AGENTS,
    "capabilities": topics.AGENTS,
    "requests": topics.AGENTS,
    "locks": topics.LOCKS,
    "workflows": topics.WORKFLOWS,
    "workflow-statistics": topics.WORKFLOWS,
    "approvals": topics.WORKFLOWS,
}
_KEYED: Final = frozenset({"agents", "workflows"})
"""What comes after these in a path is the key of a partition."""


class AsOf:
    """ASGI middleware: takes `GET …?as_of=…` to the reads of that moment."""

    def __init__(self, app: ASGIApp, pasts: Pasts) -> None:
        self._app = app
        self._pasts = pasts
        self._apps: OrderedDict[int, tuple[PastQueries, FastAPI]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or b"as_of=" not in scope["query_string"]:
            await self._app(scope, receive, send)
            return
        try:
            given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            if "as_of" not in given:
                await self._app(scope, receive, send)
                return
            folded = _folded(raw_path_of(scope))
            await wait_for_positions(Request(scope), self._pasts.now)
            moment = await self._pasts.moment(given["as_of"][-1], clock_ms=lambda: int(time.time() * 1000))
            async with self._pasts.at(moment, folded) as queries:

                async def sent(message: Message) -> None:
                    if message.get("status") == _UNAVAILABLE:
                        self._pasts.forget(moment, folded)  # its connection was lost, and its tables with it
                    await send(message)

                await self._reads(queries)(scope, receive, sent)
        except DiurnaError as error:
            await problem_response(error, scope["path"])(scope, receive, send)

    def _reads(self, queries: PastQueries) -> FastAPI:
        """The read routes on these queries."""
        found = self._apps.get(id(queries))
        if found is None:
            app = FastAPI(openapi_url=None)
            install_problems(app)
            app.include_router(read_router(queries))
            found = self._apps[id(queries)] = (queries, app)
            while len(self._apps) > _APPS_MAX:
                self._apps.popitem(last=False)
        return found[1]


def _folded(path: str) -> past.Scope:
    """Which events make what a path, as it was sent, shows. Raises `InvalidInput` where it has no past."""
    first, _, rest = path.strip("/").partition("/")
    if first in {"events", "timeline"}:
        return past.Scope(())  # the table of events is its own past
    family = _FAMILIES.get(first)
    if family is None:
        raise InvalidInput("as_of", path, "there is no past of this: heartbeats and dead letters are not kept for ever")
    key = unquote(rest.partition("/")[0])
    return past.Scope((family.events,), partition_of(key) if first in _KEYED and key else None)
