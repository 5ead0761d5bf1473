"""A plain HTTP service in the team: a real service on a loopback port, asked through the log."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from diurna import AgentRequestEvent, AgentResponseEvent, EventBus, InvalidInput
from diurna.neighbours import from_http
from diurna.testing import Team, team
from support.served import served

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Service:
    """Something that was there before: it greets, it says what it is told to say, it hangs."""

    def __init__(self) -> None:
        self.heard: list[Request] = []
        self.will_say: Response = JSONResponse({})
        self.hung_up = asyncio.Event()
        routes = [
            Route("/greet", self.greet, methods=["POST", "PUT"]),
            Route("/say", self.say, methods=["POST"]),
            Route("/hang", self.hang, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def greet(self, request: Request) -> Response:
        self.heard.append(request)
        return JSONResponse({"greeting": f"Hello, {(await request.json())['name']}!"})

    async def say(self, request: Request) -> Response:
        return self.will_say

    async def hang(self, request: Request) -> Response:
        await request.body()
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.hung_up.set()
        return Response()


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[tuple[Service, str]]:
    made = Service()
    async with served(made.app) as url:
        yield made, url


@pytest.fixture(scope="module")
async def memory() -> AsyncIterator[Team]:
    async with team() as found:
        yield found


@asynccontextmanager
async def neighbour(memory: Team, handler: Any) -> AsyncIterator[tuple[EventBus, str]]:
    name = f"neighbour-{uuid.uuid4().hex[:8]}"
    agent = memory.agent(name)
    agent.on_request("work")(handler)
    async with agent.running(), memory.bus() as bus:
        yield bus, name


async def ask(memory: Team, handler: Any, payload: dict[str, Any] | None = None, **more: Any) -> AgentResponseEvent:
    traceparent = more.pop("traceparent", None)
    async with neighbour(memory, handler) as (bus, name):
        request = AgentRequestEvent(
            source_agent="tester", target_agent=name, request_type="work", payload=payload or {}, **more
        )
        return await bus.request_agent(request, traceparent=traceparent)


async def test_the_payload_goes_there_and_the_answer_comes_back(memory: Team, service: tuple[Service, str]) -> None:
    there, url = service
    answer = await ask(memory, from_http(f"{url}/greet"), {"name": "Ada"}, request_id="greeting-1", timeout_seconds=20)
    assert (answer.status, answer.result, answer.error) == ("success", {"greeting": "Hello, Ada!"}, None)
    assert answer.metadata["http_status"] == 200
    headers = there.heard[-1].headers
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == "greeting-1"
    assert headers["prefer"] in {"wait=19", "wait=20"}
    assert "traceparent" not in headers


@pytest.mark.parametrize(
    ("given", "passed_on"), [(TRACEPARENT, TRACEPARENT), ("not one", None), (f"{TRACEPARENT}\tmore", None)]
)
async def test_the_trace_goes_on_behind_it(
    memory: Team, service: tuple[Service, str], given: str, passed_on: str | None
) -> None:
    there, url = service
    await ask(memory, from_http(f"{url}/greet"), {"name": "Ada"}, traceparent=given)
    assert there.heard[-1].headers.get("traceparent") == passed_on


async def test_both_sides_can_be_given_another_shape(memory: Team, service: tuple[Service, str]) -> None:
    there, url = service

    class Person(BaseModel):
        first_name: str

    async with httpx.AsyncClient(headers={"X-Client": "own"}) as client:
        handler = from_http(
            f"{url}/greet",
            method="PUT",
            headers={"Authorization": "Bearer of-bad-news", "content-type": "application/vnd.greet+json"},
            to_input=lambda request: {"name": Person.model_validate(request.payload).first_name},
            to_result=lambda found: found["greeting"],
            client=client,
        )
        answer = await ask(memory, handler, {"first_name": "Ada"})
        assert answer.result == "Hello, Ada!"
        heard = there.heard[-1]
        assert (heard.method, heard.headers["x-client"]) == ("PUT", "own")
        assert heard.headers["authorization"] == "Bearer of-bad-news"
        assert heard.headers["content-type"] == "application/vnd.greet+json"
        wrong = await ask(memory, handler, {"first_name": 7})
        assert (wrong.status, wrong.error) == ("rejected", "first_name: input should be a valid string, got 7")
    missing = await ask(memory, from_http(f"{url}/greet", to_input=lambda request: request.payload["name"]), {"n": 1})
    assert (missing.status, missing.error) == ("rejected", "name: the payload needs this field, and has n")


@pytest.mark.parametrize(
    ("said", "status", "error", "code"),
    [
        (
            JSONResponse({"title": "No", "detail": "name: too long", "code": "too_long"}, 422),
            "rejected",
            "HTTP 422 Unprocessable Entity: name: too long",
            "too_long",
        ),
        (PlainTextResponse("what is that?", 400), "rejected", "HTTP 400 Bad Request: what is that?", None),
        (JSONResponse({"detail": [{"loc": ["a"]}]}, 404), "rejected", 'HTTP 404 Not Found: [{"loc":["a"]}]', None),
        (JSONResponse({"reason": "x"}, 409), "rejected", 'HTTP 409 Conflict: {"reason":"x"}', None),
        (JSONResponse({"message": "who?"}, 401), "error", "HTTP 401 Unauthorized: who?", None),
        (Response(status_code=429), "error", "HTTP 429 Too Many Requests: without a word", None),
        (JSONResponse({"error": "disk"}, 503), "error", "HTTP 503 Service Unavailable: disk", None),
        (
            PlainTextResponse("password=correct-horse", 500),
            "error",
            "HTTP 500 Internal Server Error: password=***",
            None,
        ),
        (RedirectResponse("http://else.example/"), "error", "HTTP 307 Temporary Redirect: it sends us on to", None),
        (JSONResponse({"job": 7}, 202), "error", "HTTP 202 Accepted: it took the request, and did not say", None),
        (
            HTMLResponse("<p>Hi</p>"),
            "error",
            "BadAnswer: HTTP 200 with what is no JSON (text/html; charset=utf-8)",
            None,
        ),
        (JSONResponse("x" * 300_000), "error", "TooLarge: response: at most 262144 bytes are allowed", None),
        (PlainTextResponse("y" * 5_000, 500), "error", "HTTP 500 Internal Server Error: " + "y" * 1_000, None),
    ],
    ids=lambda value: str(value.status_code) if isinstance(value, Response) else None,
)
async def test_every_status_is_told_as_what_it_is(
    memory: Team, service: tuple[Service, str], said: Response, status: str, error: str, code: str | None
) -> None:
    there, url = service
    there.will_say = said
    answer = await ask(memory, from_http(f"{url}/say"))
    assert (answer.status, answer.result, answer.metadata.get("code")) == (status, None, code)
    assert answer.error is not None
    assert answer.error.startswith(error)
    assert len(answer.error) < 1_100


async def test_an_answer_without_content_is_a_success_without_result(
    memory: Team, service: tuple[Service, str]
) -> None:
    there, url = service
    there.will_say = Response(status_code=204)
    answer = await ask(memory, from_http(f"{url}/say"))
    assert (answer.status, answer.result) == ("success", None)


async def test_the_environments_proxy_is_used_but_not_to_this_machine(
    memory: Team, service: tuple[Service, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there, url = service
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", url)
    answer = await ask(memory, from_http("http://service.example/greet"), {"name": "Ada"})
    assert answer.result == {"greeting": "Hello, Ada!"}
    assert there.heard[-1].headers["host"] == "service.example"
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
    for here in (url, url.replace("127.0.0.1", "localhost")):
        assert (await ask(memory, from_http(f"{here}/greet"), {"name": "Ada"})).status == "success"
    assert (await ask(memory, from_http("http://service.example/greet"), {"name": "Ada"})).status == "error"


async def test_an_answer_without_an_end_is_ended(memory: Team) -> None:
    sent = 0

    async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        try:
            while True:
                writer.write(b" " * 65_536)
                await writer.drain()
                sent += 65_536
        except ConnectionError:
            writer.close()

    async with await asyncio.start_server(pours, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        answer = await ask(memory, from_http(f"http://127.0.0.1:{port}/"))
    assert (answer.status, str(answer.error)[:19]) == ("error", "TooLarge: response:")
    assert sent < 100_000_000


async def test_a_service_that_is_not_there_is_an_error_without_its_secrets(memory: Team) -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    answer = await ask(memory, from_http(f"http://ada:lovelace@127.0.0.1:{port}/x?key=babbage"))
    assert answer.status == "error"
    assert str(answer.error).startswith(f"Unavailable: http://127.0.0.1:{port}/x: ConnectError: ")
    assert not any(word in str(answer.error) for word in ("lovelace", "babbage"))


async def test_a_service_that_hangs_is_left_when_the_time_is_over(memory: Team, service: tuple[Service, str]) -> None:
    there, url = service
    answer = await ask(memory, from_http(f"{url}/hang"), timeout_seconds=0.3, attempts_max=1)
    assert answer.status == "timeout"
    async with asyncio.timeout(10):
        await there.hung_up.wait()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:9000/greet", "url: a whole address is needed, such as http://127.0.0.1:9000/translate, got "),
        ("/greet", "url: a whole address is needed"),
        ("", "url: a whole address is needed"),
        ("ftp://files.example/", "url: a whole address is needed"),
        ("http://", "url: a whole address is needed"),
        ("http://[::1", "url: no address ("),
        (7, "url: no address ("),
    ],
)
def test_what_is_no_address_is_refused(url: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_http(url)
    assert str(refused.value).startswith(said)


def test_a_method_without_a_body_is_refused() -> None:
    with pytest.raises(InvalidInput, match="method: POST, PUT, PATCH are known, got 'GET'"):
        from_http("http://127.0.0.1/", method="GET")
