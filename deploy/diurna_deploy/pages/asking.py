"""The API as the pages ask it: in this process, through the same routes and middleware as everybody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, cast
from urllib.parse import parse_qs, quote, urlsplit

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

AS_OF: Final = "as_of"
MIN_POSITION: Final = "min_position"
_TIMEOUT_SECONDS: Final = 40.0

Parameters = Mapping[str, str | int | bool | None]


class Refusal(Exception):
    """The API answered with a problem."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('title')}: {problem.get('detail')}")
        self.status = status
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route answered, the positions it is true at, and the cursor of the next page where there is one."""

    document: Any
    positions: str = ""
    cursor: str | None = None

    @property
    def position(self) -> str | None:
        """Where a write stands on the log."""
        written: Any = self.document
        found = cast("dict[str, Any]", written).get("position") if isinstance(written, dict) else None
        return found if isinstance(found, str) else None


class Asking:
    """Asks the application that stands behind the pages."""

    def __init__(self, app: ASGIApp) -> None:
        transport = httpx.ASGITransport(cast("Any", app))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://api", timeout=_TIMEOUT_SECONDS)

    async def ask(
        self,
        method: str,
        path: str,
        parameters: Parameters | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Answer:
        """One request. Raises `Refusal` where the answer is a problem."""
        wanted = {name: value for name, value in (parameters or {}).items() if value not in {None, ""}}
        headers = {"accept": "application/json"}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        response = await self._client.request(
            method,
            path,
            params=cast("dict[str, Any]", wanted) or None,
            json=None if body is None else dict(body),
            headers=headers,
        )
        found: Any = response.json() if response.content else None
        if not response.is_success:
            raise Refusal(response.status_code, cast("dict[str, Any]", found) if isinstance(found, dict) else {})
        link = response.links.get("next", {}).get("url")
        cursor = None if link is None else parse_qs(urlsplit(link).query)["cursor"][0]
        return Answer(found, response.headers.get("diurna-positions", ""), cursor)


@dataclass(frozen=True, slots=True)
class Reading:
    """The reads of one page: all at the moment the page is about."""

    asking: Asking
    as_of: str | None = None
    min_position: str | None = None

    @classmethod
    def of(cls, asking: Asking, query: Mapping[str, str]) -> Self:
        """At the moment a page's own query names; after the position a write has just been given."""
        return cls(asking, query.get(AS_OF) or None, query.get(MIN_POSITION) or None)

    async def read(self, path: str, **parameters: str | int | bool | None) -> Answer:
        """A read that has a past."""
        moment: dict[str, str | None] = {AS_OF: self.as_of, MIN_POSITION: None if self.as_of else self.min_position}
        return await self.asking.ask("GET", path, {**parameters, **moment})

    async def now(self, path: str, **parameters: str | int | bool | None) -> Answer:
        """A read that has none."""
        return await self.asking.ask("GET", path, parameters)


def path_of(*parts: str) -> str:
    """A path made of parts that may hold any character."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


class Inner:
    """The application behind the pages, for requests the pages make of their own: each a fresh one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.outer: object = None
        """The whole application, which routes may ask for as `request.app`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "app": self.outer} if self.outer is not None else scope, receive, send)
