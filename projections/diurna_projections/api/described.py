"""What the OpenAPI says of errors: that each of them is a problem, as each of them is."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from diurna_schemas.problems import PROBLEM_TYPE
from diurna_schemas.shapes import Problem

_FASTAPI_SAYS: Final = "422"
"""Of every route that takes something: that it answers its own validation errors, as plain JSON."""
_PROBLEM: Final[dict[str, Any]] = {
    "description": "A problem (RFC 9457): what was wrong, and with which value.",
    "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def describe_problems(app: FastAPI, *, besides: str | None = None) -> None:
    """Makes the app's OpenAPI tell what it answers where it refuses. Paths under `besides` speak another dialect."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        is_new = app.openapi_schema is None
        document = make()
        if is_new:
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = Problem.model_json_schema()
            for path, operations in document["paths"].items():
                if besides is None or not path.startswith(f"{besides}/"):
                    for operation in operations.values():
                        operation["responses"].pop(_FASTAPI_SAYS, None)
                        operation["responses"]["default"] = _PROBLEM
        return document

    app.openapi = openapi  # type: ignore[method-assign]
