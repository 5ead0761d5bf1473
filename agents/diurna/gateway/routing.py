"""What all writing routes share: bodies, idempotency keys, problems, and their description in OpenAPI."""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict

from diurna.connection import Connection
from diurna.gateway.reads import Reads
from diurna.problems import problem_response
from diurna.responses import command_id_of
from diurna_projections.raw_path import RawPathRoute
from diurna_schemas.errors import DiurnaError
from diurna_schemas.ids import checked_id

ANSWERS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the routes work with."""

    connection: Connection
    reads: Reads


class Body(BaseModel):
    """A request's JSON body; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class ProblemRoute(RawPathRoute):
    """Answers errors of ours as RFC 9457 problems; ids in its path may hold `/`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await handle(request)
            except DiurnaError as error:
                return problem_response(error, request.url.path)

        return guarded


def command_id(request: Request, *about: str) -> str:
    """The id of the command a request stands for: the same `Idempotency-Key` on the same route is the same command.

    `about` is whom or what the body speaks of, where the path does not say it: the same key for another one is another
    command. Else it would be answered with what was decided about the first, or not, as their partitions want it.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return str(uuid.uuid4())
    return command_id_of(request.method, request.url.path, checked_id("Idempotency-Key", key), *about)


def has_key(request: Request) -> bool:
    """Whether the caller gave an `Idempotency-Key`."""
    return "idempotency-key" in request.headers


class FirstAnswers:
    """The first answers to keys, for what is written and decided by nobody: this process remembers what it wrote."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, asyncio.Task[dict[str, Any]]] = OrderedDict()

    async def to(self, request: Request, write: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
        """Writes; under the same key once. That goes on when its first caller hangs up: others may wait for it too."""
        if not has_key(request):
            return await write()
        written = command_id(request)
        task = self._by_id.get(written)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._by_id[written] = asyncio.create_task(write())
            while len(self._by_id) > ANSWERS_MAX:
                self._by_id.popitem(last=False)
        return await asyncio.shield(task)


def answer(content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON object."""
    return Response(orjson.dumps(content), status, headers, "application/json")


def location(*parts: str) -> dict[str, str]:
    """The header that says where something is to be found; an id in it may hold any character."""
    return {"Location": "".join(f"/{quote(part, safe=':')}" for part in parts)}


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """The body of a route, for OpenAPI: bodies are read by hand, to bound them before they are parsed."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions: dict[str, Any] = schema.pop("$defs", {})
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _inlined(schema, definitions)}},
        },
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "description": "The same key again gives the first answer, and writes nothing.",
            }
        ],
    }


def takes_in_query(model: type[BaseModel]) -> dict[str, Any]:
    """As `takes`, for a route that takes the same fields as query parameters, and needs no body."""
    described = takes(model)
    body = described["requestBody"]
    fields: dict[str, Any] = body["content"]["application/json"]["schema"]["properties"]
    parameters = [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in fields.items()]
    return {"requestBody": {**body, "required": False}, "parameters": [*described["parameters"], *parameters]}


def also(status: int, description: str) -> dict[int | str, dict[str, Any]]:
    """Another status a route answers well with, for OpenAPI."""
    return {status: {"description": description, "content": {"application/json": {"schema": {}}}}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with its definitions put where they are used: none of them refers to itself."""
    match schema:
        case {"$ref": str(reference)}:
            return _inlined(definitions[reference.rpartition("/")[2]], definitions)
        case dict():
            return {key: _inlined(value, definitions) for key, value in schema.items()}  # pyright: ignore[reportUnknownVariableType]
        case list():
            return [_inlined(item, definitions) for item in schema]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return schema
