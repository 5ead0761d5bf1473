"""Speaks to a schema registry: ours, Apicurio's (`…/apis/ccompat/v7`), Confluent's, Karapace. The only door to one."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Self, cast
from urllib.parse import quote

import httpx
import tenacity

from diurna_schemas.errors import Conflict, InvalidInput, Refused, Unavailable, UnknownSchema, Unreadable

MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_CACHED_MAX: Final = 10_000
_FETCHES_AT_ONCE_MAX: Final = 8
_NOT_FOUND_CODES: Final = frozenset({40401, 40402, 40403})
_EMPTY_OBJECT: Final = '"{}"'
_EMPTY_OBJECT_ESCAPED: Final = r'"\u007b}"'
_AGAIN_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A version of a subject. `schema` is the Avro schema's text."""

    subject: str
    version: int
    id: int
    schema: str


class SchemaRegistryClient:
    """A client of a registry at `url`. What it asks is safe to ask twice, so it asks again until `deadline_s`.

    Every call raises `Unavailable` where the registry did not answer in that time, and `Refused` where it said no.
    """

    def __init__(
        self, url: str, *, deadline_s: float = 15.0, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidInput("schema_registry_url", url, "it must begin with http:// or https://")
        self._url = url.rstrip("/")
        self._deadline_s = deadline_s
        self._http = httpx.AsyncClient(
            transport=transport,
            verify=_certificates(),
            timeout=min(5.0, deadline_s),
            headers={"Accept": f"{MEDIA_TYPE}, application/json", "Content-Type": MEDIA_TYPE},
            follow_redirects=True,
        )
        self._ids: dict[tuple[str, str], int] = {}
        self._schemas: dict[int, str] = {}

    async def register(self, subject: str, schema: str) -> int:
        """Registers a schema's text under a subject, unless it is there, and returns its id.

        Raises `Conflict` where it is incompatible with an earlier version.
        """
        if (known := self._ids.get((subject, schema))) is not None:
            return known
        body = await self._tell(f"/subjects/{_quoted(subject)}/versions", schema)
        return self._remember(subject, schema, _number(body, "id"))

    async def lookup(self, subject: str, schema: str) -> int | None:
        """The id of a schema's text under a subject; None where it is not registered there."""
        if (known := self._ids.get((subject, schema))) is not None:
            return known
        try:
            body = await self._tell(f"/subjects/{_quoted(subject)}", schema)
        except _Answered as error:
            if error.is_not_found:
                return None
            raise
        return self._remember(subject, schema, _number(body, "id"))

    async def schema_by_id(self, schema_id: int) -> str:
        """The text of the schema an id names. Raises `UnknownSchema` where the registry has none."""
        if (known := self._schemas.get(schema_id)) is not None:
            return known
        try:
            text = _text(await self._ask("GET", f"/schemas/ids/{schema_id}"), "schema")
        except _Answered as error:
            if error.is_not_found:
                raise UnknownSchema(schema_id) from error
            raise
        _bounded(self._schemas)[schema_id] = text
        return text

    async def all_schemas(self) -> list[RegisteredSchema]:
        """Every version of every subject: in one question, or one a version where the registry cannot say it so."""
        try:
            found = await self._ask("GET", "/schemas")
        except _Answered as error:
            if error.status not in {404, 405}:
                raise
            return await self._schemas_one_by_one()
        try:
            return [_registered(one) for one in _list(found)]
        except Unreadable:
            # Apicurio 3.3 lists the bare schemas, without subject, version and id.
            return await self._schemas_one_by_one()

    async def compatible(self, subject: str, schema: str) -> bool:
        """Whether a schema's text may be registered under a subject. A new subject takes any."""
        path = f"/compatibility/subjects/{_quoted(subject)}/versions"
        for place in (path, f"{path}/latest"):
            try:
                return bool(_field(await self._tell(place, schema), "is_compatible"))
            except _Answered as error:
                # Not every registry compares with all versions at once; and no version is nothing to conflict with.
                if error.status not in {404, 405}:
                    raise
        return True

    async def set_compatibility(self, subject: str | None, level: str) -> None:
        """Sets the level of one subject, or of all that have none of their own."""
        path = "/config" if subject is None else f"/config/{_quoted(subject)}"
        await self._ask("PUT", path, {"compatibility": level})

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _schemas_one_by_one(self) -> list[RegisteredSchema]:
        slots = asyncio.Semaphore(_FETCHES_AT_ONCE_MAX)

        async def of_subject(subject: str) -> list[RegisteredSchema]:
            path = f"/subjects/{_quoted(subject)}/versions"
            async with slots:
                return [
                    _registered(await self._ask("GET", f"{path}/{version}"))
                    for version in _list(await self._ask("GET", path))
                ]

        subjects = [str(subject) for subject in _list(await self._ask("GET", "/subjects"))]
        return [one for found in await asyncio.gather(*map(of_subject, subjects)) for one in found]

    def _remember(self, subject: str, schema: str, schema_id: int) -> int:
        _bounded(self._ids)[subject, schema] = schema_id
        return schema_id

    async def _tell(self, path: str, schema: str) -> object:
        """Sends a schema.

        Apicurio 3.3.3 refuses a schema wherever the default `"{}"` stands in it (its compatibility routes alone: its
        own routes take it, and `"{ }"` passes). So it is told the same once more with one character escaped.
        """
        try:
            return await self._ask("POST", path, _avro(schema))
        except _Answered as error:
            if error.status != 422 or _EMPTY_OBJECT not in schema:
                raise
            return await self._ask("POST", path, _avro(schema.replace(_EMPTY_OBJECT, _EMPTY_OBJECT_ESCAPED)))

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> object:
        """Asks until there is an answer. Raises `Refused` for one that says no."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Unavailable),
            stop=tenacity.stop_after_delay(self._deadline_s),
            wait=tenacity.wait_exponential(multiplier=0.05, max=1.0) + tenacity.wait_random(0, 0.05),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await self._ask_once(method, path, body)
        raise AssertionError("tenacity returns or raises")

    async def _ask_once(self, method: str, path: str, body: dict[str, Any] | None) -> object:
        try:
            response = await self._http.request(method, self._url + path, json=body)
        except httpx.TransportError as error:
            raise Unavailable(f"the schema registry at {self._url} did not answer: {_said(error)}") from error
        except httpx.HTTPError as error:
            raise Refused(f"the schema registry at {self._url} answered nonsense: {_said(error)}") from error
        if response.is_success:
            try:
                return response.json()
            except ValueError as error:
                raise Unreadable(
                    f"{method} {path} at {self._url} did not answer JSON: {response.text[:120]!r}"
                ) from error
        if response.status_code in _AGAIN_STATUSES:
            raise Unavailable(
                f"the schema registry at {self._url} answered {response.status_code}: {_reason(response)}"
            )
        if response.status_code == 409:
            raise Conflict(f"{method} {path}: {_reason(response)}", code="incompatible_schema")
        raise _Answered(response, f"the schema registry refused {method} {path}: {_reason(response)}")


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: for a client that asks a single question that costs more than the answer."""
    return httpx.create_ssl_context()


class _Answered(Refused):
    """The registry said no."""

    def __init__(self, response: httpx.Response, reason: str) -> None:
        code = _error_code(response)
        super().__init__(reason, code=f"schema_registry_{code or response.status_code}")
        self.status = response.status_code
        self.is_not_found = code in _NOT_FOUND_CODES


def _error_code(response: httpx.Response) -> int | None:
    try:
        code = cast("object", response.json()["error_code"])
    except (ValueError, KeyError, TypeError):
        return None
    return code if isinstance(code, int) else None


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])[:2_000]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code} {response.text[:200]!r}"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _avro(schema: str) -> dict[str, Any]:
    return {"schema": schema, "schemaType": "AVRO"}


def _quoted(subject: str) -> str:
    return quote(subject, safe="")


def _bounded(cache: dict[Any, Any]) -> dict[Any, Any]:
    if len(cache) >= _CACHED_MAX:
        cache.clear()
    return cache


def _registered(one: object) -> RegisteredSchema:
    return RegisteredSchema(_text(one, "subject"), _number(one, "version"), _number(one, "id"), _text(one, "schema"))


def _field(body: object, name: str) -> object:
    fields = cast("dict[str, object]", body) if isinstance(body, dict) else {"": body}
    if fields.get(name) is None:
        raise Unreadable(f"the schema registry answered without {name}: {_shown(fields)}")
    return fields[name]


def _shown(body: object) -> str:
    return repr(body)[:120]


def _number(body: object, name: str) -> int:
    found = _field(body, name)
    if not isinstance(found, int):
        raise Unreadable(f"the schema registry answered {name} = {found!r}, a number was expected")
    return found


def _text(body: object, name: str) -> str:
    return str(_field(body, name))


def _list(body: object) -> list[object]:
    if not isinstance(body, list):
        raise Unreadable(f"the schema registry answered {_shown(body)}, a list was expected")
    return cast("list[object]", body)
