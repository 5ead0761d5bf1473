"""The one door to the HTTP API: retried where that is safe, and its problems turned into errors of ours."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import quote

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from diurna_schemas.errors import (
    AgentOffline,
    Conflict,
    DiurnaError,
    InvalidInput,
    NotFound,
    Refused,
    TimedOut,
    TooLarge,
    Unavailable,
)
from diurna_schemas.message import PAYLOAD_BYTES_MAX

RETRY_SECONDS_MAX: Final = 15.0
TIMEOUT_SECONDS: Final = 35.0
PAGES_MAX: Final = 1_000

Parameters = Mapping[str, str | int | Sequence[str] | None]


class ApiClient:
    """Asks the API. What it writes carries an `Idempotency-Key`, so that a repeated attempt writes nothing twice."""

    def __init__(
        self,
        url: str,
        *,
        retry_seconds_max: float = RETRY_SECONDS_MAX,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._retry_seconds_max = retry_seconds_max
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def read(self, path: str, parameters: Parameters | None = None) -> Any:
        """GET. Raises `NotFound`, `InvalidInput` or `Unavailable`."""
        return _content(await self._retried("GET", path, parameters, None, {}))

    async def read_pages(self, path: str, parameters: Parameters | None = None) -> list[Any]:
        """GET a list, all pages of it. Raises as `read` does; `Unavailable` where there are more than `PAGES_MAX`."""
        found: list[Any] = []
        page = path
        for _ in range(PAGES_MAX):
            response = await self._retried("GET", page, parameters, None, {})
            found += cast("list[Any]", _content(response))
            if (following := response.links.get("next", {}).get("url")) is None:
                return found
            page, parameters = following, None  # the link brings its own
        raise Unavailable(f"{path} has more than {PAGES_MAX} pages")

    async def write(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Writes, and returns what the API answers. Raises the refusal the problem describes."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        found: object = _content(await self._retried(method, path, None, body, headers))
        return cast("dict[str, Any]", found) if isinstance(found, dict) else {}

    async def close(self) -> None:
        """Closes the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _retried(
        self,
        method: str,
        path: str,
        parameters: Parameters | None,
        body: Mapping[str, Any] | None,
        headers: dict[str, str],
    ) -> httpx.Response:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(self._retry_seconds_max),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            reraise=True,
        )
        return await retrying(self._once, method, path, parameters, body, headers)

    async def _once(
        self,
        method: str,
        path: str,
        parameters: Parameters | None,
        body: Mapping[str, Any] | None,
        headers: dict[str, str],
    ) -> httpx.Response:
        if self._client is None:
            self._client = httpx.AsyncClient(
                base_url=self.url, timeout=TIMEOUT_SECONDS, transport=self._transport, trust_env=False
            )
        # An empty set of parameters would strip those a link brings.
        wanted = {name: value for name, value in (parameters or {}).items() if value is not None} or None
        try:
            response = await self._client.request(
                method,
                path,
                params=cast("dict[str, Any]", wanted),
                json=None if body is None else dict(body),
                headers=headers,
            )
        except httpx.TimeoutException as error:
            raise TimedOut(f"{method} {self.url}{path}", TIMEOUT_SECONDS) from error
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.url} does not answer: {type(error).__name__}: {error}") from error
        if response.is_success:
            return response
        raise _error_of(response, path)


def _content(response: httpx.Response) -> Any:
    return response.json() if response.content else None


def path_of(*parts: str) -> str:
    """A path made of parts that may hold any character."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _error_of(response: httpx.Response, path: str) -> DiurnaError:
    try:
        found: object = response.json()
    except ValueError:
        found = None
    problem = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    detail = str(problem.get("detail") or problem.get("title") or f"{path} answered {response.status_code}")
    code = str(problem.get("code") or "refused")
    error: DiurnaError
    match response.status_code:
        case 404:
            error = NotFound("resource", path)
            error.args = (detail,)
        case 413:
            error = TooLarge(_invalid(problem, detail).field, 0, PAYLOAD_BYTES_MAX)
            error.args = (detail,)
        case 400 | 422:
            error = _invalid(problem, detail)
        case 409 | 412:
            error = AgentOffline(path, detail) if code == "agent_offline" else Conflict(detail, code=code)
        case 504:
            error = TimedOut(detail, TIMEOUT_SECONDS)
        case status if status >= 500 or status == 429:
            error = Unavailable(f"{path} answered {status}: {detail}")
        case _:
            error = Refused(detail, code=code)
    return error


def _invalid(problem: dict[str, Any], detail: str) -> InvalidInput:
    faults = problem.get("errors")
    first: object = cast("list[object]", faults)[0] if isinstance(faults, list) and faults else {}
    fault = cast("dict[str, Any]", first) if isinstance(first, dict) else {}
    error = InvalidInput(str(fault.get("field", "body")), fault.get("value"), str(fault.get("reason", detail)))
    error.args = (detail,)
    return error
