"""Everything that decides, run together: a decider for each family, and the monitor of heartbeats beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from diurna_schemas.agents import STALE_AFTER_MS
from diurna_schemas.codec import Codec
from diurna_schemas.topics import FamilyName
from diurna_streams.decide import Decider
from diurna_streams.decide.follower import Learn, learns_nothing
from diurna_streams.deciders import agents, locks, workflows
from diurna_streams.deciders.agents.state import AgentsState
from diurna_streams.deciders.rules import Rules
from diurna_streams.log import Log
from diurna_streams.monitor import Monitor
from diurna_streams.standing import STANDING

ALL_RULES: Final[tuple[Rules[Any, Any, Any], ...]] = (agents.RULES, locks.RULES, workflows.RULES)


class Conductor:
    """All deciders of one process. A second process beside it is a hot standby."""

    def __init__(
        self,
        log: Log,
        codec: Codec,
        *,
        member: str | None = None,
        incarnation: int = 1,
        learn: Learn = learns_nothing,
        stale_after_ms: int = STALE_AFTER_MS,
        clock_ms: Callable[[], int] = lambda: int(time.time() * 1000),
        monotonic_ms: Callable[[], int] = lambda: int(time.monotonic() * 1000),
    ) -> None:
        self.deciders = {
            rules.family.name: Decider(
                log,
                codec,
                rules,
                member=member and f"{member}-{rules.family.name}",
                incarnation=incarnation,
                learn=learn,
                clock_ms=clock_ms,
            )
            for rules in ALL_RULES
        }
        self._clock_ms = clock_ms
        self._monitor = Monitor(log, codec, self._agents, stale_after_ms=stale_after_ms, clock_ms=monotonic_ms)
        STANDING.watch(self)

    async def run(self) -> None:
        """Decides and watches until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, decider in self.deciders.items():
                tasks.create_task(decider.run(), name=f"decide-{name}")
            await self.deciders[agents.RULES.family.name].is_ready.wait()
            tasks.create_task(self._monitor.run(), name="monitor")

    async def ready(self) -> None:
        """Waits until every decider has caught up and knows its partitions."""
        for decider in self.deciders.values():
            await decider.is_ready.wait()

    def wake(self) -> None:
        """Has every decider look at the clock again."""
        for decider in self.deciders.values():
            decider.wake()

    def states(self, family: FamilyName) -> list[Any]:
        """The states of the partitions decided here: each is in one process only."""
        decider = self.deciders[family]
        return [decider.histories[partition].state for partition in sorted(decider.owned)]

    def silences_ms(self) -> dict[str, int]:
        """How long each agent has been silent."""
        return self._monitor.silences_ms()

    def now_ms(self) -> int:
        """The deciders' present."""
        return self._clock_ms()

    def _agents(self) -> list[AgentsState]:
        return self.states(agents.RULES.family.name)
