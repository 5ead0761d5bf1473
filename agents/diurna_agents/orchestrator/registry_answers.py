"""What the registry knows, as answers: `query_capability` and `get_status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from diurna import AgentCapabilityQuery, RegistryClient
from diurna.documents import validated as validated_shape
from diurna_agents.payload import Payload, validated
from diurna_agents.workspace import Report, Workspace
from diurna_schemas.errors import InvalidInput
from diurna_schemas.ids import Name
from diurna_schemas.shapes import AgentInfo, CapabilityMatch

_NAME, _PART_OF_NAME, _TAG, _DESCRIPTION = 1.0, 0.9, 0.8, 0.6
_MATCHES_MAX: Final = 500


class StatusRequest(Payload):
    """What `get_status` takes: one agent, or without one the whole team."""

    agent_id: Name | None = None


async def query_capability(
    payload: Mapping[str, object], *, workspace: Workspace, report: Report, registry: RegistryClient
) -> dict[str, Any]:
    """Who can do this? The payload is an AgentCapabilityQuery.

    Answers `matches`, the surest first, each with its `confidence`: 1 where a keyword is the capability's name, 0.9
    where the name holds it, 0.8 for a tag, 0.6 for a word of its description; with `required_all` the lowest of all.
    """
    query = validated_shape(AgentCapabilityQuery, payload)
    if not 0 <= query.min_confidence <= 1:
        raise InvalidInput("min_confidence", query.min_confidence, "a number from 0 to 1 is needed")
    found = await registry.search_capabilities(query)
    matches = [{**match.model_dump(mode="json"), "confidence": confidence(match, query)} for match in found]
    kept = [match for match in matches if match["confidence"] >= query.min_confidence]
    kept.sort(key=lambda match: (-match["confidence"], match["agent_id"], match["capability"]))
    return {"matches": kept[:_MATCHES_MAX], "total": len(kept), "agents": sorted({match["agent_id"] for match in kept})}


def confidence(match: CapabilityMatch, query: AgentCapabilityQuery) -> float:
    """How surely a capability is what the keywords mean."""
    scores = [_score(match, keyword) for keyword in query.capability_keywords]
    return min(scores) if query.required_all else max(scores)


async def get_status(
    payload: Mapping[str, object],
    *,
    workspace: Workspace,
    report: Report,
    registry: RegistryClient,
    describe: Callable[[], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """How an agent is, or the whole team: status, instances, load, when it was heard from. Raises `NotFound`."""
    request = validated(StatusRequest, payload)
    if request.agent_id is not None:
        info = await registry.get_agent(request.agent_id)
        health = await registry.check_health(request.agent_id)
        seconds = health.seconds_since_heartbeat
        return {**_agent(info), "is_healthy": health.is_healthy, "seconds_since_heartbeat": seconds}
    team = await registry.list_agents()
    by_status = Counter(str(agent.status) for agent in team)
    own = {} if describe is None else dict(describe())
    return {
        **own,
        "agent_id": registry.agent_id,
        "agents": [_agent(agent) for agent in team],
        "by_status": dict(by_status),
    }


def _agent(agent: AgentInfo) -> dict[str, Any]:
    shown = agent.model_dump(mode="json")
    return {
        "agent_id": agent.agent_id,
        "agent_name": agent.agent_name,
        "status": shown["status"],
        "last_heartbeat": shown["last_heartbeat"],
        "capabilities": [capability.name for capability in agent.capabilities],
        "in_flight": sum(int(one.get("in_flight") or 0) for one in agent.instances),
        "concurrency": sum(int(one.get("concurrency") or 0) for one in agent.instances),
        "instances": agent.instances[:100],
    }


def _score(match: CapabilityMatch, keyword: str) -> float:
    wanted = _plain(keyword)
    name = _plain(match.capability)
    if wanted == name:
        return _NAME
    if wanted in name:
        return _PART_OF_NAME
    if wanted in {_plain(tag) for tag in match.tags}:
        return _TAG
    words = f"{name} {_plain(match.description)} {' '.join(map(_plain, match.tags))}"
    return _DESCRIPTION if all(word in words for word in wanted.split()) else 0.0


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("_", " ").replace("-", " ").split())
