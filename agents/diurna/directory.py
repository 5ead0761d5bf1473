"""Who could take a request that names a capability instead of an agent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Candidate:
    """An agent that has the capability, how much it works on, and how much it takes at once."""

    agent_id: str
    in_flight: int
    concurrency: int

    @property
    def load(self) -> float:
        """From 0, idle, to 1, full; an agent that announced no room is the last choice."""
        return self.in_flight / self.concurrency if self.concurrency else float("inf")


class Directory(Protocol):
    """The registry, as far as choosing an agent needs it."""

    async def candidates(self, capability: str) -> list[Candidate]:
        """The live agents that have a capability of this name. Raises `Unavailable` where nobody can say."""
        ...

    async def close(self) -> None: ...


def chosen(candidates: Iterable[Candidate], *, excluded: str | None = None) -> str | None:
    """The least loaded, never the one who asks; the first by name among equals."""
    ranked = sorted((one.load, one.agent_id) for one in candidates if one.agent_id != excluded)
    return ranked[0][1] if ranked else None
