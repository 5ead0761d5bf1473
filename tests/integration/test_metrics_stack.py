"""The team at work, and its metrics beside it: every process serves them, and each moves as the events say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from diurna import EventBus, ResourceLockError, ResourceLockManager
from diurna.settings import STATE_DIR, ClientSettings
from diurna_deploy.lifecycle import AGENTS

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
TYPE = "metrics.looked"


class Metrics:
    """Every series of every process, summed over them, or of one."""

    def __init__(self, status: dict[str, Any]) -> None:
        self.urls: dict[str, str] = {
            process["name"]: process["metrics_url"]
            for process in status["processes"]
            if process["metrics_url"] is not None
        }
        self._before = self._read()

    def moved(self, name: str, process: str | None = None, **labels: str) -> float:
        """By how much it moved since the first look."""
        return _sum(self._read(), name, process, labels) - _sum(self._before, name, process, labels)

    def value(self, name: str, process: str | None = None, **labels: str) -> float:
        return _sum(self._read(), name, process, labels)

    def _read(self) -> dict[str, list[Any]]:
        return {
            process: [
                sample
                for family in text_string_to_metric_families(httpx.get(url).raise_for_status().text)
                for sample in family.samples
            ]
            for process, url in self.urls.items()
        }


def _sum(read: dict[str, list[Any]], name: str, process: str | None, labels: dict[str, str]) -> float:
    return sum(
        sample.value
        for served_by, samples in read.items()
        for sample in samples
        if process in {None, served_by} and sample.name == name and labels.items() <= sample.labels.items()
    )


def until(condition: Callable[[], object], *, seconds: float = 20) -> None:
    Retrying(retry=retry_if_result(lambda holds: not holds), stop=stop_after_delay(seconds), wait=wait_fixed(0.2))(
        condition
    )


@pytest.fixture(scope="module")
def status(diurna: Any) -> dict[str, Any]:
    found: dict[str, Any] = diurna.json("status")
    return found


@pytest.fixture
def metrics(status: dict[str, Any]) -> Metrics:
    return Metrics(status)


@pytest.fixture
def api(status: dict[str, Any]) -> httpx.Client:
    return httpx.Client(base_url=status["api_url"], timeout=60)


def ends(api: httpx.Client, topic: str) -> int:
    return sum(head["next"] for head in api.get("/projections/heads").json() if head["topic"] == topic)


def test_every_process_of_the_stack_serves_metrics(diurna: Any, metrics: Metrics) -> None:
    assert set(metrics.urls) == {"server", "decider", "projector", "auditor", *AGENTS}
    for process in metrics.urls:
        assert metrics.value("process_resident_memory_bytes", process) > 10_000_000
    targets = {target["labels"]["process"]: target["targets"] for target in diurna.json("status", "--targets")}
    assert targets == {name: [httpx.URL(url).netloc.decode()] for name, url in metrics.urls.items()}


def test_requests_are_counted_where_they_are_asked_decided_and_worked_on(metrics: Metrics, api: httpx.Client) -> None:
    written = ends(api, "agents.events")
    for _ in range(3):
        asked = {"source_agent": "metrics", "target_agent": "cicd", "request_type": "get_status", "payload": {}}
        assert api.post("/agent-request", json=asked).json()["status"] == "success"
    labels = {"source_agent": "metrics", "target_agent": "cicd", "status": "success"}
    assert metrics.moved("agent_request_duration_seconds_count", "server", **labels) == 3
    assert metrics.value("agent_requests_active", "server") == 0
    until(lambda: metrics.moved("diurna_agent_handler_seconds_count", "cicd", request_type="get_status") == 3)
    until(lambda: ends(api, "agents.events") >= written + 9)  # each submitted, dispatched, completed
    assert metrics.moved("diurna_decider_commands_total", "decider", family="agents") >= 6
    until(
        lambda: (
            metrics.moved("diurna_decider_events_total", "decider", family="agents")
            == ends(api, "agents.events") - written
        )
    )
    assert metrics.moved("diurna_decider_batch_seconds_count", "decider", family="agents") >= 1
    assert metrics.moved("diurna_decider_command_age_seconds_count", "decider", family="agents") >= 1
    assert metrics.value("diurna_decider_partitions", "decider", family="agents") == 6
    assert metrics.value("diurna_agent_instances", "decider", agent_id="cicd", status="active") >= 1
    assert metrics.value("diurna_agent_queue_depth", "decider", agent_id="cicd") == 0
    assert metrics.value("diurna_agent_heartbeat_age_seconds", "decider", agent_id="cicd") < 60
    until(lambda: metrics.moved("diurna_projection_records_total", "projector", outcome="accepted") >= 9)
    assert metrics.moved("diurna_projection_freshness_seconds_count", "projector") >= 9
    until(lambda: metrics.value("diurna_projection_lag_records", "projector") == 0)
    until(lambda: metrics.value("diurna_projection_lag_seconds", "projector") == 0)
    until(lambda: metrics.moved("diurna_audit_events_total", "auditor", family="agents") >= 9)
    assert metrics.value("diurna_audit_diverged", "auditor") == metrics.moved("diurna_chain_alarms_total") == 0


def test_locks_are_counted_as_they_are_granted_denied_and_given_back(metrics: Metrics, api: httpx.Client) -> None:
    wish = {"resource_id": "metrics:one", "agent_id": "metrics", "timeout": 60}

    def is_counted() -> bool:
        """Other tests' locks are counted too, and end while this one runs."""
        held = [lock["resource_id"] for lock in api.get("/locks", params={"limit": 1000}).json()]
        is_held = wish["resource_id"] in held
        return is_held is expected and metrics.value("diurna_locks_held", "decider") == len(held)

    granted = api.post("/locks", json=wish).json()
    assert api.post("/locks", json=wish | {"agent_id": "another"}).status_code == 409
    queued = api.post("/locks", json=wish | {"agent_id": "another", "wait_timeout": 60}).json()
    counted = {"resource_type": "metrics"}
    assert metrics.moved("resource_lock_acquisitions_total", agent_id="metrics", status="success", **counted) == 1
    assert metrics.moved("resource_lock_acquisitions_total", agent_id="another", status="denied", **counted) == 1
    assert metrics.moved("resource_lock_contentions_total", **counted) == 2
    expected = True
    until(is_counted)
    until(lambda: metrics.value("diurna_lock_waiters", "decider") >= 1)
    assert metrics.value("diurna_lock_wait_age_seconds", "decider") >= 0
    for lock in (queued, granted):
        owner = {name: lock[name] for name in ("resource_id", "agent_id")}
        api.delete(f"/locks/{lock['lock_id']}", params=owner).raise_for_status()
    expected = False
    until(is_counted)


