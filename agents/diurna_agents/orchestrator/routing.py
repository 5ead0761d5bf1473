"""Who should get a request, by capability, health and load, as the registry knows them: `route_request`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import Field

from diurna import AgentRequestEvent, AgentResponseEvent, EventBus, RegistryClient
from diurna_agents.payload import Payload, validated
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.agents import STALE_AFTER_MS
from diurna_schemas.errors import Refused
from diurna_schemas.ids import Name
from diurna_schemas.shapes import AgentInfo, now

_LIVE: Final = frozenset({"active", "busy", "idle"})
_PATIENCE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """An agent that has the capability. `why_not` says what keeps it from being asked."""

    agent_id: str
    status: str
    in_flight: int
    concurrency: int
    load: float
    seconds_since_heartbeat: float | None
    why_not: str | None

    @property
    def rank(self) -> tuple[float, str]:
        """The least loaded first, by name among equals."""
        return self.load, self.agent_id


class RouteRequest(Payload):
    """What `route_request` takes. With `forward`, the request is sent on and its answer comes back too."""

    request_type: Name
    capability: Name | None = None
    payload: dict[str, Any] = Field(default_factory=dict[str, Any])
    exclude_agents: tuple[Name, ...] = Field(default=(), max_length=100, strict=False)
    forward: bool = False
    timeout_seconds: float = Field(default=30, gt=0, le=86_400, allow_inf_nan=False)


def ranked(agents: Iterable[AgentInfo], moment: datetime, *, excluded: Iterable[str] = ()) -> list[Candidate]:
    """Those who can be asked, the best first, and after them those who cannot, with the reason."""
    left_out = frozenset(excluded)
    found = [_candidate(agent, moment, agent.agent_id in left_out) for agent in agents]
    return sorted(found, key=lambda one: (one.why_not is not None, *one.rank))


async def candidates_for(registry: RegistryClient, capability: str, *, excluded: Iterable[str] = ()) -> list[Candidate]:
    """All that the registry knows to have this capability, ranked."""
    return ranked(await registry.list_agents(capability=capability), now(), excluded=excluded)


async def route_request(
    payload: Mapping[str, object],
    *,
    workspace: Workspace,
    report: Report,
    request: AgentRequestEvent,
    registry: RegistryClient,
    bus: EventBus,
) -> dict[str, Any]:
    """Chooses the agent for a request. Raises `Refused` where nobody can take it, with the reason for each.

    Answers `agent_id`, `reason` and the `candidates`; with `forward`, also the `response`, and where an agent turned
    out to be offline, the next one is asked.
    """
    given = validated(RouteRequest, payload)
    capability = given.capability or given.request_type
    excluded = {*given.exclude_agents, request.source_agent}
    candidates = await candidates_for(registry, capability, excluded=excluded)
    able = [one for one in candidates if one.why_not is None]
    if not able:
        known = "; ".join(f"{one.agent_id}: {one.why_not}" for one in candidates) or "nobody has it"
        raise Refused(f"request_type: no agent can take {capability!r}: {known}", code="no_candidate")
    await report("routed", {"agent_id": able[0].agent_id, "candidates": len(candidates)})
    answer: dict[str, Any] = {"capability": capability, "candidates": [asdict(one) for one in candidates]}
    if not given.forward:
        return {**answer, "agent_id": able[0].agent_id, "reason": _reason(able[0], able), "response": None}
    response: AgentResponseEvent | None = None
    chosen = able[0]
    for chosen in able:
        response = await bus.request_agent(
            AgentRequestEvent(
                request_id=f"{request.request_id}.{chosen.agent_id}"[:200],
                source_agent=request.target_agent,
                target_agent=chosen.agent_id,
                request_type=given.request_type,
                payload=given.payload,
                priority=request.priority,
                timeout_seconds=given.timeout_seconds,
                correlation_id=request.correlation_id,
            ),
            timeout=given.timeout_seconds + _PATIENCE_SECONDS,
        )
        if response.metadata.get("code") != "agent_offline":
            break
    shown = None if response is None else response.model_dump(mode="json")
    return {**answer, "agent_id": chosen.agent_id, "reason": _reason(chosen, able), "response": shown}


def _candidate(agent: AgentInfo, moment: datetime, is_excluded: bool) -> Candidate:
    live = [one for one in agent.instances if one.get("status") in _LIVE]
    in_flight = sum(int(one.get("in_flight") or 0) for one in live)
    concurrency = sum(int(one.get("concurrency") or 0) for one in live)
    silent = None if agent.last_heartbeat is None else (moment - agent.last_heartbeat).total_seconds()
    if is_excluded:
        why_not = "excluded"
    elif agent.status not in _LIVE or not live:
        why_not = f"its status is {agent.status}"
    elif silent is not None and silent * 1000 > STALE_AFTER_MS:
        why_not = f"not heard from for {silent:.0f} s"
    elif not concurrency:
        why_not = "it is listed and takes no requests from the log"
    else:
        why_not = None
    load = in_flight / concurrency if concurrency else 1.0
    return Candidate(agent.agent_id, agent.status, in_flight, concurrency, round(load, 4), silent, why_not)


def _reason(chosen: Candidate, able: list[Candidate]) -> str:
    busy = f"{chosen.in_flight} of {chosen.concurrency} places taken"
    return f"the only one that can: {busy}" if len(able) == 1 else f"the least loaded of {len(able)}: {busy}"
