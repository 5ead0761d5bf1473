"""Neighbours side by side on the real stack, as docs/how-to/neighbours.md has them written."""

from __future__ import annotations

import asyncio
import json
import runpy
import shlex
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import agents
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from support.documents import blocks
from support.model_server import ModelServer, calls, says
from support.served import served

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]
HOW_TO = "docs/how-to/neighbours.md"
PROGRAMS = {block.notes: block.text for block in blocks(HOW_TO, "python")}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Translator:
    """A service that knows nothing of Diurna."""

    def __init__(self) -> None:
        self.heard: list[Request] = []
        self.app = Starlette(routes=[Route("/translate", self._translate, methods=["POST"])])

    async def _translate(self, request: Request) -> Response:
        self.heard.append(request)
        words = {"hello": "ave"}
        return JSONResponse({"latin": words[(await request.json())["text"]]})


async def test_they_join_the_team_as_the_document_has_them_written(
    diurna: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents.set_tracing_disabled(True)
    model, translator = ModelServer(), Translator()
    model.will(calls("letters", text="pheasant"), says("It has eight letters."))
    async with AsyncExitStack() as stack:
        model_url = await stack.enter_async_context(served(model.app))
        service_url = await stack.enter_async_context(served(translator.app))
        api = await stack.enter_async_context(
            httpx.AsyncClient(base_url=diurna.json("status")["api_url"], timeout=60, trust_env=False)
        )
        monkeypatch.setenv("DIURNA_STATE_DIR", str(diurna.state_dir))
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{model_url}/v1")
        for name, text in PROGRAMS.items():
            (tmp_path / name).write_text(text.replace("http://127.0.0.1:9000", service_url), encoding="utf-8")
            agent = runpy.run_path(str(tmp_path / name))["agent"]
            await stack.enter_async_context(agent.running())

        commands = [shlex.split(line) for block in blocks(HOW_TO, "console") for line in block.text.splitlines()]
        answers = await asyncio.gather(*(asyncio.to_thread(diurna.json, *words[1:]) for words in commands))
        assert {answer["source_agent"]: answer["result"] for answer in answers} == {
            "writer": "It has eight letters.",
            "counter": {"text": "every word counts", "words": 3},
            "translator": {"latin": "ave"},
        }
        request = {
            "source_agent": "tester",
            "target_agent": "any",
            "request_type": "translate",
            "payload": {"text": "hello"},
            "correlation_id": "neighbours",
        }
        answer = await api.post("/agent-request", json=request, headers={"traceparent": TRACEPARENT})
        assert answer.json()["result"] == {"latin": "ave"}, answer.text
        assert translator.heard[-1].headers["traceparent"] == TRACEPARENT
        assert translator.heard[-1].headers["idempotency-key"] == answer.json()["request_id"]
        told = json.dumps((await api.get("/events", params={"type": "task.progress", "order": "desc"})).json())
        assert all(name in told for name in ("writer", "counter"))
