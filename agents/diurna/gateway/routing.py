"""What all writing routes share: bodies, idempotency keys, problems, and their description in OpenAPI."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the routes work with."""

    connection: Connection
    reads: Reads


class Body(BaseModel):
    """A request's JSON body; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class ProblemRoute(RawPathRoute):
    """Answers errors of ours as RFC 9457 problems."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await handle(request)
            except DiurnaError as error:
                return problem_response(error, request.url.path)

        return guarded


def command_id(request: Request) -> str:
    """The id of the command a request stands for: the same `Idempotency-Key` on the same route is the same command."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return str(uuid.uuid4())
    return command_id_of(request.method, request.url.path, checked_id("Idempotency-Key", key))


def has_key(request: Request) -> bool:
    """Whether the caller gave an `Idempotency-Key`."""
    return "idempotency-key" in request.headers


def answer(content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON object."""
    return Response(orjson.dumps(content), status, headers, "application/json")


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
