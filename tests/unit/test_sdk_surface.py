"""What `import diurna` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import diurna

EXPORTED = [
    "Agent", "AgentBroadcastEvent", "AgentCapability", "AgentCapabilityQuery", "AgentOffline", "AgentRequestEvent",
    "AgentRequestPriority", "AgentRequestType", "AgentResponseEvent", "AgentResponseStatus", "Conflict", "Connection",
    "Context", "DiurnaError", "Event", "EventBus", "FenceGuard", "FenceMiddleware", "FileFenceGuard", "InvalidInput",
    "Lease", "LockInfo", "LockLost", "LockRecord", "LockStatistics", "LockWaiter", "MemoryFenceGuard", "NotFound",
    "Position", "Refused", "RegistryClient", "Rejected", "ResourceLockError", "ResourceLockManager", "StaleToken",
    "TableFenceGuard", "TimedOut", "TooLarge", "Unavailable", "Unreadable", "VersionConflict", "WorkflowCheckpoint",
    "WorkflowConflict", "WorkflowState", "WorkflowStateManager", "get_event_bus",
]  # fmt: skip


def test_the_exported_names_are_these() -> None:
    assert diurna.__all__ == EXPORTED
    assert dir(diurna) == EXPORTED


@pytest.mark.parametrize("name", EXPORTED)
def test_every_exported_name_is_there(name: str) -> None:
    assert getattr(diurna, name).__name__ == name


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Bus'"):
        diurna.Bus  # noqa: B018


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = ["pydantic", "aiokafka", "httpx", "fastapi", "uvicorn", "fastavro", "prometheus_client", "structlog"]
    code = f"import sys, diurna; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"


def test_the_locks_load_neither_kafka_nor_postgres_nor_a_web_server() -> None:
    code = (
        "import sys, diurna; diurna.ResourceLockManager; "
        "print([n for n in ['aiokafka', 'asyncpg', 'fastapi'] if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"


def test_the_bus_loads_neither_kafka_nor_a_web_server() -> None:
    code = (
        "import sys, diurna; diurna.EventBus; print([n for n in ['aiokafka', 'fastapi', 'httpx'] if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"
