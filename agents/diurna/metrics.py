"""What the bus and the locks count, under the names that dashboards know."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

EVENTS_EMITTED: Final = Counter(
    "event_bus_events_emitted_total", "Events written to the log", ["event_type", "source_agent"]
)
EVENTS_DELIVERED: Final = Counter("event_bus_events_delivered_total", "Events given to subscribers", ["event_type"])
SUBSCRIBER_ERRORS: Final = Counter(
    "event_bus_subscriber_errors_total", "Errors that subscribers raised", ["event_type"]
)
REQUEST_SECONDS: Final = Histogram(
    "agent_request_duration_seconds",
    "From asking an agent to its answer",
    ["source_agent", "target_agent", "status"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
REQUESTS_ACTIVE: Final = Gauge("agent_requests_active", "Requests whose answer is awaited here")
HANDLERS_ACTIVE: Final = Gauge("diurna_agent_handlers_active", "Requests being worked on here", ["agent_id"])
HANDLER_SECONDS: Final = Histogram(
    "diurna_agent_handler_seconds",
    "How long handlers took",
    ["agent_id", "request_type", "status"],
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 1800),
)
LOCK_ACQUISITIONS: Final = Counter(
    "resource_lock_acquisitions_total",
    "Wishes for a lock by how they ended: success, denied, timeout, cancelled, error",
    ["resource_type", "agent_id", "status"],
)
LOCK_WAIT_SECONDS: Final = Histogram(
    "resource_lock_wait_seconds",
    "From asking for a lock to having it",
    ["resource_type"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
LOCKS_ACTIVE: Final = Gauge("resource_locks_active", "Locks held here")
LOCK_CONTENTIONS: Final = Counter(
    "resource_lock_contentions_total", "Wishes for a lock that another had", ["resource_type"]
)
