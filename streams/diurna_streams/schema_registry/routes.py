"""The registry over HTTP: the routes that Confluent's clients and the Kafka UIs call, as an APIRouter and as an app."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from diurna_streams.schema_registry import decisions, queries, refusals
from diurna_streams.schema_registry.dialect import RegistryRoute, answer, refused
from diurna_streams.schema_registry.parsing import Schema, parse
from diurna_streams.schema_registry.store import SchemaRegistry

BODY_BYTES_MAX: Final = 1_000_000

BodyT = TypeVar("BodyT", bound=BaseModel)

Flag = Annotated[bool, Query()]
Limit = Annotated[int, Query(ge=-1)]
Offset = Annotated[int, Query(ge=0)]
Prefix = Annotated[str, Query(alias="subjectPrefix")]
FetchMaxId = Annotated[bool, Query(alias="fetchMaxId")]
LatestOnly = Annotated[bool, Query(alias="latestOnly")]
DeletedOnly = Annotated[bool, Query(alias="deletedOnly")]
DefaultToGlobal = Annotated[bool, Query(alias="defaultToGlobal")]


class SchemaBody(BaseModel):
    """A schema as clients send it."""

    model_config = ConfigDict(extra="ignore")

    schema_text: str = Field(alias="schema")
    schema_type: str | None = Field(default=None, alias="schemaType")
    references: list[dict[str, Any]] | None = None
    id: int | None = None
    version: int | None = None

    def parsed(self) -> Schema:
        """Raises a refusal where it is not a schema this registry takes."""
        if self.schema_type not in {None, "", "AVRO"}:
            raise refusals.invalid_schema(f"schemaType: only AVRO is supported here, got {self.schema_type!r}")
        if self.references:
            raise refusals.invalid_schema("references: they are not supported here, write the named types out")
        return parse(self.schema_text)


class LevelBody(BaseModel):
    """A compatibility as clients set it."""

    compatibility: str


class ModeBody(BaseModel):
    """A mode as clients set it."""

    mode: str


def schema_registry_router(registry: SchemaRegistry) -> APIRouter:
    """All the routes on one started registry. Include it at any prefix: `app.include_router(…, prefix=…)`."""
    router = APIRouter(route_class=RegistryRoute, tags=["schema registry"])
    _add_schemas(router, registry)
    _add_subject_reads(router, registry)
    _add_subject_writes(router, registry)
    _add_compatibility(router, registry)
    _add_levels(router, registry)
    _add_modes(router, registry)

    @router.get("/contexts")
    async def contexts() -> Response:
        return answer(["."])

    @router.get("/associations/{rest:path}")
    async def associations(rest: str) -> Response:
        # New clients ask which subject a topic goes with; without this error body they give up.
        return refused(404, 404, "associations are not supported here")

    return router


def build_app(registry: SchemaRegistry) -> FastAPI:
    """The routes as an application of their own, on one started registry."""
    app = FastAPI(title="Diurna schema registry", version="1")
    app.include_router(schema_registry_router(registry))

    async def in_dialect(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return refused(status, status, f"HTTP {status} {getattr(error, 'detail', 'Internal Server Error')}")

    app.add_exception_handler(HTTPException, in_dialect)
    app.router.routes.append(APIRoute("/", _root, methods=["GET"]))
    return app


async def _root() -> Response:
    return answer({})


def _add_schemas(router: APIRouter, registry: SchemaRegistry) -> None:
    @router.get("/schemas/ids/{schema_id}")
    async def schema_by_id(schema_id: str, is_max_id_wanted: FetchMaxId = False) -> Response:
        number = queries.id_in(schema_id)
        if registry.state.schema(number) is None:
            await registry.refresh()  # another registry may have written it a moment ago
        body = queries.schema_by_id(registry.state, number)
        return answer({**body, "maxId": registry.state.id_max} if is_max_id_wanted else body)

    @router.get("/schemas/ids/{schema_id}/schema")
    async def schema_text_by_id(schema_id: str) -> Response:
        state = await registry.refresh()
        return queries.text_answer(queries.schema_by_id(state, queries.id_in(schema_id))["schema"])

    @router.get("/schemas/ids/{schema_id}/subjects")
    async def subjects_by_id(schema_id: str, deleted: Flag = False, offset: Offset = 0, limit: Limit = -1) -> Response:
        places = queries.places(await registry.refresh(), queries.id_in(schema_id), deleted=deleted)
        return answer(queries.page(sorted({place.subject for place in places}), offset, limit))

    @router.get("/schemas/ids/{schema_id}/versions")
    async def versions_by_id(schema_id: str, deleted: Flag = False, offset: Offset = 0, limit: Limit = -1) -> Response:
        places = queries.places(await registry.refresh(), queries.id_in(schema_id), deleted=deleted)
        return answer(queries.page([place._asdict() for place in places], offset, limit))

    @router.get("/schemas/types")
    async def types() -> Response:
        return answer(["AVRO"])

    @router.get("/schemas")
    async def schemas(
        prefix: Prefix = "",
        is_latest_only: LatestOnly = False,
        deleted: Flag = False,
        offset: Offset = 0,
        limit: Limit = -1,
    ) -> Response:
        state = await registry.refresh()
        found = queries.schemas(state, prefix=prefix, is_latest_only=is_latest_only, deleted=deleted)
        return answer(queries.page(found, offset, limit))


def _add_subject_reads(router: APIRouter, registry: SchemaRegistry) -> None:
    @router.get("/subjects")
    async def subjects(
        prefix: Prefix = "",
        deleted: Flag = False,
        is_deleted_only: DeletedOnly = False,
        offset: Offset = 0,
        limit: Limit = -1,
    ) -> Response:
        state = await registry.refresh()
        found = queries.subjects(state, prefix=prefix, deleted=deleted, is_deleted_only=is_deleted_only)
        return answer(queries.page(found, offset, limit))

    @router.get("/subjects/{subject}/versions")
    async def versions(
        subject: str, deleted: Flag = False, is_deleted_only: DeletedOnly = False, offset: Offset = 0, limit: Limit = -1
    ) -> Response:
        state = await registry.refresh()
        known = queries.versions(state, subject, deleted=deleted or is_deleted_only)
        return answer(queries.page([one.version for one in known if one.deleted or not is_deleted_only], offset, limit))

    @router.get("/subjects/{subject}/versions/{version}")
    async def version(subject: str, version: str, deleted: Flag = False) -> Response:
        state = await registry.refresh()
        return answer(queries.described(state, queries.version(state, subject, version, deleted=deleted)))

    @router.get("/subjects/{subject}/versions/{version}/schema")
    async def version_text(subject: str, version: str, deleted: Flag = False) -> Response:
        state = await registry.refresh()
        return queries.text_answer(state.schemas[queries.version(state, subject, version, deleted=deleted).id].text)

    @router.get("/subjects/{subject}/versions/{version}/referencedby")
    async def referenced_by(subject: str, version: str) -> Response:
        queries.version(await registry.refresh(), subject, version)
        return answer([])  # references are refused, so there are none

    @router.post("/subjects/{subject}")
    async def lookup(subject: str, request: Request, deleted: Flag = False) -> Response:
        schema = (await _body(request, SchemaBody)).parsed()
        state = await registry.refresh()
        queries.versions(state, subject, deleted=deleted)
        found = decisions.find(state, subject, schema, deleted=deleted)
        if found is None:
            raise refusals.no_schema("not found under this subject")
        return answer(queries.described(state, found))


def _add_subject_writes(router: APIRouter, registry: SchemaRegistry) -> None:
    @router.post("/subjects/{subject}/versions")
    async def register(subject: str, request: Request) -> Response:
        body = await _body(request, SchemaBody)
        schema = body.parsed()
        schema_id = None if body.id in {None, -1} else body.id
        number = None if body.version in {None, 0, -1} else body.version
        if number is not None and not 0 < number < 2**31:
            raise refusals.invalid_version(str(number))
        found = await registry.write(
            lambda state: decisions.register(state, subject, schema, schema_id=schema_id, version=number)
        )
        return answer({"id": found.id, "version": found.version, "subject": found.subject})

    @router.delete("/subjects/{subject}")
    async def delete_subject(subject: str, permanent: Flag = False) -> Response:
        return answer(await registry.write(lambda state: decisions.delete_subject(state, subject, permanent=permanent)))

    @router.delete("/subjects/{subject}/versions/{version}")
    async def delete_version(subject: str, version: str, permanent: Flag = False) -> Response:
        return answer(
            await registry.write(
                lambda state: decisions.delete_version(
                    state, subject, queries.version(state, subject, version, deleted=True), permanent=permanent
                )
            )
        )


def _add_compatibility(router: APIRouter, registry: SchemaRegistry) -> None:
    async def judged(subject: str, request: Request, version: str | None, *, verbose: bool) -> Response:
        schema = (await _body(request, SchemaBody)).parsed()
        state = await registry.refresh()
        earlier = queries.compared_with(state, subject, version)
        faults = decisions.faults_of(state.level_of(subject), schema, earlier)
        return answer({"is_compatible": not faults, **({"messages": faults} if verbose else {})})

    @router.post("/compatibility/subjects/{subject}/versions")
    async def compatible(subject: str, request: Request, verbose: Flag = False) -> Response:
        return await judged(subject, request, None, verbose=verbose)

    @router.post("/compatibility/subjects/{subject}/versions/{version}")
    async def compatible_with(subject: str, version: str, request: Request, verbose: Flag = False) -> Response:
        return await judged(subject, request, version, verbose=verbose)


def _add_levels(router: APIRouter, registry: SchemaRegistry) -> None:
    @router.get("/config")
    async def level() -> Response:
        return answer({"compatibilityLevel": (await registry.refresh()).level})

    @router.put("/config")
    async def set_level(request: Request) -> Response:
        body = await _body(request, LevelBody)
        wanted = await registry.write(lambda state: decisions.set_level(state, None, body.compatibility))
        return answer({"compatibility": wanted})

    @router.delete("/config")
    async def clear_level() -> Response:
        return answer({"compatibilityLevel": await registry.write(lambda state: decisions.clear_level(state, None))})

    @router.get("/config/{subject}")
    async def level_of(subject: str, is_global_taken: DefaultToGlobal = False) -> Response:
        state = await registry.refresh()
        if subject not in state.levels and not is_global_taken:
            raise refusals.no_compatibility(subject)
        return answer({"compatibilityLevel": state.level_of(subject)})

    @router.put("/config/{subject}")
    async def set_level_of(subject: str, request: Request) -> Response:
        body = await _body(request, LevelBody)
        wanted = await registry.write(lambda state: decisions.set_level(state, subject, body.compatibility))
        return answer({"compatibility": wanted})

    @router.delete("/config/{subject}")
    async def clear_level_of(subject: str) -> Response:
        return answer({"compatibilityLevel": await registry.write(lambda state: decisions.clear_level(state, subject))})


def _add_modes(router: APIRouter, registry: SchemaRegistry) -> None:
    @router.get("/mode")
    async def mode() -> Response:
        return answer({"mode": (await registry.refresh()).mode})

    @router.put("/mode")
    async def set_mode(request: Request, force: Flag = False) -> Response:
        body = await _body(request, ModeBody)
        return answer(
            {"mode": await registry.write(lambda state: decisions.set_mode(state, None, body.mode, force=force))}
        )

    @router.get("/mode/{subject}")
    async def mode_of(subject: str, is_global_taken: DefaultToGlobal = False) -> Response:
        state = await registry.refresh()
        if subject not in state.modes and not is_global_taken:
            raise refusals.no_mode(subject)
        return answer({"mode": state.mode_of(subject)})

    @router.put("/mode/{subject}")
    async def set_mode_of(subject: str, request: Request, force: Flag = False) -> Response:
        body = await _body(request, ModeBody)
        return answer(
            {"mode": await registry.write(lambda state: decisions.set_mode(state, subject, body.mode, force=force))}
        )

    @router.delete("/mode/{subject}")
    async def clear_mode_of(subject: str) -> Response:
        return answer({"mode": await registry.write(lambda state: decisions.clear_mode(state, subject))})


async def _body(request: Request, model: type[BodyT]) -> BodyT:
    """The request's body. Raises a refusal where it is too large or not of this form."""
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > BODY_BYTES_MAX:
            raise refusals.body_too_large(BODY_BYTES_MAX)
    try:
        return model.model_validate_json(bytes(received))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"]) or "body"
        raise refusals.invalid_body(f"{place}: {fault['msg']}, got {str(fault['input'])[:120]!r}") from error
