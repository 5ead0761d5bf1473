"""The HTTP API of a team in memory: the real routes that write, and reads over the tables folded from its log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response

from diurna.connection import Connection
from diurna.directory import Candidate
from diurna.gateway import write_router
from diurna.gateway.reads import KnownLock
from diurna.problems import problem_response
from diurna.testing_locks import add_lock_reads, history_of
from diurna.testing_workflows import MemoryWorkflows, workflow_routes
from diurna_projections.advance import understood
from diurna_projections.documents import Document, dead_letter_document, opened, request_document
from diurna_projections.folds import fold
from diurna_projections.memory import MemoryTables
from diurna_projections.moment import parse
from diurna_projections.raw_path import RawPathRoute
from diurna_projections.records import LogRecord
from diurna_projections.rows import Agent, AgentInstance
from diurna_projections.tables import Tables
from diurna_schemas import topics
from diurna_schemas.agents import STALE_AFTER_MS
from diurna_schemas.codec import Codec
from diurna_schemas.envelope import iso
from diurna_schemas.errors import DiurnaError, NotFound
from diurna_schemas.ids import Position
from diurna_streams.log import TopicPartition
from diurna_streams.log.memory import MemoryLog

_LIVE = frozenset({"active", "busy", "idle"})
_TOPICS = (*topics.EVENT_TOPICS, topics.BROADCASTS, topics.HEARTBEATS, *topics.DEAD_LETTER_TOPICS)


class MemoryReads:
    """The tables as the log stands now: folded on each question, so that every read sees every write."""

    def __init__(self, log: MemoryLog, codec: Codec, clock_ms: Callable[[], int]) -> None:
        self._log = log
        self._codec = codec
        self._clock_ms = clock_ms
        self._memory = MemoryTables(codec)
        self._next: dict[TopicPartition, int] = {}
        self.workflows = MemoryWorkflows(lambda: self.tables, codec)

    @property
    def tables(self) -> Tables:
        """All rows, up to date."""
        for topic in _TOPICS:
            for partition in range(topics.TOPICS[topic].partitions):
                place = TopicPartition(topic, partition)
                start = self._next.get(place, 0)
                if records := self._log.after(place, start, 1_000_000):
                    self._memory.apply(records)
                    self._next[place] = start + len(records)
        return self._memory.tables

    def at(self, as_of: str | None) -> tuple[Tables, int]:
        """The tables as they were, and the time that was: now, at a time, or when an event was the last one.

        Raises `InvalidInput` for what is no moment, `NotFound` for the position of no event.
        """
        if as_of is None:
            return self.tables, self._clock_ms()
        moment = parse(as_of)
        events = self.tables.events.records
        if isinstance(moment, Position):
            at_ms = next((record.timestamp_ms for record in events if _place(record) == moment), None)
            if at_ms is None:
                raise NotFound("event", str(moment))
            events = [record for record in events if not _is_behind(record, moment)]
        else:
            at_ms = min(moment.at_ms, self._clock_ms())
        then = Tables()
        for reading in understood(self._codec, [record for record in events if record.timestamp_ms <= at_ms]):
            fold(then, reading)
        return then, at_ms

    def workflows_at(self, as_of: str | None) -> MemoryWorkflows:
        """The reads about workflows as they were. Raises as `at` does."""
        tables, _ = self.at(as_of)
        return MemoryWorkflows(lambda: tables, self._codec)

    async def agent_of_request(self, request_id: str) -> str | None:
        """The agent a request was submitted to."""
        found = self.tables.requests.group(request_id)
        return found[0].agent_id if found else None

    async def workflow_of_approval(self, approval_id: str) -> str | None:
        """The workflow that waits for an approval, or did."""
        known = self.tables.approvals.group(approval_id)
        found = [row for row in known if row.status == "pending"] or known
        return found[0].workflow_id if found else None

    async def checkpoint(self, workflow_id: str, checkpoint_id: str) -> tuple[Document, Document] | None:
        """A workflow, and a checkpoint of it with its state."""
        try:
            found = self.workflows.workflow(workflow_id), self.workflows.checkpoint(workflow_id, checkpoint_id)
        except NotFound:
            return None
        return opened(found[0]), opened(found[1])

    async def driven_type(self, workflow_id: str) -> str | None:
        """The type of a workflow that a graph drives."""
        found = self.tables.workflows.get(workflow_id)
        return None if found is None or self.tables.checkpoint_threads.get(workflow_id) is None else found.workflow_type

    async def ended_workflows(self, before_ms: int, limit: int) -> list[str]:
        """Workflows that were over by a time, those that ended first."""
        return self.workflows.ended(before_ms, limit)

    async def has_agent(self, agent_id: str) -> bool:
        """Whether an agent is registered."""
        return self.tables.agents.get(agent_id) is not None

    async def dead_letter(self, letter_id: str) -> dict[str, Any] | None:
        """A record nobody could understand, as the API shows it."""
        tables = self.tables
        letter = tables.dead_letters.get(letter_id)
        if letter is None:
            return None
        settled = tables.dead_letter_settlements.get(letter_id)
        verdict = {
            "status": "open" if settled is None else settled.verdict,
            "settled_by": None if settled is None else settled.settled_by,
            "settled_at_ms": None if settled is None else settled.at_ms,
            "reason": None if settled is None else settled.reason,
            "answered_at": None if settled is None else settled.answered_at,
        }
        return dead_letter_document({**letter._asdict(), **verdict})

    async def lock(self, lock_id: str) -> KnownLock | None:
        """Which resource a lock is on, and whose it is."""
        found = history_of(self.tables, lock_id)
        return None if found is None else KnownLock(found.resource_id, found.agent_id)

    async def candidates(self, capability: str) -> list[Candidate]:
        """The live agents that have a capability of this name."""
        tables = self.tables
        found: list[Candidate] = []
        for agent in tables.agents:
            known = tables.capabilities.group(agent.agent_id)
            if not any(one.name == capability or capability in orjson.loads(one.tags) for one in known):
                continue
            live = [one for one in tables.agent_instances.group(agent.agent_id) if one.status in _LIVE]
            working = [one for one in tables.requests if one.agent_id == agent.agent_id and one.finished_at_ms is None]
            if live:
                found.append(Candidate(agent.agent_id, len(working), sum(one.concurrency for one in live)))
        return found

    async def close(self) -> None:
        """Nothing to close."""


def build_api(connection: Connection, reads: MemoryReads) -> FastAPI:
    """The API, as an ASGI application."""
    app = FastAPI(title="Diurna in memory")
    app.router.route_class = RawPathRoute

    @app.exception_handler(DiurnaError)
    async def problem(request: Request, error: DiurnaError) -> Response:
        return problem_response(error, request.url.path)

    @app.get("/livez")
    async def livez() -> Response:
        return _json({"status": "alive"})

    @app.get("/agents")
    async def list_agents(status: str | None = None, capability: str | None = None) -> Response:
        tables = reads.tables
        agents = [agent for agent in tables.agents if status in {None, agent.status}]
        if capability is not None:
            agents = [agent for agent in agents if tables.capabilities.get(agent.agent_id, capability) is not None]
        return _json([_agent(tables, agent) for agent in agents])

    @app.get("/agents/{agent_id}")
    async def show_agent(agent_id: str) -> Response:
        tables = reads.tables
        return _json(_agent(tables, _known(tables, agent_id)))

    @app.get("/capabilities/search")
    async def search(q: str = "") -> Response:
        return _json(_matches(reads.tables, q))

    @app.get("/health/{agent_id}")
    async def check_health(agent_id: str) -> Response:
        tables = reads.tables
        return _json(_health(tables, _known(tables, agent_id), connection.clock_ms()))

    @app.get("/requests/{request_id}")
    async def show_request(request_id: str) -> Response:
        found = reads.tables.requests.group(request_id)
        if not found:
            raise NotFound("request", request_id)
        return _json(request_document(found[0]._asdict()))

    add_lock_reads(app, reads.at)
    app.include_router(write_router(connection, reads))
    app.include_router(workflow_routes(reads.workflows_at))
    return app


def _place(record: LogRecord) -> Position:
    return Position(record.topic, record.partition, record.offset)


def _is_behind(record: LogRecord, position: Position) -> bool:
    is_there = (record.topic, record.partition) == (position.topic, position.partition)
    return is_there and record.offset > position.offset


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def _known(tables: Tables, agent_id: str) -> Agent:
    found = tables.agents.get(agent_id)
    if found is None:
        raise NotFound("agent", agent_id)
    return found


def _last_heartbeat_ms(tables: Tables, instance: AgentInstance) -> int:
    beat = tables.heartbeats.get(instance.agent_id, instance.instance_id)
    return instance.registered_at_ms if beat is None else max(beat.last_ms, instance.registered_at_ms)


def _agent(tables: Tables, agent: Agent) -> dict[str, Any]:
    instances = tables.agent_instances.group(agent.agent_id)
    return {
        "agent_id": agent.agent_id,
        "agent_name": agent.agent_name,
        "base_url": agent.base_url,
        "capabilities": orjson.Fragment(agent.capabilities),
        "status": agent.status,
        "metadata": orjson.Fragment(agent.metadata),
        "last_heartbeat": iso(max(_last_heartbeat_ms(tables, one) for one in instances)),
        "created_at": iso(agent.created_at_ms),
        "updated_at": iso(agent.updated_at_ms),
        "instances": [
            {
                "instance_id": one.instance_id,
                "status": one.status,
                "concurrency": one.concurrency,
                "in_flight": 0
                if (beat := tables.heartbeats.get(one.agent_id, one.instance_id)) is None
                else beat.in_flight,
            }
            for one in instances
        ],
    }


def _matches(tables: Tables, query: str) -> list[dict[str, Any]]:
    words = query.lower().split()
    live = {agent.agent_id: agent for agent in tables.agents if agent.status in _LIVE}
    return [
        {
            "agent_id": one.agent_id,
            "agent_name": live[one.agent_id].agent_name,
            "capability": one.name,
            "description": one.description,
            "base_url": live[one.agent_id].base_url,
            "tags": orjson.Fragment(one.tags),
        }
        for one in tables.capabilities
        if one.agent_id in live and all(word in one.words for word in words)
    ]


def _health(tables: Tables, agent: Agent, now_ms: int) -> dict[str, Any]:
    last_ms = max(_last_heartbeat_ms(tables, one) for one in tables.agent_instances.group(agent.agent_id))
    silent_ms = max(0, now_ms - last_ms)
    is_silent = silent_ms > STALE_AFTER_MS
    return {
        "agent_id": agent.agent_id,
        "agent_name": agent.agent_name,
        "status": "stale" if is_silent and agent.status in _LIVE else agent.status,
        "last_heartbeat": iso(last_ms),
        "is_healthy": not is_silent and agent.status in _LIVE,
        "seconds_since_heartbeat": silent_ms / 1000,
    }
