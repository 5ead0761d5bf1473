"""What the HTTP API says of itself: which methods are allowed, and how it refuses."""

from __future__ import annotations

from typing import Any, cast

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from diurna_projections.api import install_problems, read_router

QUERIES = cast("Any", object())
"""Nothing is asked of them here."""


@pytest.fixture
def app() -> FastAPI:
    found = FastAPI()
    install_problems(found, besides="/registry")
    return found


async def test_what_is_not_allowed_names_all_that_is(app: FastAPI) -> None:
    for method in ("GET", "POST"):
        router = APIRouter()
        router.add_api_route("/things/{thing_id}", lambda thing_id: thing_id, methods=[method])
        app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        refused = await client.put("/things/1")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")
    assert refused.headers["content-type"] == "application/problem+json"


async def test_the_openapi_says_of_every_refusal_that_it_is_a_problem(app: FastAPI) -> None:
    app.include_router(read_router(QUERIES))
    app.add_api_route("/registry/{subject}", lambda subject: subject)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        documents = [(await client.get("/openapi.json")).json() for _ in range(2)]
    assert documents[0] == documents[1]
    document = documents[0]
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert {"title", "status", "detail", "errors"} <= set(document["components"]["schemas"]["Problem"]["properties"])
    assert set(document["paths"].pop("/registry/{subject}")["get"]["responses"]) == {"200", "422"}, "its own dialect"
    for operations in document["paths"].values():
        for operation in operations.values():
            assert set(operation["responses"]) == {"200", "default"}
            assert operation["responses"]["default"]["content"] == problem
    assert list(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == ["text/plain"]
