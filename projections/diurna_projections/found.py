"""What a read found, with the positions of the log it is true at."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from diurna_projections.documents import Document


@dataclass(frozen=True, slots=True)
class Found:
    """JSON that is true at `positions` (comma-joined), and the cursor of the next page where there is one."""

    body: bytes
    positions: str
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Documents that are true at `positions` (comma-joined), and the cursor of the next page where there is one."""

    documents: list[Document] = field(default_factory=list[Document])
    positions: str = ""
    cursor: str | None = None

    @property
    def found(self) -> Found:
        return Found(orjson.dumps(self.documents), self.positions, self.cursor)
