"""Spans across processes, in OpenTelemetry's terms: off until somebody wants them, and then one look at a variable.

A span's place travels in the header `traceparent` of commands and events (W3C Trace Context), and in the metadata of
requests, which reach a handler however long they wait and whoever's answer makes room for them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, Tracer, TracerProvider

Kind = Literal["internal", "client", "server", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool]

TRACEPARENT: Final = "traceparent"
CURRENT: Final = "current"
"""As a parent: the span this runs in."""

_PLACE: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-.{0,200})?")
_NAME: Final = "diurna"
_NOTHING: Final[AbstractContextManager[None]] = nullcontext()
_tracer: Tracer | None = None
_provider: Any = None


def is_on() -> bool:
    """Whether spans are made."""
    return _tracer is not None


def start(service: str) -> None:
    """Exports spans from now on, where the standard variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, …) say.

    A provider the program has set already is used as it is. `service` is the name where `OTEL_SERVICE_NAME` sets none.
    """
    global _provider
    if is_on():
        return
    from opentelemetry import trace

    found = trace.get_tracer_provider()
    if type(found) is not trace.ProxyTracerProvider:
        use(found)
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.namespace": _NAME})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: service}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    _provider = provider
    use(provider)


def use(provider: TracerProvider | None) -> None:
    """Makes spans by this provider from now on; None ends it."""
    global _tracer
    _tracer = None if provider is None else provider.get_tracer(_NAME)


def stop() -> None:
    """Sends what was not sent yet. For processes about to end."""
    global _provider
    provider, _provider = _provider, None
    use(None)
    if provider is not None:
        provider.shutdown()


def understood(given: str | None) -> str | None:
    """A `traceparent` that somebody gave, where it is one: what is none counts as missing, as the standard has it.

    It travels in the header of every event its command leads to, so it must not be of any length.
    """
    return given if given is not None and _PLACE.fullmatch(given) else None


def span(
    name: str, *, kind: Kind = "internal", parent: str | None = CURRENT, attributes: Attributes | None = None
) -> AbstractContextManager[Span | None]:
    """A span for as long as the block lasts, in which others begin. An error that leaves the block is its error.

    `parent` is a `traceparent`; None begins a trace of its own.
    """
    return _NOTHING if _tracer is None else _span(_tracer, name, kind, parent, attributes)


def traceparent() -> str | None:
    """Where this runs, for whoever goes on with it; None where no span is made."""
    if _tracer is None:
        return None
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def carried(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata of a request, with the place it was asked at; as it is where no span is made."""
    found = traceparent()
    return metadata if found is None else {**metadata, TRACEPARENT: found}


def now_ns() -> int:
    """The time a span may be said to have begun; 0 where none is made."""
    return 0 if _tracer is None else time.time_ns()


def tell(name: str, kind: Kind, began_ns: int, steps: Iterable[tuple[str, Attributes]]) -> None:
    """Spans that ended just now, one for each `traceparent`: work that is done for many at once."""
    if _tracer is None:
        return
    ended_ns = time.time_ns()
    for parent, attributes in steps:
        made = _tracer.start_span(
            name, context=_context(parent), kind=_kind(kind), attributes=attributes, start_time=began_ns or ended_ns
        )
        made.end(ended_ns)


@contextmanager
def _span(tracer: Tracer, name: str, kind: Kind, parent: str | None, attributes: Attributes | None) -> Generator[Span]:
    with tracer.start_as_current_span(
        name, context=_context(parent), kind=_kind(kind), attributes=dict(attributes or {})
    ) as made:
        yield made


def _kind(kind: Kind) -> SpanKind:
    from opentelemetry.trace import SpanKind

    return SpanKind[kind.upper()]


def _context(parent: str | None) -> Context | None:
    """None is the context this runs in; what is no `traceparent` begins a trace, as the standard has it."""
    if parent == CURRENT:
        return None
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if parent is None:
        return Context()
    return TraceContextTextMapPropagator().extract({TRACEPARENT: parent}, Context())
