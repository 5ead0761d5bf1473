"""How far a replay is, for whoever shows it."""

from __future__ import annotations

import time
from collections.abc import Callable


class Progress:
    """How far a replay is: told to whoever shows it. `total` is known once the log was asked."""

    def __init__(self, show: Callable[[Progress], None] = lambda _: None) -> None:
        self.total = 0
        self.done = 0
        self._show = show
        self._began = time.perf_counter()

    def expect(self, records: int) -> None:
        """So many more records are to be projected."""
        self.total += records
        self._show(self)

    def advance(self, records: int) -> None:
        """So many more were projected."""
        self.done += records
        self._show(self)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @property
    def per_second(self) -> float:
        return self.done / self.seconds if self.seconds else 0.0
