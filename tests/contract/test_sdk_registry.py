"""What the registry client promises, over the real writing routes."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import httpx
import pytest

from diurna import AgentCapability, AgentCapabilityQuery, InvalidInput, NotFound, RegistryClient, Unavailable
from diurna.api_client import ApiClient
from diurna.testing import Team, team
from support.teams import eventually


@pytest.fixture(scope="module")
async def memory() -> AsyncIterator[Team]:
    async with team() as found:
        yield found


@pytest.fixture
def name() -> str:
    return f"agent-{uuid.uuid4().hex[:8]}"


async def test_an_agent_registers_and_is_found_by_what_it_can_do(memory: Team, name: str) -> None:
    async with memory.registry(name, agent_name="The Reviewer", base_url="http://reviewer") as registry:
        answer = await registry.register(
            [AgentCapability(name=f"review-{name}", description="Reads diffs", tags=["python"], cost_estimate=0.5)],
            metadata={"team": "blue"},
        )
        assert answer["agent_id"] == name
        info = await registry.get_agent(name)
        assert (info.agent_name, info.base_url, info.status) == ("The Reviewer", "http://reviewer", "active")
        assert info.metadata == {"team": "blue"}
        assert name in [agent.agent_id for agent in await registry.list_agents(status="active")]
        (match,) = await registry.search_capabilities(f"review-{name}")
        assert (match.agent_id, match.tags) == (name, ["python"])
        assert (await registry.check_health(name)).is_healthy

        await registry.update_status("busy")
        assert (await registry.get_agent(name)).status == "busy"
        assert name not in [agent.agent_id for agent in await registry.list_agents(status="active")]

        await registry.deregister()
        with pytest.raises(NotFound):
            await registry.get_agent(name)


async def test_a_query_takes_all_or_any_keyword_and_leaves_agents_out(memory: Team, name: str) -> None:
    both, one = f"{name}-both", f"{name}-one"
    async with memory.registry(both) as first, memory.registry(one) as second:
        await first.register([f"lint-{name}", f"test-{name}"])
        await second.register([f"lint-{name}"])
        keywords = [f"lint-{name}", f"test-{name}"]
        every = await first.search_capabilities(AgentCapabilityQuery(capability_keywords=keywords, required_all=True))
        some = await first.search_capabilities(AgentCapabilityQuery(capability_keywords=keywords))
        others = await first.search_capabilities({"capability_keywords": keywords, "exclude_agents": [both]})
    assert {match.agent_id for match in every} == {both}
    assert {match.agent_id for match in some} == {both, one}
    assert {match.agent_id for match in others} == {one}


async def test_heartbeats_are_sent_by_themselves(memory: Team, name: str) -> None:
    def beats() -> int:
        records = [memory.log.records("agents.heartbeats", partition) for partition in range(6)]
        return sum(1 for found in records for record in found if (record.key or b"").decode() == registry.instance_id)

    async with memory.registry(name, heartbeat_interval=0.05) as registry:
        await registry.register([])
        await registry.start_heartbeat()
        await eventually(lambda: beats() >= 3)
        await registry.stop_heartbeat()


async def test_an_agent_that_is_silent_goes_stale_and_comes_back(name: str) -> None:
    async with team() as own, own.registry(name) as registry:
        await registry.register([])
        await eventually(lambda: bool(own.reads.tables.agents.get(name)))

        def is_stale() -> bool:
            own.clock.advance(0.5)
            return own.reads.tables.agents.get(name).status == "stale"

        await eventually(is_stale)
        assert not (await registry.check_health(name)).is_healthy
        await registry.heartbeat()
        await eventually(lambda: own.reads.tables.agents.get(name).status == "active")


async def test_bad_input_is_refused_before_anything_is_asked(memory: Team, name: str) -> None:
    with pytest.raises(InvalidInput, match="agent_id"):
        RegistryClient("http://nowhere", "no spaces")
    with pytest.raises(InvalidInput, match="heartbeat_interval"):
        RegistryClient("http://nowhere", name, heartbeat_interval=0)
    async with memory.registry(name) as registry:
        with pytest.raises(InvalidInput, match="status"):
            await registry.register([], status="sleepy")
        for wrong in ("review", {"name": "review"}, [5]):
            with pytest.raises(InvalidInput, match="capabilities"):
                await registry.register(wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match=r"capabilities\.0\.name"):
            await registry.register(["two words"])
        with pytest.raises(InvalidInput, match="status"):
            await registry.update_status("sleepy")


async def test_an_api_that_does_not_answer_is_unavailable() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    api = ApiClient("http://team", retry_seconds_max=0.2, transport=httpx.MockTransport(refuse))
    with pytest.raises(Unavailable, match="http://team does not answer"):
        await RegistryClient(None, "somebody", api=api).connect()


async def test_a_server_that_stumbles_is_asked_again_with_the_same_key() -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        return httpx.Response(503) if len(keys) < 3 else httpx.Response(200, json={"position": "agents.events:0:1"})

    api = ApiClient("http://team", retry_seconds_max=5, transport=httpx.MockTransport(answer))
    await RegistryClient(None, "somebody", api=api).register([])
    assert len(keys) == 3
    assert len(set(keys)) == 1
