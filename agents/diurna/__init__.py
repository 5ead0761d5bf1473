"""What an author of an agent imports."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from diurna.agent import Agent as Agent
    from diurna.agent import Context as Context
    from diurna.agent import Rejected as Rejected
    from diurna.bus import EventBus as EventBus
    from diurna.bus import get_event_bus as get_event_bus
    from diurna.connection import Connection as Connection
    from diurna.event import Event as Event
    from diurna.fence_http import FenceMiddleware as FenceMiddleware
    from diurna.fences import FenceGuard as FenceGuard
    from diurna.fences import FileFenceGuard as FileFenceGuard
    from diurna.fences import MemoryFenceGuard as MemoryFenceGuard
    from diurna.fences import TableFenceGuard as TableFenceGuard
    from diurna.leases import Lease as Lease
    from diurna.locks import ResourceLockManager as ResourceLockManager
    from diurna.registry import RegistryClient as RegistryClient
    from diurna.workflow_state import WorkflowStateManager as WorkflowStateManager
    from diurna_schemas.errors import AgentOffline as AgentOffline
    from diurna_schemas.errors import Conflict as Conflict
    from diurna_schemas.errors import DiurnaError as DiurnaError
    from diurna_schemas.errors import InvalidInput as InvalidInput
    from diurna_schemas.errors import LockLost as LockLost
    from diurna_schemas.errors import NotFound as NotFound
    from diurna_schemas.errors import Refused as Refused
    from diurna_schemas.errors import ResourceLockError as ResourceLockError
    from diurna_schemas.errors import StaleToken as StaleToken
    from diurna_schemas.errors import TimedOut as TimedOut
    from diurna_schemas.errors import TooLarge as TooLarge
    from diurna_schemas.errors import Unavailable as Unavailable
    from diurna_schemas.errors import Unreadable as Unreadable
    from diurna_schemas.errors import VersionConflict as VersionConflict
    from diurna_schemas.errors import WorkflowConflict as WorkflowConflict
    from diurna_schemas.ids import Position as Position
    from diurna_schemas.shapes import AgentBroadcastEvent as AgentBroadcastEvent
    from diurna_schemas.shapes import AgentCapability as AgentCapability
    from diurna_schemas.shapes import AgentCapabilityQuery as AgentCapabilityQuery
    from diurna_schemas.shapes import AgentRequestEvent as AgentRequestEvent
    from diurna_schemas.shapes import AgentRequestPriority as AgentRequestPriority
    from diurna_schemas.shapes import AgentRequestType as AgentRequestType
    from diurna_schemas.shapes import AgentResponseEvent as AgentResponseEvent
    from diurna_schemas.shapes import AgentResponseStatus as AgentResponseStatus
    from diurna_schemas.shapes import LockInfo as LockInfo
    from diurna_schemas.shapes import LockRecord as LockRecord
    from diurna_schemas.shapes import LockStatistics as LockStatistics
    from diurna_schemas.shapes import LockWaiter as LockWaiter
    from diurna_schemas.shapes import WorkflowCheckpoint as WorkflowCheckpoint
    from diurna_schemas.shapes import WorkflowState as WorkflowState

_HOMES: Final = {
    "diurna.agent": ("Agent", "Context", "Rejected"),
    "diurna.bus": ("EventBus", "get_event_bus"),
    "diurna.connection": ("Connection",),
    "diurna.event": ("Event",),
    "diurna.fence_http": ("FenceMiddleware",),
    "diurna.fences": ("FenceGuard", "FileFenceGuard", "MemoryFenceGuard", "TableFenceGuard"),
    "diurna.leases": ("Lease",),
    "diurna.locks": ("ResourceLockManager",),
    "diurna.registry": ("RegistryClient",),
    "diurna.workflow_state": ("WorkflowStateManager",),
    "diurna_schemas.errors": (
        "AgentOffline", "Conflict", "DiurnaError", "InvalidInput", "LockLost", "NotFound", "Refused",
        "ResourceLockError", "StaleToken", "TimedOut", "TooLarge", "Unavailable", "Unreadable", "VersionConflict",
        "WorkflowConflict",
    ),
    "diurna_schemas.ids": ("Position",),
    "diurna_schemas.shapes": (
        "AgentBroadcastEvent", "AgentCapability", "AgentCapabilityQuery", "AgentRequestEvent", "AgentRequestPriority",
        "AgentRequestType", "AgentResponseEvent", "AgentResponseStatus", "LockInfo", "LockRecord", "LockStatistics",
        "LockWaiter", "WorkflowCheckpoint", "WorkflowState",
    ),
}  # fmt: skip
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Agent",
    "AgentBroadcastEvent",
    "AgentCapability",
    "AgentCapabilityQuery",
    "AgentOffline",
    "AgentRequestEvent",
    "AgentRequestPriority",
    "AgentRequestType",
    "AgentResponseEvent",
    "AgentResponseStatus",
    "Conflict",
    "Connection",
    "Context",
    "DiurnaError",
    "Event",
    "EventBus",
    "FenceGuard",
    "FenceMiddleware",
    "FileFenceGuard",
    "InvalidInput",
    "Lease",
    "LockInfo",
    "LockLost",
    "LockRecord",
    "LockStatistics",
    "LockWaiter",
    "MemoryFenceGuard",
    "NotFound",
    "Position",
    "Refused",
    "RegistryClient",
    "Rejected",
    "ResourceLockError",
    "ResourceLockManager",
    "StaleToken",
    "TableFenceGuard",
    "TimedOut",
    "TooLarge",
    "Unavailable",
    "Unreadable",
    "VersionConflict",
    "WorkflowCheckpoint",
    "WorkflowConflict",
    "WorkflowState",
    "WorkflowStateManager",
    "get_event_bus",
]


def __getattr__(name: str) -> Any:
    """Loads a name when it is first used, so that `import diurna` costs next to nothing."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
