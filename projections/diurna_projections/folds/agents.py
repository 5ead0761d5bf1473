"""Events about agents to rows: the instances, the agent as the best of them, what it can do.

An agent that has no instance left has left: its rows are gone, its history is in the events. While it has some, it is
the best of them: active before idle before busy before stale before offline. Name, address and metadata are those of
the instance that registered last.
"""

from __future__ import annotations

from typing import Any, Final, cast

import orjson

from diurna_projections.records import LogRecord
from diurna_projections.rows import Agent, AgentInstance, Capability
from diurna_projections.tables import Folds, Need, Needs, Tables
from diurna_projections.text import indexed, json_of, json_text, plain
from diurna_schemas.agents import AgentDeregistered, AgentRegistered, AgentStatusChanged, AgentWentStale
from diurna_schemas.agents import Capability as CapabilityPart

RANK: Final = {"active": 0, "idle": 1, "busy": 2, "stale": 3, "offline": 4}
"""The smaller, the better."""
_About = AgentRegistered | AgentStatusChanged | AgentWentStale | AgentDeregistered


def _came(tables: Tables, event: AgentRegistered, record: LogRecord) -> None:
    tables.agent_instances.put(_registered(event, record))
    _fold_agent(tables, event.agent_id, event.at_ms, record)


def _changed(tables: Tables, event: AgentStatusChanged, record: LogRecord) -> None:
    _set_status(tables, event, event.status, record)


def _went_stale(tables: Tables, event: AgentWentStale, record: LogRecord) -> None:
    _set_status(tables, event, "stale", record)


def _left(tables: Tables, event: AgentDeregistered, record: LogRecord) -> None:
    tables.agent_instances.remove(event.agent_id, event.instance_id)
    _fold_agent(tables, event.agent_id, event.at_ms, record)


def _needs(event: _About) -> tuple[Need, ...]:
    """An agent is made anew from all its instances and all it can do."""
    return (("agents", event.agent_id), ("agent_instances", event.agent_id), ("capabilities", event.agent_id))


def _registered(event: AgentRegistered, record: LogRecord) -> AgentInstance:
    return AgentInstance(
        agent_id=event.agent_id,
        instance_id=event.instance_id,
        agent_name=plain(event.agent_name),
        base_url=plain(event.base_url),
        capabilities=json_of([_document(capability) for capability in event.capabilities]),
        concurrency=event.concurrency,
        status=event.status,
        metadata=json_text(event.metadata),
        epoch=event.epoch,
        registered_at_ms=event.at_ms,
        updated_at_ms=event.at_ms,
        partition=record.partition,
        record_offset=record.offset,
    )


def _document(capability: CapabilityPart) -> dict[str, Any]:
    return {
        "name": capability.name,
        "description": plain(capability.description),
        "parameters": orjson.loads(json_text(capability.parameters)),
        "cost_estimate": capability.cost_estimate,
        "tags": [plain(tag) for tag in capability.tags],
    }


def _set_status(tables: Tables, event: AgentStatusChanged | AgentWentStale, status: str, record: LogRecord) -> None:
    instance = tables.agent_instances.get(event.agent_id, event.instance_id)
    if instance is not None:
        changed = instance._replace(
            status=status, updated_at_ms=event.at_ms, partition=record.partition, record_offset=record.offset
        )
        tables.agent_instances.put(changed)
    _fold_agent(tables, event.agent_id, event.at_ms, record)


def _fold_agent(tables: Tables, agent_id: str, at_ms: int, record: LogRecord) -> None:
    """The agent anew from its instances."""
    instances = sorted(tables.agent_instances.group(agent_id), key=lambda instance: instance.epoch)
    if not instances:
        tables.agents.remove(agent_id)
        _fold_capabilities(tables, agent_id, [], record)
        return
    newest = instances[-1]
    before = tables.agents.get(agent_id)
    found: dict[str, dict[str, Any]] = {}
    for instance in instances:
        for document in cast("list[dict[str, Any]]", orjson.loads(instance.capabilities)):
            found[document["name"]] = document
    documents = [found[name] for name in sorted(found)]
    tables.agents.put(
        Agent(
            agent_id=agent_id,
            agent_name=newest.agent_name,
            base_url=newest.base_url,
            capabilities=json_of(documents),
            status=min((instance.status for instance in instances), key=lambda status: RANK[status]),
            metadata=newest.metadata,
            instances=len(instances),
            created_at_ms=at_ms if before is None else before.created_at_ms,
            updated_at_ms=at_ms,
            partition=record.partition,
            record_offset=record.offset,
        )
    )
    _fold_capabilities(tables, agent_id, documents, record)


def _fold_capabilities(tables: Tables, agent_id: str, documents: list[dict[str, Any]], record: LogRecord) -> None:
    before = {capability.name: capability for capability in tables.capabilities.group(agent_id)}
    for name in before.keys() - {document["name"] for document in documents}:
        tables.capabilities.remove(agent_id, name)
    for document in documents:
        tags = json_of(document["tags"])
        words = " ".join([document["name"], document["description"], *document["tags"]]).lower()
        row = Capability(
            agent_id, indexed(document["name"]), document["description"], tags, words, record.partition, record.offset
        )
        known = before.get(row.name)
        if known is None or known[2:5] != row[2:5]:
            tables.capabilities.put(row)


FOLDS: Final[Folds] = {
    AgentRegistered: _came,
    AgentStatusChanged: _changed,
    AgentWentStale: _went_stale,
    AgentDeregistered: _left,
}
NEEDS: Final[Needs] = dict.fromkeys(FOLDS, _needs)
