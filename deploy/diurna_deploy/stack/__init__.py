"""The embedded stack: a real Kafka, a real Postgres and our own processes, without Docker, Java or root."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diurna_deploy.stack.lifecycle import Stack, down, status, up
    from diurna_deploy.stack.processes import ProcessSpec
    from diurna_deploy.stack.progress import teller_for
    from diurna_deploy.stack.state import Addresses

__all__ = ["Addresses", "ProcessSpec", "Stack", "down", "status", "teller_for", "up"]

_HOMES = {
    "Addresses": "state",
    "ProcessSpec": "processes",
    "Stack": "lifecycle",
    "down": "lifecycle",
    "status": "lifecycle",
    "teller_for": "progress",
    "up": "lifecycle",
}


def __getattr__(name: str) -> object:
    """Loads a name when it is first used: the launcher, the trainer and `--help` need next to nothing of it."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
