"""HEAD is answered as the GET it is about, without its body."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse

from diurna_deploy.head_requests import HeadAsGet


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = FastAPI()
    app.add_middleware(HeadAsGet)

    @app.get("/agents/{agent_id}")
    async def show(agent_id: str) -> Response:
        return Response(agent_id * 3, headers={"ETag": '"7"'}, status_code=200 if agent_id != "nobody" else 404)

    @app.get("/events/stream")
    async def stream() -> StreamingResponse:
        raise AssertionError("nobody asked for the stream")

    @app.post("/agents")
    async def write() -> None:
        raise AssertionError("nobody wrote")

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")


@pytest.mark.parametrize("agent_id", ["a", "nobody"])
async def test_a_head_has_the_status_and_headers_of_the_get_and_no_body(
    client: httpx.AsyncClient, agent_id: str
) -> None:
    told, asked = await client.get(f"/agents/{agent_id}"), await client.head(f"/agents/{agent_id}")
    assert told.content != b""
    assert asked.content == b""
    assert (asked.status_code, asked.headers) == (told.status_code, told.headers)
    assert asked.headers["content-length"] == str(len(told.content))


@pytest.mark.parametrize("path", ["/agents", "/events/stream"])
async def test_what_has_no_end_or_only_writes_is_not_allowed(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.head(path)).status_code == 405
