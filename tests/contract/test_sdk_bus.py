"""What the bus and its agents promise, on the log in memory and on a real broker alike."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from diurna import (
    AgentBroadcastEvent,
    AgentRequestEvent,
    AgentResponseEvent,
    AgentResponseStatus,
    Conflict,
    Event,
    InvalidInput,
    NotFound,
    Rejected,
    TooLarge,
)
from support.teams import AnyTeam, eventually, kafka_team, memory_team


@pytest.fixture(scope="module", params=["memory", pytest.param("kafka", marks=pytest.mark.stack)])
def servers(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("kafka_bootstrap") if request.param == "kafka" else None


@pytest.fixture(scope="module")
async def team(servers: str | None) -> AsyncIterator[AnyTeam]:
    async with memory_team() if servers is None else kafka_team(servers) as found:
        yield found


@pytest.fixture
def name() -> str:
    """An agent id of its own for each test: the log forgets nothing."""
    return f"agent-{uuid.uuid4().hex[:8]}"


def asked(target: str, request_type: str = "work", **fields: Any) -> AgentRequestEvent:
    return AgentRequestEvent(source_agent="tester", target_agent=target, request_type=request_type, **fields)


async def heard(events: list[Any], count: int = 1) -> None:
    await eventually(lambda: len(events) >= count)


async def test_an_agent_answers_a_request(team: AnyTeam, name: str) -> None:
    agent = team.agent(name)

    @agent.on_request("work")
    async def work(request: AgentRequestEvent) -> dict[str, Any]:
        return {"doubled": request.payload["number"] * 2, "from": request.source_agent}

    async with agent.running(), team.bus() as bus:
        response = await bus.request_agent(asked(name, payload={"number": 21}, correlation_id="task-1"))

    assert response.status is AgentResponseStatus.SUCCESS
    assert response.result == {"doubled": 42, "from": "tester"}
    assert response.source_agent == name
    assert response.target_agent == "tester"
    assert response.metadata["instance_id"] == agent.instance_id
    assert response.position is not None
    assert response.position.startswith("agents.events:")


async def test_a_handler_that_is_no_coroutine_runs_in_a_thread(team: AnyTeam, name: str) -> None:
    agent = team.agent(name, concurrency=2)

    @agent.on_request("work")
    def work(request: AgentRequestEvent) -> str:
        time.sleep(0.3)
        return "slept"

    async with agent.running(), team.bus() as bus:
        began = time.monotonic()
        responses = await asyncio.gather(*(bus.request_agent(asked(name)) for _ in range(2)))
        elapsed = time.monotonic() - began

    assert [response.result for response in responses] == ["slept", "slept"]
    assert elapsed < 0.6


async def test_nobody_there_is_rejected_at_once(team: AnyTeam, name: str) -> None:
    async with team.bus() as bus:
        began = time.monotonic()
        response = await bus.request_agent(asked(name, timeout_seconds=300))
        elapsed = time.monotonic() - began

    assert response.status is AgentResponseStatus.REJECTED
    assert response.error is not None
    assert response.error.startswith(f"agent offline: {name}")
    assert elapsed < 5


async def test_what_a_handler_raises_is_an_error_without_its_secrets(team: AnyTeam, name: str) -> None:
    agent = team.agent(name)

    @agent.on_request("work")
    async def work(request: AgentRequestEvent) -> None:
        raise ValueError("no way to postgres://admin:hunter2@db/x with api_key=abc123def")

    async with agent.running(), team.bus() as bus:
        response = await bus.request_agent(asked(name))

    assert response.status is AgentResponseStatus.ERROR
    assert response.error == "ValueError: no way to postgres://***@db/x with api_key=***"


async def test_a_handler_may_reject(team: AnyTeam, name: str) -> None:
    agent = team.agent(name)

    @agent.on_request("work")
    async def work(request: AgentRequestEvent) -> None:
        raise Rejected("not on Fridays")

    async with agent.running(), team.bus() as bus:
        response = await bus.request_agent(asked(name))

    assert (response.status, response.error) == (AgentResponseStatus.REJECTED, "not on Fridays")


async def test_an_unknown_request_type_is_rejected_naming_those_that_are_known(team: AnyTeam, name: str) -> None:
    agent = team.agent(name)

    @agent.on_request("work")
    async def work(request: AgentRequestEvent) -> None:
        return None

    async with agent.running(), team.bus() as bus:
        response = await bus.request_agent(asked(name, "juggle"))

    assert response.status is AgentResponseStatus.REJECTED
    assert response.error == f"{name} does not know the request type 'juggle', only get_status, work"


async def test_every_agent_tells_its_status(team: AnyTeam, name: str) -> None:
    async with team.agent(name, concurrency=3).running(), team.bus() as bus:
        response = await bus.request_agent(asked(name, "get_status"))

    assert response.result["agent_id"] == name
    assert response.result["concurrency"] == 3


async def test_a_result_that_is_too_large_is_an_error(team: AnyTeam, name: str) -> None:
    agent = team.agent(name)

    @agent.on_request("work")
    async def work(request: AgentRequestEvent) -> str:
        return "x" * 300_000

    async with agent.running(), team.bus() as bus:
        response = await bus.request_agent(asked(name))

    assert response.status is AgentResponseStatus.ERROR
    assert response.error is not None
    assert "262144 bytes are allowed" in response.error


async def test_a_long_handler_never_delays_the_next_request(team: AnyTeam, name: str) -> None:
    agent = team.agent(name, concurrency=2)
    is_released = asyncio.Event()

    @agent.on_request("think")
    async def think(request: AgentRequestEvent) -> str:
        await asyncio.wait_for(is_released.wait(), 30)
        return "thought"

    @agent.on_request("work")
    async def work(request: AgentRequestEvent) -> str:
        return "worked"

    async with agent.running(), team.bus() as bus:
        thinking = asyncio.create_task(bus.request_agent(asked(name, "think", timeout_seconds=60)))
        await eventually(lambda: agent.in_flight > 0)
        durations: list[float] = []
        for _ in range(20):
            began = time.monotonic()
            assert (await bus.request_agent(asked(name))).result == "worked"
            durations.append(time.monotonic() - began)
        assert not thinking.done()
        is_released.set()
        assert (await thinking).result == "thought"
    assert sorted(durations)[10] < 0.5


async def test_no_answer_in_time_is_a_timeout_and_the_handler_is_cancelled(team: AnyTeam, name: str) -> None:
    agent = team.agent(name)
    is_cancelled = asyncio.Event()

    @agent.on_request("work")
    async def work(request: AgentRequestEvent) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled.set()
            raise

    async with agent.running(), team.bus() as bus:
        response = await bus.request_agent(asked(name, timeout_seconds=0.3))
        assert response.status is AgentResponseStatus.TIMEOUT
        await asyncio.wait_for(is_cancelled.wait(), 5)


async def test_a_client_that_gave_up_gets_the_same_answer_when_it_asks_again(team: AnyTeam, name: str) -> None:
    agent = team.agent(name)
    is_released = asyncio.Event()
    calls = 0

    @agent.on_request("work")
    async def work(request: AgentRequestEvent) -> int:
        nonlocal calls
        calls += 1
        await is_released.wait()
        return calls

    async with agent.running(), team.bus() as bus:
        request = asked(name, timeout_seconds=60)
        first = await bus.request_agent(request, timeout=0.5)
        assert first.status is AgentResponseStatus.TIMEOUT
        again = asyncio.create_task(bus.request_agent(request))
        is_released.set()
        second = await again
        third = await bus.request_agent(request)

    assert second.result == 1
    assert third == second
    assert calls == 1


async def test_another_client_gets_the_first_answer_to_the_same_request(team: AnyTeam, name: str) -> None:
    agent = team.agent(name)

    @agent.on_request("work")
    async def work(request: AgentRequestEvent) -> str:
        return uuid.uuid4().hex

    other = team.connect()
    async with agent.running(), team.bus() as bus:
        request = asked(name)
        first = await bus.request_agent(request)
        from diurna import EventBus

        second = await EventBus(other).request_agent(request)
    assert second == first


async def test_cancelling_the_caller_cancels_the_request(team: AnyTeam, name: str) -> None:
    agent = team.agent(name)
    is_started, is_cancelled = asyncio.Event(), asyncio.Event()

    @agent.on_request("work")
    async def work(request: AgentRequestEvent) -> None:
        is_started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled.set()
            raise

    async with agent.running(), team.bus() as bus:
        ended: list[Event] = []
        bus.subscribe("request.cancelled", ended.append)
        task = asyncio.create_task(bus.request_agent(asked(name, timeout_seconds=60)))
        await asyncio.wait_for(is_started.wait(), 15)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(is_cancelled.wait(), 15)
        await heard(ended)
    assert ended[0].data["cancelled_by"] == "tester"


async def test_a_request_goes_to_another_instance_when_an_attempt_times_out(team: AnyTeam, name: str) -> None:
    slow, quick = team.agent(name, concurrency=1), team.agent(name, concurrency=1)
    attempts: list[int] = []

    async def work(request: AgentRequestEvent, context: Any) -> str:
        attempts.append(context.attempt)
        if context.attempt == 1:
            await asyncio.Event().wait()
        return context.instance_id

    slow.on_request("work")(work)
    quick.on_request("work")(work)
    async with slow.running(), quick.running(), team.bus() as bus:
        response = await bus.request_agent(asked(name, timeout_seconds=30, attempt_timeout_seconds=0.3))
    assert response.status is AgentResponseStatus.SUCCESS
    assert attempts == [1, 2]


async def test_an_agent_that_leaves_lets_running_work_end(team: AnyTeam, name: str) -> None:
    agent = team.agent(name)
    is_started = asyncio.Event()

    @agent.on_request("work")
    async def work(request: AgentRequestEvent) -> str:
        is_started.set()
        await asyncio.sleep(0.3)
        return "finished"

    async with team.bus() as bus:
        async with agent.running():
            task = asyncio.create_task(bus.request_agent(asked(name)))
            await asyncio.wait_for(is_started.wait(), 15)
        assert (await task).result == "finished"
        assert (await bus.request_agent(asked(name))).status is AgentResponseStatus.REJECTED


async def test_requests_are_shared_out_among_instances(team: AnyTeam, name: str) -> None:
    instances = [team.agent(name, concurrency=2) for _ in range(2)]
    is_full = asyncio.Event()
    running = 0

    async def work(request: AgentRequestEvent, context: Any) -> str:
        nonlocal running
        running += 1
        if running == 4:
            is_full.set()
        await asyncio.wait_for(is_full.wait(), 15)
        return context.instance_id

    for instance in instances:
        instance.on_request("work")(work)
    async with instances[0].running(), instances[1].running(), team.bus() as bus:
        responses = await asyncio.gather(*(bus.request_agent(asked(name)) for _ in range(4)))
    served = [response.result for response in responses]
    assert sorted(served) == sorted(2 * [instance.instance_id for instance in instances])


async def test_subscribers_get_broadcasts_in_order(team: AnyTeam) -> None:
    event_type = f"test.{uuid.uuid4().hex[:8]}"
    events: list[Event] = []

    async def hear(event: Event) -> None:
        events.append(event)

    async with team.bus() as bus:
        bus.subscribe(event_type, hear)
        positions = [
            await bus.emit(event_type, {"number": number}, source="teller", correlation_id="task-9")
            for number in range(50)
        ]
        await heard(events, 50)
        assert [event.data["number"] for event in events] == list(range(50))
        assert [event.position for event in events] == [str(position) for position in positions]
        assert (events[0].source, events[0].correlation_id, events[0].type) == ("teller", "task-9", event_type)
        assert bus.list_subscribers() == {event_type: [hear.__qualname__]}
        assert bus.unsubscribe(event_type, hear)
        assert not bus.unsubscribe(event_type, hear)
        assert bus.list_subscribers() == {}
        assert bus.get_stats()["events_emitted"] == 50
        assert bus.get_stats()["events_delivered"] == 50


async def test_an_error_in_one_subscriber_hurts_no_other(team: AnyTeam) -> None:
    event_type = f"test.{uuid.uuid4().hex[:8]}"
    events: list[Event] = []

    def fail(event: Event) -> None:
        raise RuntimeError("boom")

    async with team.bus() as bus:
        bus.subscribe(event_type, fail)
        bus.subscribe(event_type, events.append)
        await bus.emit(event_type, {"number": 1})
        await bus.emit(event_type, {"number": 2})
        await heard(events, 2)
        assert bus.get_stats()["subscriber_errors"] == 2


async def test_subscribers_hear_decided_events_of_other_processes(team: AnyTeam, name: str) -> None:
    from diurna import EventBus

    events: list[Event] = []
    async with EventBus(team.connect()) as other:
        other.subscribe("agent.registered", events.append)
        await other.ready()
        async with team.agent(name).running():
            await eventually(lambda: any(event.data["agent_id"] == name for event in events))
    event = next(event for event in events if event.data["agent_id"] == name)
    assert event.source == name
    assert event.position.startswith("agents.events:")


async def test_a_broadcast_reaches_the_agents_it_is_meant_for(team: AnyTeam) -> None:
    event_type = f"test.{uuid.uuid4().hex[:8]}"
    meant: list[Event] = []
    other: list[Event] = []
    anybody: list[Event] = []
    async with team.bus(agent_id="one") as one, team.bus(agent_id="two") as two, team.bus() as three:
        for bus, events in ((one, meant), (two, other), (three, anybody)):
            bus.subscribe(event_type, events.append)
            await bus.ready()
        broadcast = AgentBroadcastEvent(
            source_agent="teller", target_agents=["one"], event_type=event_type, payload={"news": 1}
        )
        await three.broadcast_to_agents(broadcast)
        await three.broadcast_to_agents(AgentBroadcastEvent(source_agent="teller", event_type=event_type))
        await heard(meant, 2)
        await heard(anybody, 2)
        await heard(other, 1)
    assert meant[0].data == {"news": 1}
    assert meant[0].id == broadcast.broadcast_id
    assert other[0].data == {}


async def test_a_handler_reports_how_far_it_is(team: AnyTeam, name: str) -> None:
    agent = team.agent(name)

    @agent.on_request("work")
    async def work(request: AgentRequestEvent, context: Any) -> str:
        await context.report("halfway", {"percent": 50})
        return "done"

    async with agent.running(), team.bus() as bus:
        events: list[Event] = []
        bus.subscribe("task.progress", events.append)
        request = asked(name, correlation_id=f"task-{name}")
        await bus.request_agent(request)
        await heard(events)
    event = next(event for event in events if event.correlation_id == f"task-{name}")
    assert event.data == {"request_id": request.request_id, "step": "halfway", "details": {"percent": 50}}


async def test_a_payload_above_256_kib_is_refused_before_anything_is_written(team: AnyTeam, name: str) -> None:
    async with team.bus() as bus:
        with pytest.raises(TooLarge, match=r"payload.*at most 262144 bytes"):
            await bus.request_agent(asked(name, payload={"blob": "x" * 262_145}))
        with pytest.raises(TooLarge, match="data"):
            await bus.emit("test.large", {"blob": "x" * 262_145})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout_seconds", -1),
        ("request_id", "a\nb"),
        ("target_agent", "no such\x00name"),
        ("colour", "red"),
        ("payload", "text"),
        ("priority", "whenever"),
        ("correlation_id", "two words"),
        ("attempts_max", 0),
    ],
)
async def test_bad_input_is_refused_naming_the_field(team: AnyTeam, name: str, field: str, value: object) -> None:
    fields = {"source_agent": "tester", "target_agent": name, "request_type": "work", field: value}
    async with team.bus() as bus:
        with pytest.raises(InvalidInput) as caught:
            await bus.request_agent(fields)
    assert caught.value.field == field
    assert caught.value.value == value


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5"])
async def test_a_timeout_that_is_none_is_refused(team: AnyTeam, name: str, timeout: Any) -> None:
    async with team.bus() as bus:
        with pytest.raises(InvalidInput, match="timeout: "):
            await bus.request_agent(asked(name), timeout=timeout)


async def test_what_is_no_object_and_no_function_is_refused_as_such(team: AnyTeam) -> None:
    nothing: Any = None
    async with team.bus() as bus:
        for wrong in ("text", ["a list"], 5):
            given: Any = wrong
            with pytest.raises(InvalidInput, match=r"data: an object is expected, got "):
                await bus.emit("task.delegated", given)
        with pytest.raises(InvalidInput, match=r"callback: a function is expected, got None"):
            bus.subscribe("task.delegated", nothing)


async def test_an_answer_given_by_hand_counts(team: AnyTeam, name: str) -> None:
    from diurna_schemas.agents import RegisterAgent

    await team.connection.ask(
        RegisterAgent(
            command_id=uuid.uuid4().hex, agent_id=name, instance_id=f"{name}:hand", agent_name=name, concurrency=1
        )
    )
    async with team.bus() as bus:

        async def answer(event: Event) -> None:
            if event.data["agent_id"] == name:
                request = event.data["request"]
                await bus.respond_to_request(
                    AgentResponseEvent(
                        request_id=request["request_id"],
                        source_agent=name,
                        target_agent=request["source_agent"],
                        status=AgentResponseStatus.PARTIAL,
                        result={"half": True},
                    )
                )

        bus.subscribe("request.dispatched", answer)
        response = await bus.request_agent(asked(name))
        assert (response.status, response.result) == (AgentResponseStatus.PARTIAL, {"half": True})
        stranger = AgentResponseEvent(
            request_id="unheard-of", source_agent=name, target_agent="tester", status=AgentResponseStatus.SUCCESS
        )
        with pytest.raises(NotFound):
            await bus.respond_to_request(stranger)


async def test_a_refused_command_raises_what_it_means(team: AnyTeam, name: str) -> None:
    from diurna_schemas.agents import CancelRequest, DeregisterAgent

    with pytest.raises(NotFound):
        await team.connection.ask(DeregisterAgent(command_id=uuid.uuid4().hex, agent_id=name))
    async with team.agent(name).running(), team.bus() as bus:
        response = await bus.request_agent(asked(name, "get_status"))
        with pytest.raises(Conflict, match="is over already"):
            await team.connection.ask(
                CancelRequest(command_id=uuid.uuid4().hex, agent_id=name, request_id=response.request_id)
            )


async def test_the_same_command_again_gives_the_first_answer(team: AnyTeam, name: str) -> None:
    from diurna_schemas.agents import RegisterAgent

    command = RegisterAgent(command_id=uuid.uuid4().hex, agent_id=name, instance_id=f"{name}:1", agent_name=name)
    first = await team.connection.answer(command)
    for _ in range(5):
        await team.connection.ask(command.model_copy(update={"command_id": uuid.uuid4().hex, "status": "idle"}))
    again = await team.connect().answer(command)
    assert (again.event, again.position) == (first.event, first.position)
    assert (first.is_repeated, again.is_repeated) == (False, True)
