"""How often a partition is ticked: at once when something is due, and ever more rarely while that changes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

TICK_PAUSE_MS: Final = 50
"""Between two ticks of a partition: the broker's clock may be a little behind ours."""
PAUSE_MS_MAX: Final = 1_000


@dataclass(slots=True)
class Pace:
    """The last tick of a partition, by the event loop's clock: ours may step, and would silence it for as long."""

    state: Any = None
    sent_at_ms: int = -TICK_PAUSE_MS
    pause_ms: int = TICK_PAUSE_MS

    def left_ms(self, state: Any, *, due_in_ms: int) -> int:
        """How long to wait before the next tick, where something is due in `due_in_ms` by our own clock."""
        pause_ms = self.pause_ms if state is self.state else TICK_PAUSE_MS
        return max(due_in_ms, self.sent_at_ms + pause_ms - _steady_ms())

    def ticked(self, state: Any) -> int:
        """Notes a tick, and returns how long to wait for what it does."""
        # The state it was sent for is still the same: by the log's clock nothing is due yet, or nobody decides.
        self.pause_ms = min(2 * self.pause_ms, PAUSE_MS_MAX) if state is self.state else TICK_PAUSE_MS
        self.state, self.sent_at_ms = state, _steady_ms()
        return self.pause_ms


def _steady_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)
