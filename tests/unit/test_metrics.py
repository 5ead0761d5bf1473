"""What is counted: series stay few, states are counted when asked for, and the reference names what there is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

import diurna.testing
from diurna_deploy import metrics_catalogue
from diurna_schemas.shapes import AgentRequestEvent, AgentRequestType
from diurna_streams.bounded import Bounded
from diurna_streams.log.port import TopicPartition
from diurna_streams.project.places import Places
from diurna_streams.project.waiting import Waiting
from diurna_streams.standing import Standing
from support.teams import eventually

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
A, B = TopicPartition("agents.events", 0), TopicPartition("agents.events", 1)


def test_more_values_than_there_are_series_are_counted_as_one() -> None:
    counter = Counter("wishes_total", "Wishes.", ["kind", "status"], registry=None)
    wishes = Bounded(counter, ["kind", "status"], closed=["status"], series_max=2)
    for kind in ("a", "b", "c", "d", "a"):
        wishes.labels(kind, "granted").inc()
    wishes.labels("e", "denied").inc()
    (family,) = counter.collect()
    counted = {
        (sample.labels["kind"], sample.labels["status"]): sample.value
        for sample in family.samples
        if sample.name == "wishes_total"
    }
    assert counted == {("a", "granted"): 2, ("b", "granted"): 1, ("other", "granted"): 2, ("other", "denied"): 1}


def test_a_record_waits_since_the_first_look_that_saw_it_on_the_log() -> None:
    waiting = Waiting()
    assert waiting.look(Places({A: 5, B: 0}, {A: 5, B: 0}), 10.0) == {"agents.events": 0.0}
    assert waiting.look(Places({A: 5, B: 0}, {A: 7, B: 0}), 11.0) == {"agents.events": 0.0}
    assert waiting.look(Places({A: 6, B: 0}, {A: 9, B: 1}), 15.0) == {"agents.events": 4.0}
    # what was there at 11 is in the tables now; the rest was first seen at 15
    assert waiting.look(Places({A: 7, B: 0}, {A: 9, B: 1}), 18.0) == {"agents.events": 3.0}
    assert waiting.look(Places({A: 9, B: 1}, {A: 9, B: 1}), 19.0) == {"agents.events": 0.0}


async def test_queues_locks_and_workflows_are_counted_as_they_stand() -> None:
    async with diurna.testing.team() as team:
        standing, registry = Standing(), CollectorRegistry()
        standing.watch(team.clock._conductors[0])
        registry.register(standing)

        def value(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(name, labels)

        agent = team.agent("slow", concurrency=1)

        @agent.on_request(AgentRequestType.GET_STATUS)
        async def work(_: AgentRequestEvent) -> None:
            await asyncio.Event().wait()

        async with agent.running(), team.bus() as bus, team.locks() as locks:
            await eventually(lambda: value("diurna_agent_instances", agent_id="slow", status="active") == 1)
            assert value("diurna_agent_capacity", agent_id="slow") == 1
            asked = AgentRequestEvent(source_agent="me", target_agent="slow", request_type=AgentRequestType.GET_STATUS)
            asking = [
                asyncio.create_task(bus.request_agent(asked.model_copy(update={"request_id": f"request-{number}"})))
                for number in range(3)
            ]
            await eventually(lambda: value("diurna_agent_queue_depth", agent_id="slow") == 2)
            assert value("diurna_agent_in_flight", agent_id="slow") == 1
            team.clock.advance(7)
            assert 7 <= (value("diurna_agent_queue_age_seconds", agent_id="slow") or 0) < 60
            async with locks.acquire("repo:one", "me"):
                waiting = asyncio.create_task(_lock(locks, "repo:one"))
                await eventually(lambda: value("diurna_lock_waiters") == 1)
                assert value("diurna_locks_held") == 1
            await waiting
            await eventually(lambda: value("diurna_locks_held") == 0)
            async with team.workflow_state() as state:
                await state.create_workflow("test", {}, ["me"])
            await eventually(lambda: value("diurna_workflows", status="running") == 1)
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


async def _lock(locks: Any, resource_id: str) -> None:
    async with locks.acquire(resource_id, "another", wait_timeout=10):
        pass


def test_a_process_that_decides_nothing_says_nothing_of_states() -> None:
    assert list(Standing().collect()) == []
    assert {family.name for family in Standing().describe()} >= {"diurna_locks_held", "diurna_agent_queue_depth"}


def test_the_reference_lists_exactly_the_metrics_there_are() -> None:
    table = metrics_catalogue.table(metrics_catalogue.families())
    assert table in REFERENCE.read_text(encoding="utf-8"), f"docs/reference/metrics.md should hold:\n\n{table}"


@pytest.mark.parametrize("family", metrics_catalogue.families(), ids=lambda family: family.name)
def test_a_metric_is_named_as_prometheus_wants_it(family: metrics_catalogue.Family) -> None:
    assert family.words
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert family.kind != "histogram" or family.name.endswith("_seconds")
    assert family.name.startswith(("diurna_", "event_bus_", "agent_request", "resource_lock"))


def test_the_names_that_were_promised_are_there() -> None:
    promised = {
        "event_bus_events_emitted_total": {"event_type", "source_agent"},
        "event_bus_events_delivered_total": {"event_type"},
        "event_bus_subscriber_errors_total": {"event_type"},
        "agent_request_duration_seconds": {"source_agent", "target_agent", "status"},
        "agent_requests_active": set(),
        "resource_lock_acquisitions_total": {"resource_type", "agent_id", "status"},
        "resource_lock_wait_seconds": {"resource_type"},
        "resource_locks_active": set(),
        "resource_lock_contentions_total": {"resource_type"},
    }
    found = {family.name: set(family.labels) for family in metrics_catalogue.families()}
    assert {name: found.get(name) for name in promised} == promised
