"""What an agent of the team may be given beside a place to work: a model, a bus, the registry, workflows to drive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from diurna import AgentRequestEvent, EventBus, RegistryClient
from diurna_agents.language_model import LanguageModel

Work = Callable[..., Awaitable["dict[str, Any] | Answer"]]
"""`async def work(payload, *, workspace, report)`: one request type.

One that asks for `request`, or for the `seconds` it has, gets these too.
"""
DriveWorkflow = Callable[[AgentRequestEvent, float], Awaitable[dict[str, Any]]]
Handlers = Callable[["Surroundings"], Mapping[str, Work]]
"""What the module of an agent offers as `handlers`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A result that is not the whole success: "partial", or "error" with what there is all the same."""

    status: Literal["partial", "error"]
    result: dict[str, Any]
    error: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`drive_workflow` runs a workflow to its end, where this process can; `describe` is what it adds to its status."""

    model: LanguageModel | None = None
    bus: EventBus | None = None
    registry: RegistryClient | None = None
    drive_workflow: DriveWorkflow | None = None
    describe: Callable[[], Mapping[str, Any]] | None = None
