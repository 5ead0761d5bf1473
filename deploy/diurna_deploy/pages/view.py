"""What a page is made from: its address, its query, and its reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from diurna_deploy.pages.asking import Answer, Reading

Document = dict[str, Any]
Shown = tuple[str, Document]
"""The name of a template, and what stands in it."""


@dataclass(frozen=True, slots=True)
class View:
    """One request for a page."""

    request: Request
    reading: Reading

    @property
    def is_past(self) -> bool:
        return self.reading.as_of is not None

    def part(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def asked(self, *names: str) -> dict[str, str | None]:
        """Parts of the query; what was left empty was not asked for."""
        return {name: self.request.query_params.get(name) or None for name in names}

    async def read(self, path: str, **parameters: str | int | bool | None) -> Any:
        """The document a route answers at the moment the page is about. Raises `Refusal`."""
        return (await self.answer(path, **parameters)).document

    async def answer(self, path: str, **parameters: str | int | bool | None) -> Answer:
        """As `read`, with the positions and the next page."""
        return await self.reading.read(path, **parameters)
