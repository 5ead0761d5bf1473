"""The registry of agents over HTTP: for agents that live elsewhere, and for whoever wants to know who is there."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Self, cast

import structlog

from diurna.api_client import ApiClient, path_of
from diurna.documents import given_list, given_object, validated
from diurna.settings import api_url
from diurna_schemas.errors import DiurnaError, InvalidInput
from diurna_schemas.ids import checked_name
from diurna_schemas.shapes import (
    AgentCapability,
    AgentCapabilityQuery,
    AgentHealth,
    AgentInfo,
    AgentRegistration,
    CapabilityMatch,
)

_log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS_MAX: Final = 30.0
_PAGE: Final = 1_000
Capabilities = Iterable[AgentCapability | Mapping[str, Any] | str]


class RegistryClient:
    """One agent's view of the registry. Reads see what this client has written before.

    An agent registered here is listed and found; it takes requests from the log only through `Agent`. Without
    `registry_url` the environment's API is used. `heartbeat_interval` is in seconds, at most 30: an agent nobody has
    heard from for 60 seconds is stale.
    """

    def __init__(
        self,
        registry_url: str | None = None,
        agent_id: str = "unknown",
        agent_name: str | None = None,
        base_url: str = "",
        heartbeat_interval: float = 30.0,
        *,
        api: ApiClient | None = None,
    ) -> None:
        if not 0 < heartbeat_interval <= HEARTBEAT_SECONDS_MAX:
            raise InvalidInput("heartbeat_interval", heartbeat_interval, "more than 0 and at most 30 seconds")
        self.agent_id = checked_name("agent_id", agent_id)
        self.agent_name = agent_name or agent_id
        self.base_url = base_url
        self.instance_id = f"{agent_id}:{uuid.uuid4().hex[:12]}"
        self._registry_url = registry_url
        self._heartbeat_seconds = heartbeat_interval
        self._api = api
        self._heartbeats: asyncio.Task[None] | None = None
        self._status = "active"
        self._written: str | None = None

    async def connect(self) -> Self:
        """Checks that the API answers. Raises `Unavailable` where it does not."""
        await self._client().read("/livez")
        return self

    async def close(self) -> None:
        """Stops the heartbeats and closes the connections. The agent stays registered; `deregister` takes it out."""
        await self.stop_heartbeat()
        api, self._api = self._api, None
        if api is not None:
            self._registry_url = api.url
            await api.close()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def register(
        self, capabilities: Capabilities, metadata: Mapping[str, Any] | None = None, status: str = "active"
    ) -> dict[str, Any]:
        """Makes the agent known; returns `agent_id`, `instance_id` and `position`. Again: what is new counts."""
        registration = validated(
            AgentRegistration,
            {
                "agent_id": self.agent_id,
                "agent_name": self.agent_name,
                "base_url": self.base_url,
                "capabilities": [_capability(one) for one in given_list("capabilities", capabilities)],
                "metadata": given_object("metadata", metadata),
                "status": status,
                "instance_id": self.instance_id,
            },
        )
        self._status = status
        return await self._write("POST", "/register", registration.model_dump(mode="json"))

    async def deregister(self, reason: str = "") -> dict[str, Any]:
        """Takes this instance out of the registry."""
        await self.stop_heartbeat()
        path = path_of("agents", self.agent_id)
        return await self._write("DELETE", path, {"instance_id": self.instance_id, "reason": reason})

    async def heartbeat(self) -> dict[str, Any]:
        """Shows that the agent lives."""
        path = path_of("agents", self.agent_id, "heartbeat")
        # Not remembered for reading one's own writes: nobody reads a list to see a heartbeat.
        return await self._client().write("POST", path, {"instance_id": self.instance_id, "status": self._status})

    async def start_heartbeat(self) -> None:
        """Shows it every `heartbeat_interval` seconds, in the background."""
        if self._heartbeats is None or self._heartbeats.done():
            await self.heartbeat()
            self._heartbeats = asyncio.create_task(self._beat(), name="diurna-registry-heartbeats")

    async def stop_heartbeat(self) -> None:
        """Shows it no longer."""
        task, self._heartbeats = self._heartbeats, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def update_status(self, status: str, reason: str = "") -> dict[str, Any]:
        """Says how the agent is: active, busy, idle or offline."""
        path = path_of("agents", self.agent_id, "status")
        body = {"status": status, "instance_id": self.instance_id, "reason": reason}
        answer = await self._write("PATCH", path, body)
        self._status = status
        return answer

    async def search_capabilities(self, query: str | AgentCapabilityQuery | Mapping[str, Any]) -> list[CapabilityMatch]:
        """Who can do this? A text, or a query with several keywords of which all or any must fit."""
        if isinstance(query, str):
            return await self._search(query)
        asked = validated(AgentCapabilityQuery, query)
        by_keyword = [await self._search(keyword) for keyword in asked.capability_keywords]
        agents = [{match.agent_id for match in matches} for matches in by_keyword]
        wanted: set[str] = agents[0].intersection(*agents) if asked.required_all else agents[0].union(*agents)
        wanted -= set(asked.exclude_agents)
        found: dict[tuple[str, str], CapabilityMatch] = {}
        for match in (match for matches in by_keyword for match in matches):
            if match.agent_id in wanted:
                found.setdefault((match.agent_id, match.capability), match)
        return list(found.values())

    async def get_agent(self, agent_id: str) -> AgentInfo:
        """What the registry knows of an agent. Raises `NotFound`."""
        found = await self._read(path_of("agents", checked_name("agent_id", agent_id)))
        return validated(AgentInfo, _object(found))

    async def list_agents(self, status: str | None = None, *, capability: str | None = None) -> list[AgentInfo]:
        """All agents, or those in a status or with a capability."""
        found = await self._read_pages("/agents", status=status, capability=capability)
        return [validated(AgentInfo, _object(agent)) for agent in found]

    async def check_health(self, agent_id: str) -> AgentHealth:
        """Whether an agent was heard from lately. Raises `NotFound`."""
        found = await self._read(path_of("health", checked_name("agent_id", agent_id)))
        return validated(AgentHealth, _object(found))

    async def _search(self, text: str) -> list[CapabilityMatch]:
        found = await self._read_pages("/capabilities/search", q=text)
        return [validated(CapabilityMatch, _object(match)) for match in found]

    async def _read(self, path: str, **parameters: str | int | None) -> Any:
        return await self._client().read(path, {**parameters, "min_position": self._written})

    async def _read_pages(self, path: str, **parameters: str | None) -> list[Any]:
        asked = {**parameters, "limit": _PAGE, "min_position": self._written}
        return await self._client().read_pages(path, asked)

    async def _write(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._client().write(method, path, body)
        # An agent's events share a partition, so the latest position stands for all of them.
        self._written = answer.get("position") or self._written
        return answer

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            try:
                await self.heartbeat()
            except DiurnaError as error:
                _log.warning("a heartbeat was not written", agent_id=self.agent_id, error=str(error))

    def _client(self) -> ApiClient:
        if self._api is None:
            self._api = ApiClient(self._registry_url or api_url())
        return self._api


def _object(found: object) -> dict[str, Any]:
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _capability(given: AgentCapability | Mapping[str, Any] | str) -> dict[str, Any]:
    match given:
        case str():
            return {"name": given}
        case AgentCapability():
            return given.model_dump()
        case _:
            return given_object("capabilities", given)