def test_workflows_are_counted_by_step_and_by_how_they_ended(metrics: Metrics, api: httpx.Client) -> None:
    where = {"repo": "/no/such/repository", "base": "main", "head": "change", "deploy_to": "/no/such/directory"}
    asked = {
        "source_agent": "metrics",
        "target_agent": "orchestrator",
        "request_type": "execute_task",
        "payload": {"workflow_type": "pr_deployment", "input": where},
        "timeout_seconds": 60,
    }
    result = api.post("/agent-request", json=asked).json()["result"]
    assert result["deployment_status"] == "failed"
    steps = {"workflow_type": "pr_deployment", "process": "orchestrator"}
    for step, status in (("plan", "completed"), ("review", "failed"), ("finish", "completed")):
        assert metrics.moved("diurna_workflow_step_seconds_count", step=step, status=status, **steps) == 1
    assert metrics.moved("diurna_workflow_step_seconds_count", step="deploy", **steps) == 0
    assert metrics.moved("diurna_workflow_duration_seconds_count", status="failed", **steps) == 1
    assert metrics.moved("diurna_workflows_active", **steps) == 0
    until(lambda: metrics.moved("diurna_workflows", "decider", status="failed") == 1)


async def test_what_is_told_heard_and_held_is_counted_where_it_happens(
    diurna: Any, metrics: Metrics, api: httpx.Client
) -> None:
    settings = ClientSettings.load({STATE_DIR: str(diurna.state_dir)})

    def own(name: str, **labels: str) -> float:
        return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0

    def fails(_: object) -> None:
        raise RuntimeError("a subscriber that fails")

    heard = asyncio.Event()
    before = own("resource_locks_active")
    async with EventBus(settings=settings) as bus:
        bus.subscribe(TYPE, lambda _: heard.set())
        bus.subscribe(TYPE, fails)
        await bus.ready()
        await bus.emit(TYPE, source="metrics")
        await asyncio.wait_for(heard.wait(), 20)
        assert own("event_bus_events_emitted_total", event_type=TYPE, source_agent="metrics") == 1
        async with asyncio.timeout(20):
            while own("event_bus_subscriber_errors_total", event_type=TYPE) < 1:  # noqa: ASYNC110 - a counter
                await asyncio.sleep(0.02)
        assert own("event_bus_events_delivered_total", event_type=TYPE) == 1
    told = await asyncio.to_thread(api.post, "/events", json={"event_type": TYPE, "source": "elsewhere"})
    assert told.status_code == 201
    assert metrics.moved("event_bus_events_emitted_total", "server", event_type=TYPE, source_agent="elsewhere") == 1
    async with ResourceLockManager(settings=settings) as locks:
        async with locks.acquire("counted:one", "metrics"):
            assert own("resource_locks_active") == before + 1
            with pytest.raises(ResourceLockError):
                async with locks.acquire("counted:one", "another"):
                    pass
        counted = {"resource_type": "counted"}
        assert own("resource_lock_acquisitions_total", agent_id="metrics", status="success", **counted) == 1
        assert own("resource_lock_acquisitions_total", agent_id="another", status="denied", **counted) == 1
        assert own("resource_lock_contentions_total", **counted) == 1
        assert own("resource_lock_wait_seconds_count", **counted) == 1
    assert own("resource_locks_active") == before
