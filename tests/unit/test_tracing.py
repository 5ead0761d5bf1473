"""Spans from the caller to the handler and back, over the log; nothing of them where nobody asked for any."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import diurna.testing
from diurna.settings import wants_traces
from diurna.traced_http import Traced
from diurna_deploy import logs
from diurna_schemas.envelope import header
from diurna_schemas.shapes import AgentRequestEvent, AgentRequestType
from diurna_schemas.topics import TOPICS
from diurna_streams import tracing
from diurna_workflows.manager import WorkflowManager
from support.teams import eventually
from support.workflow_fakes import INPUT, BelievingLog, ScriptedBus

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Spans:
    """What was told, by name."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        found = self.named(name)
        assert len(found) == 1, [span.name for span in self.all()]
        return found[0]


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    assert child.parent is not None
    assert parent.context is not None
    return (child.parent.trace_id, child.parent.span_id) == (parent.context.trace_id, parent.context.span_id)


@pytest.fixture
def spans() -> Iterator[Spans]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    try:
        yield Spans(exporter)
    finally:
        tracing.use(None)


def asked(name: str, target: str = "worker") -> AgentRequestEvent:
    return AgentRequestEvent(
        request_id=name, source_agent="me", target_agent=target, request_type=AgentRequestType.GET_STATUS,
        correlation_id=f"work-{name}",
    )  # fmt: skip


async def test_a_request_is_one_trace_from_the_caller_to_the_handler_and_back(spans: Spans) -> None:
    async with diurna.testing.team() as team:
        agent = team.agent("worker")

        @agent.on_request(AgentRequestType.GET_STATUS)
        def work(_: AgentRequestEvent) -> str | None:
            return tracing.traceparent()  # in a thread

        async with agent.running(), team.bus() as bus:
            response = await bus.request_agent(asked("one"))
            await eventually(lambda: len(spans.named("decide agents")) >= 3)
    request, handler = spans.one("request get_status"), spans.one("handle get_status")
    assert request.parent is None
    assert is_child(handler, request)
    assert request.attributes is not None
    assert request.attributes["diurna.correlation_id"] == "work-one"
    assert request.attributes["diurna.status"] == "success"
    assert handler.attributes is not None
    assert handler.attributes["diurna.correlation_id"] == "work-one"
    assert handler.context is not None
    assert str(response.result).startswith(f"00-{handler.context.trace_id:032x}-{handler.context.span_id:016x}-")
    decided = {str((span.attributes or {})["diurna.command"]): span for span in spans.named("decide agents")}
    assert is_child(decided["request.submit"], request)
    assert is_child(decided["request.complete"], handler)


async def test_a_request_that_waited_stays_in_its_own_trace(spans: Spans) -> None:
    """It is dispatched by the answer to another one: that is somebody else's work."""
    may_answer = asyncio.Event()
    async with diurna.testing.team() as team:
        agent = team.agent("worker", concurrency=1)

        @agent.on_request(AgentRequestType.GET_STATUS)
        async def work(_: AgentRequestEvent) -> None:
            await may_answer.wait()

        async with agent.running(), team.bus() as bus:
            asking = [asyncio.create_task(bus.request_agent(asked(name))) for name in ("one", "two")]
            await eventually(lambda: len(team.events()) >= 4)  # registered, two submitted, one dispatched
            may_answer.set()
            await asyncio.gather(*asking)
    traces = {}
    for kind in ("request", "handle"):
        for span in spans.named(f"{kind} get_status"):
            assert span.context is not None
            traces[kind, str((span.attributes or {})["diurna.request_id"])] = span.context.trace_id
    assert traces["request", "one"] == traces["handle", "one"]
    assert traces["request", "two"] == traces["handle", "two"]
    assert traces["request", "one"] != traces["request", "two"]


async def test_the_api_goes_on_with_the_trace_of_its_caller(spans: Spans) -> None:
    async with diurna.testing.team() as team, team.agent("worker").running():
        transport = httpx.ASGITransport(Traced(team.app))
        async with httpx.AsyncClient(transport=transport, base_url="http://team") as client:
            body = asked("one").model_dump(mode="json")
            answer = await client.post("/agent-request", json=body, headers={"traceparent": CALLER})
            assert answer.json()["status"] == "success"
            lock = {"resource_id": "repo:one", "agent_id": "me", "timeout": 60}
            assert (await client.post("/locks", json=lock)).status_code == 200
            await client.get("/health")
    server = spans.one("POST /agent-request")
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == "b7ad6b7169203331"
    assert (server.attributes or {})["http.response.status_code"] == 200
    assert is_child(spans.one("request get_status"), server)
    assert is_child(spans.one("command lock.acquire"), spans.one("POST /locks"))
    assert spans.named("GET /health") == []


