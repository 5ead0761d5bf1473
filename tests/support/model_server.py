"""A model behind OpenAI's HTTP interface, on this machine: it says what a test wrote, and keeps what it was told.

It speaks the Responses API, which openai-agents uses by default, so that its real client is at work.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Said = dict[str, Any]
HANGS: Said = {"type": "hangs"}


def says(text: str) -> Said:
    return {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }


def refuses(text: str) -> Said:
    return {**says(""), "content": [{"type": "refusal", "refusal": text}]}


def calls(tool: str, **arguments: Any) -> Said:
    return {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "status": "completed",
        "name": tool,
        "arguments": json.dumps(arguments),
    }


def fails(status: int, message: str) -> Said:
    return {"type": "fails", "status": status, "message": message}


class ModelServer:
    """`script` is what it says, in turn; the last of it again and again."""

    def __init__(self) -> None:
        self.script: list[Said] = []
        self.told: list[dict[str, Any]] = []
        self.left_alone = asyncio.Event()
        self.app = Starlette(routes=[Route("/v1/responses", self._respond, methods=["POST"])])

    def will(self, *script: Said) -> None:
        self.script, self.told = list(script), []
        self.left_alone.clear()

    async def _respond(self, request: Request) -> Response:
        body = await request.json()
        self.told.append(body)
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if said["type"] == "fails":
            return JSONResponse({"error": {"message": said["message"], "type": "x", "code": "x"}}, said["status"])
        if said is HANGS:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            self.left_alone.set()
        return JSONResponse(_response(body, [said]))


def _response(body: dict[str, Any], output: Iterable[Said]) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": int(time.time()),
        "model": body.get("model", "local"),
        "status": "completed",
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": body.get("tools", []),
        "usage": {
            "input_tokens": 7,
            "output_tokens": 3,
            "total_tokens": 10,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }
