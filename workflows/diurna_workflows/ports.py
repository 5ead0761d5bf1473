"""What a workflow needs of the world: somebody to ask, a log to write to, and ears."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from diurna_schemas.message import Command, Event
from diurna_schemas.shapes import AgentRequestEvent, AgentResponseEvent


class AsksAgents(Protocol):
    """The bus, as far as a graph needs it."""

    async def request_agent(self, request: AgentRequestEvent, timeout: float | None = None) -> AgentResponseEvent:
        """The agent's answer. Raises `Unavailable` where the log does not answer."""
        ...


class Heard(Protocol):
    """An event as a subscriber gets it."""

    @property
    def type(self) -> str: ...

    @property
    def data(self) -> dict[str, Any]: ...


class Hears(Protocol):
    """The bus, as far as somebody who waits for a decision needs it."""

    def subscribe(self, event_type: str, callback: Callable[[Any], Awaitable[None] | None]) -> Any: ...

    async def ready(self) -> None:
        """Returns once everything written from now on, by anybody, reaches the subscribers."""
        ...

    def unsubscribe(self, event_type: str, callback: Callable[[Any], Awaitable[None] | None]) -> Any: ...


class Bus(AsksAgents, Hears, Protocol):
    """Both."""


class WritesCommands(Protocol):
    """The connection, as far as a journal needs it."""

    async def ask(self, command: Command) -> Event:
        """Writes the command and returns the event that answers it. Raises `Refused` where that says no."""
        ...
