"""Routes that match the path as it was sent: an id may hold `/`, and `%2F` is not a `/`.

Starlette matches the decoded path, where the id `a/history` cannot be told from the history of `a`.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope


def raw_path_of(scope: Scope) -> str:
    """The path as it was sent, percent-encoded."""
    raw: bytes | None = scope.get("raw_path")
    return quote(scope["path"]) if raw is None else raw.partition(b"?")[0].decode("latin-1")


class RawPathRoute(APIRoute):
    """Matches the raw path where an id in it holds a slash, and decodes each parameter by itself."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        raw = raw_path_of(scope)
        if "%2f" not in raw and "%2F" not in raw:
            return super().matches(scope)
        match, found = super().matches({**scope, "path": raw})
        if "path_params" in found:
            found["path_params"] = {
                name: unquote(value, errors="replace") if isinstance(value, str) else value
                for name, value in found["path_params"].items()
            }
        return match, found
