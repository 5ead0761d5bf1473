"""Asks people: puts a question on the log, and waits until somebody has decided it, or nobody did in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from diurna_schemas.workflows import ApprovalDecided, ApprovalExpired
from diurna_workflows.policy import Decision
from diurna_workflows.ports import Heard, Hears

ReadDecision = Callable[[str, str], Awaitable[Decision | None]]
"""Looks up the decision of a workflow's approval that fell while nobody listened: (workflow id, approval id)."""
ReadCase = Callable[[str], Awaitable[Decision | None]]
_LOOK_SECONDS: Final = 5.0
EXPIRED: Final = "expired"


@dataclass(frozen=True, slots=True)
class Matter:
    """What is to be decided, at which step. `name` tells it from the workflow's other matters.

    With `roles`, only somebody who has one of them decides.
    """

    name: str
    step: str
    question: str
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    roles: tuple[str, ...] = ()
    expires_after_ms: int | None = None

    def as_json(self) -> dict[str, Any]:
        """As an interrupt of a graph holds it."""
        return {**asdict(self), "roles": list(self.roles)}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Matter:
        """Back again."""
        return cls(
            name=found["name"],
            step=found["step"],
            question=found["question"],
            details=found["details"],
            roles=tuple(found["roles"]),
            expires_after_ms=found["expires_after_ms"],
        )


class AsksApprovals(Protocol):
    """A journal, as far as asking needs it."""

    def approval_id(self, name: str) -> str: ...

    async def ask_approval(self, matter: Matter) -> str: ...


class Desk(Protocol):
    """Where decisions of people come in."""

    async def open(self, approval_id: str) -> Case:
        """Begins to listen, before the question is asked, so that no answer is missed."""
        ...


class Case(Protocol):
    """One question at the desk."""

    async def decision(self) -> Decision:
        """What was decided; rejected by `expired` where nobody did in time."""
        ...

    def close(self) -> None: ...


class BusDesk:
    """Hears decisions on the bus. `read` finds those that fell while nobody listened."""

    def __init__(self, bus: Hears, *, read: ReadCase | None = None) -> None:
        self._bus = bus
        self._read = read

    async def open(self, approval_id: str) -> BusCase:
        case = BusCase(self._bus, approval_id, self._read)
        await self._bus.ready()
        return case


class BusCase:
    """Listens for one approval from the moment it is made."""

    def __init__(self, bus: Hears, approval_id: str, read: ReadCase | None) -> None:
        self._bus = bus
        self._approval_id = approval_id
        self._read = read
        self._decided: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        bus.subscribe(ApprovalDecided.type_name, self._hear)
        bus.subscribe(ApprovalExpired.type_name, self._hear)

    async def decision(self) -> Decision:
        while not self._decided.done():
            found = None if self._read is None else await self._read(self._approval_id)
            if found is not None:
                return found
            await asyncio.wait({self._decided}, timeout=None if self._read is None else _LOOK_SECONDS)
        return self._decided.result()

    def close(self) -> None:
        self._bus.unsubscribe(ApprovalDecided.type_name, self._hear)
        self._bus.unsubscribe(ApprovalExpired.type_name, self._hear)
        self._decided.cancel()

    def _hear(self, event: Heard) -> None:
        if event.data.get("approval_id") != self._approval_id or self._decided.done():
            return
        if event.type == ApprovalExpired.type_name:
            self._decided.set_result(expired())
        else:
            self._decided.set_result(
                Decision(
                    event.data.get("is_approved") is True,
                    str(event.data.get("decided_by", "unknown")),
                    str(event.data.get("reason", "")),
                )
            )


def expired() -> Decision:
    """What stands where nobody decided in time."""
    return Decision(False, EXPIRED, "nobody decided in time")


@asynccontextmanager
async def opened(desk: Desk, approval_id: str) -> AsyncGenerator[Case]:
    """A case that is closed again."""
    case = await desk.open(approval_id)
    try:
        yield case
    finally:
        case.close()


async def decided_by_people(desk: Desk, journal: AsksApprovals, matter: Matter) -> Decision:
    """Asks, and waits for the answer. Whoever listens before asking misses none; asking again is asking once."""
    async with opened(desk, journal.approval_id(matter.name)) as case:
        await journal.ask_approval(matter)
        return await case.decision()


class People:
    """People, as a node of a graph asks them.

    Where checkpoints are kept, the question interrupts the graph: nothing runs while they think, and whoever drives the
    graph asks them and goes on with what they say. A graph without checkpoints cannot be interrupted: its node waits.
    """

    def __init__(self, desk: Desk, journal: AsksApprovals, *, interrupts: bool) -> None:
        self._desk = desk
        self._journal = journal
        self._interrupts = interrupts

    async def decide(self, matter: Matter) -> Decision:
        """What was decided. A node that asks is run again from its beginning when the answer is there."""
        if not self._interrupts:
            return await decided_by_people(self._desk, self._journal, matter)
        from langgraph.types import interrupt  # loaded with the first graph

        return Decision.from_json(interrupt(matter.as_json()))
