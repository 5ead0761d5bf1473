"""What an agent of the team is given beside its requests: a place to work, perhaps a model, a bus, the registry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diurna import AgentRequestEvent, EventBus, RegistryClient
from diurna_agents.language_model import LanguageModel
from diurna_agents.workspace import Workspace

Work = Callable[..., Awaitable[dict[str, Any]]]
"""`async def work(payload, *, workspace, report)`: one request type."""
DriveWorkflow = Callable[[AgentRequestEvent], Awaitable[dict[str, Any]]]
Handlers = Callable[["Surroundings"], Mapping[str, Work]]
"""What the module of an agent offers as `handlers`."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`drive_workflow` runs a workflow to its end, where this process can."""

    workspace: Workspace
    model: LanguageModel | None = None
    bus: EventBus | None = None
    registry: RegistryClient | None = None
    drive_workflow: DriveWorkflow | None = None
