"""What the ready-made workflows are made of: questions to agents, and what is known when they are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Known = dict[str, Any]
Enough = Literal["all", "any"]
ITEMS_MAX: Final = 100
"""So many are asked for at once where there is one for each of many."""


@dataclass(frozen=True, slots=True)
class AgentTask:
    """One question to an agent: whom, for what, and the payload made from what is known by then."""

    name: str
    agent_id: str
    request_type: str
    payload: Callable[[Known], Mapping[str, Any]]
    timeout_seconds: float = 300.0
