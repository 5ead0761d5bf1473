"""A plain HTTP service as a handler: one JSON document there, one back, every status told as what it is."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from ipaddress import ip_address
from typing import Any, Final, cast

import httpx
import orjson

from diurna.documents import json_text
from diurna.neighbours.exchange import (
    Handler,
    ToInput,
    ToResult,
    answer,
    input_of,
    payload_of,
    result_of,
    unchanged,
)
from diurna.workers import Context
from diurna_schemas.errors import DiurnaError, InvalidInput, TooLarge, Unavailable, shown
from diurna_schemas.message import PAYLOAD_BYTES_MAX
from diurna_schemas.shapes import AgentRequestEvent, AgentResponseEvent, AgentResponseStatus
from diurna_streams import tracing

METHODS: Final = ("POST", "PUT", "PATCH")
CONNECT_SECONDS_MAX: Final = 10.0
DETAIL_CHARACTERS_MAX: Final = 1_000
_NOT_ABOUT_THE_PAYLOAD: Final = frozenset({401, 403, 405, 407, 408, 425, 429})
"""Of the statuses from 400 to 499 those that say nothing of what was asked: who asked, how, how often, how fast."""
_ACCEPTED: Final = 202


class BadAnswer(DiurnaError):
    """The service answered with what is no answer."""


def from_http(
    url: str,
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    to_input: ToInput = payload_of,
    to_result: ToResult = unchanged,
    client: httpx.AsyncClient | None = None,
) -> Handler:
    """A handler that asks an HTTP service: the payload is the body, the JSON in its answer the result.

    Each request carries `Idempotency-Key` (the request's id, the same for every attempt), `Prefer: wait=` (the seconds
    there are, RFC 7240) and the `traceparent` the request came with; `headers` are added. A status from 400 to 499 is
    the answer "rejected" in the service's own words (RFC 9457 problems are understood), unless it is about the caller
    (401, 403, 405, 407, 408, 425, 429); these and all others are errors. Redirects are not followed. `client` is one of
    your own, with your own certificates, proxies and connections; it stays open.
    Raises `InvalidInput` where the address is none, or the method takes no body.
    """
    address = _address(url)
    if method not in METHODS:
        raise InvalidInput("method", method, f"{', '.join(METHODS)} are known")
    own_headers = httpx.Headers(dict(headers or {}))

    async def handle(request: AgentRequestEvent, context: Context) -> AgentResponseEvent:
        body = json_text("payload", input_of(request, to_input))
        sent = _headers(request, context)
        sent.update(own_headers)
        limit = httpx.Timeout(None, connect=min(CONNECT_SECONDS_MAX, context.deadline_seconds))
        try:
            async with (
                _opened(client, address) as opened,
                opened.stream(
                    method, address, content=body, headers=sent, timeout=limit, follow_redirects=False
                ) as response,
            ):
                content = await _content(response)
        except httpx.HTTPError as error:
            reason = str(error) or "it did not answer"
            raise Unavailable(f"{_shown(address)}: {type(error).__name__}: {reason}") from error
        return _answer(request, response, content, to_result)

    return handle


def _address(url: object) -> httpx.URL:
    try:
        address = httpx.URL(cast("str", url))
    except (httpx.InvalidURL, TypeError) as error:
        raise InvalidInput("url", url, f"no address ({error})") from error
    if address.scheme not in {"http", "https"} or not address.host:
        raise InvalidInput("url", url, "a whole address is needed, such as http://127.0.0.1:9000/translate")
    return address


def _shown(address: httpx.URL) -> str:
    """Without what may be a secret."""
    return str(address.copy_with(userinfo=b"", query=None, fragment=None))


def _headers(request: AgentRequestEvent, context: Context) -> httpx.Headers:
    headers = httpx.Headers(
        {
            "Content-Type": "application/json",
            "Accept": "application/json, application/problem+json",
            "Accept-Encoding": "identity",
            "Idempotency-Key": request.request_id,
            "Prefer": f"wait={max(1, int(context.deadline_seconds))}",
        }
    )
    if traceparent := tracing.understood(context.traceparent):
        headers["traceparent"] = traceparent
    return headers


@asynccontextmanager
async def _opened(client: httpx.AsyncClient | None, address: httpx.URL) -> AsyncGenerator[httpx.AsyncClient]:
    """The author's client, or one for this request: an agent may run on another loop tomorrow."""
    if client is not None:
        yield client
        return
    # The environment's proxies, but not to this machine: no proxy could reach it.
    async with httpx.AsyncClient(verify=_certificates(), trust_env=not _is_here(address.host)) as own:
        yield own


def _is_here(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: that is what costs."""
    return httpx.create_ssl_context()


async def _content(response: httpx.Response) -> bytes:
    """What the service says. Raises `TooLarge` as soon as it says too much."""
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > PAYLOAD_BYTES_MAX:
        raise TooLarge("response", int(announced), PAYLOAD_BYTES_MAX)
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > PAYLOAD_BYTES_MAX:
            raise TooLarge("response", size, PAYLOAD_BYTES_MAX)
        chunks.append(chunk)
    return b"".join(chunks)


def _answer(
    request: AgentRequestEvent, response: httpx.Response, content: bytes, to_result: ToResult
) -> AgentResponseEvent:
    status = response.status_code
    metadata: dict[str, Any] = {"http_status": status}
    if response.is_success and status != _ACCEPTED:
        result = result_of(_value(response, content), to_result)
        return answer(request, AgentResponseStatus.SUCCESS, result=result, metadata=metadata)
    words, code = _words(response, content)
    if code is not None:
        metadata["code"] = code
    rejected = response.is_client_error and status not in _NOT_ABOUT_THE_PAYLOAD
    return answer(
        request,
        AgentResponseStatus.REJECTED if rejected else AgentResponseStatus.ERROR,
        error=f"HTTP {status} {response.reason_phrase}: {words}",
        metadata=metadata,
    )


def _value(response: httpx.Response, content: bytes) -> Any:
    if not content.strip():
        return None
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        kind = response.headers.get("content-type", "no content type")
        raise BadAnswer(f"HTTP {response.status_code} with what is no JSON ({kind}): {shown(content[:200])}") from error


def _words(response: httpx.Response, content: bytes) -> tuple[str, str | None]:
    """Why not, in the service's own words, and the code it gives."""
    if response.status_code == _ACCEPTED:
        return "it took the request, and did not say what came of it", None
    if location := response.headers.get("location"):
        return f"it sends us on to {location[:DETAIL_CHARACTERS_MAX]}", None
    try:
        found: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        text = content.decode("utf-8", "replace").strip()
        return text[:DETAIL_CHARACTERS_MAX] or "without a word", None
    if not isinstance(found, dict):
        return _short(found), None
    problem = cast("dict[str, Any]", found)
    code = problem.get("code")
    said = next((problem[name] for name in ("detail", "title", "message", "error") if problem.get(name)), problem)
    return _short(said), code[:100] if isinstance(code, str) else None


def _short(value: object) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text[:DETAIL_CHARACTERS_MAX]
