"""The types of workflows there are: what each takes, who works in it, and how its graph is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from diurna_workflows.approvals import Desk
from diurna_workflows.docs_input import ParallelDocsInput
from diurna_workflows.driving import Graph
from diurna_workflows.healing_input import SelfHealingInput
from diurna_workflows.journal import Journal
from diurna_workflows.ports import Bus
from diurna_workflows.pr_input import PrDeploymentInput
from diurna_workflows.state import JsonObject
from diurna_workflows.target_lock import Locks

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver


class Build(Protocol):
    """Makes the graph of one type for one run."""

    def __call__(
        self,
        bus: Bus,
        *,
        journal: Journal | None = None,
        desk: Desk | None = None,
        locks: Locks | None = None,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
    ) -> Graph: ...


def _nothing_more(_: str) -> JsonObject:
    return {}


@dataclass(frozen=True, slots=True)
class Definition:
    """One type of workflow. `read` checks the input and raises `InvalidInput`.

    `said_at_end` is what the final result says beside `status` and `success` where a run ended without one of its own:
    cancelled, or unable to go on.
    """

    workflow_type: str
    agents: tuple[str, ...]
    read: Callable[[object], JsonObject]
    build: Build
    said_at_end: Callable[[str], JsonObject] = field(default=_nothing_more)


def _loaded_when_built(module: str, name: str) -> Build:
    """LangGraph takes a second to load: that is done with the first graph."""

    def build(bus: Bus, **options: Any) -> Graph:
        return cast("Graph", getattr(import_module(module), name)(bus, **options))

    return build


DEFINITIONS: Final[dict[str, Definition]] = {
    one.workflow_type: one
    for one in (
        Definition(
            "pr_deployment",
            ("code-review", "cicd", "infrastructure"),
            lambda given: PrDeploymentInput.read(given).model_dump(mode="json", exclude_none=True),
            _loaded_when_built("diurna_workflows.pr_deployment", "build_pr_deployment"),
            lambda status: {"deployment_status": status},
        ),
        Definition(
            "parallel_docs",
            ("documentation",),
            lambda given: ParallelDocsInput.read(given).model_dump(mode="json", exclude_none=True),
            _loaded_when_built("diurna_workflows.parallel_docs", "build_parallel_docs"),
        ),
        Definition(
            "self_healing",
            ("infrastructure", "cicd", "code-review"),
            lambda given: SelfHealingInput.read(given).model_dump(mode="json", exclude_none=True),
            _loaded_when_built("diurna_workflows.self_healing", "build_self_healing"),
            lambda _: {"is_resolved": False},
        ),
    )
}
"""Every type of workflow that comes with Diurna."""


def load_all() -> None:
    """Loads what the first workflow would otherwise wait for; safe in a thread."""
    for name in ("pr_deployment", "parallel_docs", "self_healing"):
        import_module(f"diurna_workflows.{name}")
