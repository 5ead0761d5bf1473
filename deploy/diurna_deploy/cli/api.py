"""The HTTP API as the command line uses it; its problems become errors of ours."""

from __future__ import annotations

import json
import ssl
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import quote

import httpx

from diurna_schemas.errors import InvalidInput, Refused, TimedOut, Unavailable

PAGES_MAX: Final = 100
_SECONDS: Final = 30.0
_SERVER_FAULT: Final = 500
_CLIENT_FAULT: Final = 400


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event of a stream. `id` is what to come back with."""

    id: str
    event: str
    data: Any


def part(text: str) -> str:
    """An id as a part of a path. Raises `InvalidInput` where there is none: the path would name all of its kind."""
    if not text:
        raise InvalidInput("id", text, "an id is needed")
    return quote(text, safe="")


class Api:
    """Speaks to the API at `url`; with `as_of`, what is read is read as it was."""

    def __init__(self, url: str, *, as_of: str | None = None) -> None:
        self.url = url
        self._as_of = as_of
        verify: ssl.SSLContext | bool = ssl.create_default_context() if url.startswith("https:") else False
        self._client = httpx.Client(base_url=url, timeout=_SECONDS, verify=verify, trust_env=url.startswith("https:"))

    def get(self, path: str, **parameters: Any) -> Any:
        """What a route answers. Raises `Refused` or `Unavailable`."""
        return self.request("GET", path, parameters=parameters)

    def get_all(self, path: str, **parameters: Any) -> list[Any]:
        """All pages of a list, at most `PAGES_MAX`. Raises `Refused` or `Unavailable`."""
        found: list[Any] = []
        for _ in range(PAGES_MAX):
            response = self._response("GET", path, parameters=parameters)
            found += _content(response)
            following = response.links.get("next", {}).get("url")
            if following is None:
                break
            path, parameters = following, {}
        return found

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, timeout: float = _SECONDS) -> Any:
        """Writes. Raises `Refused` or `Unavailable`."""
        return self.request("POST", path, body=body or {}, timeout=timeout)

    def delete(self, path: str) -> Any:
        """Takes away. Raises `Refused` or `Unavailable`."""
        return self.request("DELETE", path)

    def request(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout: float = _SECONDS,
    ) -> Any:
        """One call."""
        return _content(self._response(method, path, parameters=parameters, body=body, timeout=timeout))

    def stream(self, path: str, *, last_event_id: str | None = None, **parameters: Any) -> Generator[ServerSentEvent]:
        """The events of a stream, until the server ends it. Raises `Refused` or `Unavailable`."""
        chosen = {name: value for name, value in parameters.items() if value is not None}
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
        timeout = httpx.Timeout(_SECONDS, read=None)
        with (
            self._translated("GET", path, _SECONDS),
            self._client.stream("GET", path, params=chosen, headers=headers, timeout=timeout) as response,
        ):
            if response.is_error:
                response.read()
                _content(response)
            yield from _events(response)

    def _response(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout: float = _SECONDS,
    ) -> httpx.Response:
        # A link to the next page brings its own parameters, which an empty set would strip.
        chosen = {name: value for name, value in (parameters or {}).items() if value is not None} or None
        if self._as_of is not None and "as_of=" not in path:
            chosen = {**(chosen or {}), "as_of": self._as_of}
        content = None if body is None else _document(body)
        headers = {} if content is None else {"Content-Type": "application/json"}
        with self._translated(method, path, timeout):
            return self._client.request(method, path, params=chosen, content=content, headers=headers, timeout=timeout)

    @contextmanager
    def _translated(self, method: str, path: str, timeout: float) -> Generator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise Unavailable(
                f"nothing answers at {self.url}: run `diurna up --detach`, or name another with --api-url"
            ) from error
        except httpx.TimeoutException as error:
            raise TimedOut(f"{method} {self.url}{path}", timeout) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"{method} {self.url}{path}: {type(error).__name__}: {error}") from error


def _document(body: Mapping[str, Any]) -> bytes:
    """The body as JSON. Raises `InvalidInput` naming the first field that cannot be written so."""
    for name, value in body.items():
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except ValueError as error:  # NaN and Infinity are no JSON, half a surrogate pair is no text
            raise InvalidInput(name, value, f"it cannot be written as JSON: {error}") from error
    return json.dumps(body).encode()


def _content(response: httpx.Response) -> Any:
    try:
        content: Any = response.json() if response.content else None
    except ValueError:
        content = {"detail": response.text[:500]}
    if response.status_code < _CLIENT_FAULT:
        return content
    problem = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    words = str(problem.get("detail") or problem.get("title") or response.reason_phrase)
    if response.status_code >= _SERVER_FAULT:
        raise Unavailable(f"the API answered {response.status_code}: {words}")
    raise Refused(words, code=str(problem.get("code") or f"http_{response.status_code}"))


def _events(response: httpx.Response) -> Generator[ServerSentEvent]:
    found: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(":")
            if name:
                value = value.removeprefix(" ")
                found[name] = f"{found[name]}\n{value}" if name == "data" and name in found else value
        elif "data" in found:
            yield ServerSentEvent(found.get("id", ""), found.get("event", "message"), _json(found["data"]))
            found = {}
        else:
            found = {}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
