"""The nodes of a graph as they are seen from outside: timed and counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import structlog

from diurna_streams import tracing
from diurna_workflows.metrics import STEP_SECONDS, WORKFLOW_SECONDS, WORKFLOWS_ACTIVE
from diurna_workflows.state import MultiAgentState

Node = TypeVar("Node", bound=Callable[..., Awaitable[dict[str, Any]]])


def observed(node: Node) -> Node:
    """A node, method or function, whose runs are counted under its own name. The state comes last."""
    return observed_as(getattr(node, "__name__", "step"))(node)


def observed_as(step: str) -> Callable[[Node], Node]:
    """A node whose runs are counted under the name of a step."""

    def observing(node: Node) -> Node:
        return _observed(node, step)

    return observing


def _observed(node: Node, step: str) -> Node:

    @wraps(node)
    async def run(*given: Any, **named: Any) -> dict[str, Any]:
        state: MultiAgentState = given[-1]
        began, status = time.perf_counter(), "error"
        try:
            with tracing.span(f"step {step}", attributes=_attributes(state)) as span:
                update = await node(*given, **named)
                status = _status_of(step, update)
                if span is not None:
                    span.set_attribute("diurna.status", status)
            return update
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        except Exception as error:
            if isinstance(error, _interrupt()):
                status = "waiting"
            raise
        finally:
            STEP_SECONDS.labels(state["workflow_type"], step, status).observe(time.perf_counter() - began)

    return cast("Node", run)


class Run:
    """One run of a workflow. Who knows how it ended says so; what nobody says was stopped half-way."""

    status = "stopped"

    def ended(self, final: Mapping[str, Any]) -> None:
        """Takes its end from the final result."""
        status = final.get("status")
        self.status = str(status) if status in {"failed", "cancelled"} else "completed"


@contextmanager
def counted_run(workflow_type: str, workflow_id: str) -> Generator[Run]:
    """Counts a run for as long as the block lasts, in a span, and with its id in what is logged meanwhile."""
    run, began = Run(), time.perf_counter()
    WORKFLOWS_ACTIVE.labels(workflow_type).inc()
    attributes = {"diurna.correlation_id": workflow_id, "diurna.workflow_type": workflow_type}
    try:
        with (
            structlog.contextvars.bound_contextvars(workflow_id=workflow_id, correlation_id=workflow_id),
            tracing.span(f"workflow {workflow_type}", attributes=attributes) as span,
        ):
            yield run
            if span is not None:
                span.set_attribute("diurna.status", run.status)
    finally:
        WORKFLOWS_ACTIVE.labels(workflow_type).dec()
        WORKFLOW_SECONDS.labels(workflow_type, run.status).observe(time.perf_counter() - began)


def _interrupt() -> type[Exception]:
    """What LangGraph ends a node with that waits for an answer; it is loaded where a node runs."""
    from langgraph.errors import GraphInterrupt

    return GraphInterrupt


def _attributes(state: MultiAgentState) -> dict[str, str]:
    return {"diurna.correlation_id": state["task_id"], "diurna.workflow_type": state["workflow_type"]}


def _status_of(step: str, update: Mapping[str, Any]) -> str:
    found = update.get("subtask_status")
    status = cast("Mapping[str, object]", found).get(step) if isinstance(found, Mapping) else None
    return "failed" if status == "failed" else "completed"
