"""A small real HTTP server that answers as told and remembers what it was asked, for tests of the command line."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass
class ScriptedApi:
    """`answers` maps `METHOD /path`, or with its query, to a body, a (status, body), or a function of the body."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    url: str = ""

    def answer(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        parts = urlsplit(target)
        route = f"{method} {unquote(parts.path)}"
        self.asked.append((route, dict(parse_qsl(parts.query)), body))
        unknown = (404, {"title": "Not Found", "detail": f"no route {route}", "status": 404})
        found = self.answers.get(f"{route}?{parts.query}", self.answers.get(route, unknown))
        if isinstance(found, Callable):
            found = found(body)
        return found if isinstance(found, tuple) else (200, found)


@contextmanager
def scripted_api(answers: dict[str, Any]) -> Iterator[ScriptedApi]:
    """Serves while the block lasts."""
    api = ScriptedApi(answers)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            status, content = api.answer(self.command, self.path, body)
            is_stream = isinstance(content, str)
            data = content.encode() if is_stream else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "text/event-stream" if is_stream else "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = handle_any

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
