"""The registry of a team in memory: who is there, folded from the log each time somebody asks."""

from __future__ import annotations

from diurna.directory import Candidate
from diurna_schemas import agents, topics
from diurna_schemas.codec import Codec
from diurna_streams.log.memory import MemoryLog


class MemoryDirectory:
    """Reads the whole log of agents: right for tests, where it is short."""

    def __init__(self, log: MemoryLog, codec: Codec) -> None:
        self._log = log
        self._codec = codec

    async def candidates(self, capability: str) -> list[Candidate]:
        """The live agents that have a capability of this name."""
        registered: dict[tuple[str, str], agents.AgentRegistered] = {}
        working: dict[str, tuple[str, str]] = {}
        for event in self._events():
            match event:
                case agents.AgentRegistered():
                    registered[event.agent_id, event.instance_id] = event
                case agents.AgentDeregistered() | agents.AgentWentStale():
                    registered.pop((event.agent_id, event.instance_id), None)
                case agents.AgentStatusChanged(status="offline"):
                    registered.pop((event.agent_id, event.instance_id), None)
                case agents.RequestDispatched():
                    working[event.request.request_id] = (event.agent_id, event.instance_id)
                case (
                    agents.RequestCompleted()
                    | agents.RequestTimedOut()
                    | agents.RequestCancelled()
                    | agents.RequestDeadLettered()
                ):
                    working.pop(event.request_id, None)
                case _:
                    continue
        return _candidates(capability, list(registered.values()), [agent_id for agent_id, _ in working.values()])

    async def close(self) -> None:
        """Nothing to close."""

    def _events(self) -> list[object]:
        return [
            self._codec.decode(record.value)
            for partition in range(topics.PARTITIONS)
            for record in self._log.records(topics.AGENTS.events, partition)
        ]


def _candidates(capability: str, instances: list[agents.AgentRegistered], busy: list[str]) -> list[Candidate]:
    room: dict[str, int] = {}
    for instance in instances:
        if any(one.name == capability or capability in one.tags for one in instance.capabilities):
            room[instance.agent_id] = room.get(instance.agent_id, 0) + instance.concurrency
    return [Candidate(agent_id, busy.count(agent_id), concurrency) for agent_id, concurrency in room.items()]
