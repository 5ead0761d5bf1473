"""How often Python looks for garbage in our long-lived processes: rarely, for nearly everything they keep is alive."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (100_000, 50, 100)
"""Objects made before a look at the young ones, and how many looks before the older ones.

With Python's own (700, 10, 10) a decider spends a third of its time going through a state that never dies: 525 µs a
request against 350 µs.
"""


def calm() -> None:
    """Has the collector look rarely, and never again at what is there already."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
