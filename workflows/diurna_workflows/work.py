"""Which piece of work a graph is at: named by what it follows from, so that doing it again has the same name."""

from __future__ import annotations

from collections.abc import Callable

Scope = Callable[[], str]
"""Names the piece of work that is being done."""


def no_scope() -> str:
    """Of a graph without checkpoints: every node is run once, and its name says enough."""
    return ""


def task_scope() -> str:
    """Of a graph with checkpoints: the task that runs, which LangGraph names by its checkpoint, its step and its node.

    A task that is run again from the same checkpoint has the same name, the next visit of the same node another one.
    Outside of a graph there is none.
    """
    from langgraph.config import get_config  # loaded with the first graph

    try:
        metadata = get_config().get("metadata") or {}
    except RuntimeError:
        return ""
    return str(metadata.get("langgraph_checkpoint_ns") or "")