async def test_the_nodes_of_a_graph_are_spans_of_their_workflow(spans: Spans) -> None:
    bus = ScriptedBus()
    manager = WorkflowManager(bus, BelievingLog(bus))
    result = await manager.run("pr_deployment", "workflow-1", {**INPUT, "policy": "auto"})
    assert result["deployment_status"] == "deployed"
    workflow = spans.one("workflow pr_deployment")
    for node in ("plan", "review", "test", "approval", "deploy", "finish"):
        span = spans.one(f"step {node}")
        assert is_child(span, workflow)
        assert (span.attributes or {})["diurna.correlation_id"] == "workflow-1"
    assert (workflow.attributes or {})["diurna.status"] == "completed"


async def test_a_failed_command_is_the_error_of_its_span(spans: Spans) -> None:
    with pytest.raises(ValueError, match="no"), tracing.span("step one"):
        raise ValueError("no")
    assert spans.one("step one").status.status_code.name == "ERROR"


async def test_where_nobody_asked_no_record_carries_a_place() -> None:
    assert not tracing.is_on()
    assert tracing.traceparent() is None
    assert tracing.span("one") is tracing.span("two")  # nothing is made, not even an object
    async with diurna.testing.team() as team, team.agent("worker").running(), team.bus() as bus:
        response = await bus.request_agent(asked("one"))
        assert response.status == "success"
        records = [
            record
            for topic in ("agents.commands", "agents.events")
            for partition in range(TOPICS[topic].partitions)
            for record in team.log.records(topic, partition)
        ]
        assert len(records) >= 5
        assert [record for record in records if header(record.headers, "traceparent") is not None] == []


def test_where_nobody_asked_nothing_of_opentelemetry_is_loaded() -> None:
    code = (
        "import sys; from diurna_deploy import worker, roles; import diurna.workers, diurna_streams.decide;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_ask_for_spans(environment: dict[str, str], wanted: bool) -> None:
    assert wants_traces(environment) == wanted


_PROGRAM = """
import asyncio, diurna.testing
from diurna_schemas.shapes import AgentRequestEvent
from diurna_streams import tracing
tracing.start("diurna-team")
async def main():
    async with diurna.testing.team() as team, team.agent("worker").running(), team.bus() as bus:
        request = dict(source_agent="me", target_agent="worker", request_type="get_status", correlation_id="work-1")
        assert (await bus.request_agent(request)).status == "success"
asyncio.run(main())
tracing.stop()
"""


def test_spans_arrive_at_a_collector_over_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[ExportTraceServiceRequest] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            zipped = self.headers.get("Content-Encoding") == "gzip"
            received.append(ExportTraceServiceRequest.FromString(gzip.decompress(body) if zipped else body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    finally:
        server.shutdown()
        server.server_close()
    resources = [resource for request in received for resource in request.resource_spans]
    names = {span.name for one in resources for scope in one.scope_spans for span in scope.spans}
    assert {"request get_status", "handle get_status", "decide agents"} <= names
    services = {attribute.key: attribute.value.string_value for attribute in resources[0].resource.attributes}
    assert (services["service.name"], services["service.namespace"]) == ("diurna-team", "diurna")


def test_a_line_of_the_log_names_the_work_and_the_span_it_belongs_to(spans: Spans) -> None:
    before, stream = structlog.get_config(), io.StringIO()
    try:
        logs.configure(process="tests", stream=stream)
        with structlog.contextvars.bound_contextvars(correlation_id="work-1"), tracing.span("one"):
            structlog.get_logger("tests").warning("seen")
        structlog.get_logger("tests").warning("outside")
    finally:
        structlog.configure(**before)
        structlog.contextvars.clear_contextvars()
    seen, outside = map(json.loads, stream.getvalue().splitlines())
    context = spans.one("one").context
    assert context is not None
    assert seen["correlation_id"] == "work-1"
    assert (seen["trace_id"], seen["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert not {"correlation_id", "trace_id"} & outside.keys()
