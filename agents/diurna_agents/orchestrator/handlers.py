"""The request types the orchestrator answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from diurna import AgentRequestEvent
from diurna_agents.orchestrator.aggregation import aggregate_results
from diurna_agents.orchestrator.decomposition import decompose_task
from diurna_agents.orchestrator.execution import execute_plan
from diurna_agents.orchestrator.registry_answers import get_status, query_capability
from diurna_agents.orchestrator.routing import route_request
from diurna_agents.surroundings import Answer, Surroundings, Work
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import InvalidInput, Refused


def handlers(surroundings: Surroundings) -> Mapping[str, Work]:
    """The work, by request type. What asks the registry is there where there is one."""
    found: dict[str, Work] = {
        "aggregate_results": aggregate_results,
        "decompose_task": partial(decompose_task, registry=surroundings.registry, model=surroundings.model),
        "execute_task": partial(execute_task, surroundings=surroundings),
    }
    if surroundings.registry is not None:
        found["query_capability"] = partial(query_capability, registry=surroundings.registry)
        found["get_status"] = partial(get_status, registry=surroundings.registry, describe=surroundings.describe)
        if surroundings.bus is not None:
            found["route_request"] = partial(route_request, registry=surroundings.registry, bus=surroundings.bus)
    return found


async def execute_task(
    payload: Mapping[str, object],
    *,
    workspace: Workspace,
    report: Report,
    request: AgentRequestEvent,
    seconds: float,
    surroundings: Surroundings,
) -> dict[str, Any] | Answer:
    """Drives a workflow where the payload names a `workflow_type`, else does a task by its subtasks."""
    if "workflow_type" in payload:
        if surroundings.drive_workflow is None:
            raise InvalidInput("workflow_type", payload["workflow_type"], "this orchestrator drives no workflows")
        return await surroundings.drive_workflow(request, seconds)
    if surroundings.bus is None or surroundings.registry is None:
        raise Refused("this orchestrator has no registry to find agents in: set DIURNA_API_URL", code="no_registry")
    return await execute_plan(
        payload,
        workspace=workspace,
        report=report,
        request=request,
        bus=surroundings.bus,
        registry=surroundings.registry,
        model=surroundings.model,
    )
