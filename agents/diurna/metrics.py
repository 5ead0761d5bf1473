"""What the bus, the agents and the locks count, under the names that dashboards know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from diurna_streams.bounded import Bounded

_WAITS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_WORK: Final = (0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 1800)


def _counter(name: str, words: str, labels: Sequence[str], *, closed: Sequence[str] = ()) -> Bounded[Counter]:
    return Bounded(Counter(name, words, labels), labels, closed=closed)


def _histogram(
    name: str, words: str, labels: Sequence[str], buckets: Sequence[float], *, closed: Sequence[str] = ()
) -> Bounded[Histogram]:
    # Eighteen series each: fewer combinations than of a counter.
    return Bounded(Histogram(name, words, labels, buckets=buckets), labels, closed=closed, series_max=200)


EVENTS_EMITTED: Final = _counter(
    "event_bus_events_emitted_total", "Events written to the log", ["event_type", "source_agent"]
)
EVENTS_DELIVERED: Final = _counter("event_bus_events_delivered_total", "Events given to subscribers", ["event_type"])
SUBSCRIBER_ERRORS: Final = _counter(
    "event_bus_subscriber_errors_total", "Errors that subscribers raised", ["event_type"]
)
REQUEST_SECONDS: Final = _histogram(
    "agent_request_duration_seconds",
    "From asking an agent to its answer",
    ["source_agent", "target_agent", "status"],
    _WAITS,
    closed=["status"],
)
REQUESTS_ACTIVE: Final = Gauge("agent_requests_active", "Requests whose answer is awaited here")
HANDLERS_ACTIVE: Final = Gauge("diurna_agent_handlers_active", "Requests being worked on here", ["agent_id"])
HANDLER_SECONDS: Final = _histogram(
    "diurna_agent_handler_seconds",
    "How long handlers took",
    ["agent_id", "request_type", "status"],
    _WORK,
    closed=["agent_id", "status"],
)
LOCK_ACQUISITIONS: Final = _counter(
    "resource_lock_acquisitions_total",
    "Wishes for a lock by how they ended: success, denied, timeout, cancelled, error",
    ["resource_type", "agent_id", "status"],
    closed=["status"],
)
LOCK_WAIT_SECONDS: Final = _histogram(
    "resource_lock_wait_seconds", "From asking for a lock to having it", ["resource_type"], _WAITS
)
LOCKS_ACTIVE: Final = Gauge("resource_locks_active", "Locks held here")
LOCK_CONTENTIONS: Final = _counter(
    "resource_lock_contentions_total", "Wishes for a lock that another had", ["resource_type"]
)
