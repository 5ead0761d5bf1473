"""Graphs of agents at work, on LangGraph."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diurna_workflows.checkpointer import KafkaCheckpointSaver
    from diurna_workflows.definitions import Definition
    from diurna_workflows.manager import WorkflowManager
    from diurna_workflows.parallel_docs import build_parallel_docs
    from diurna_workflows.pattern_tasks import AgentTask
    from diurna_workflows.patterns import map_reduce, parallel, sequential
    from diurna_workflows.pr_deployment import build_pr_deployment
    from diurna_workflows.running import managing
    from diurna_workflows.self_healing import build_self_healing
    from diurna_workflows.state import MultiAgentState

__all__ = [
    "AgentTask",
    "Definition",
    "KafkaCheckpointSaver",
    "MultiAgentState",
    "WorkflowManager",
    "build_parallel_docs",
    "build_pr_deployment",
    "build_self_healing",
    "managing",
    "map_reduce",
    "parallel",
    "sequential",
]

_HOMES = {
    "AgentTask": "diurna_workflows.pattern_tasks",
    "Definition": "diurna_workflows.definitions",
    "KafkaCheckpointSaver": "diurna_workflows.checkpointer",
    "MultiAgentState": "diurna_workflows.state",
    "WorkflowManager": "diurna_workflows.manager",
    "build_parallel_docs": "diurna_workflows.parallel_docs",
    "build_pr_deployment": "diurna_workflows.pr_deployment",
    "build_self_healing": "diurna_workflows.self_healing",
    "managing": "diurna_workflows.running",
    "map_reduce": "diurna_workflows.patterns",
    "parallel": "diurna_workflows.patterns",
    "sequential": "diurna_workflows.patterns",
}


def __getattr__(name: str) -> object:
    """Loads LangGraph when a graph is wanted, not when the package is named."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
