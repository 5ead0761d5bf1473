"""Routes that match the path as it was sent: an id may hold `/`, and `%2F` is not a `/`.

Starlette matches the decoded path, where the workflow `a/cancel` cannot be told from what cancels the workflow `a`.
"""

from __future__ import annotations

from urllib.parse import unquote

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope


def raw_path_of(scope: Scope) -> str:
    """The path as it was sent, still escaped; the path itself where a router has put another in its place."""
    raw: bytes = scope.get("raw_path") or b""
    text, path = raw.decode("latin-1"), str(scope["path"])
    return text if "%" in text and unquote(text) == path else path


class RawPathRoute(APIRoute):
    """Matches the path as it was sent, and decodes each of its parameters by itself."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = raw_path_of(scope)
        if path == scope["path"]:
            return super().matches(scope)
        match, found = super().matches({**scope, "path": path})
        if "path_params" in found:
            found["path_params"] = {
                name: unquote(value) if isinstance(value, str) else value
                for name, value in found["path_params"].items()
            }
        return match, found
