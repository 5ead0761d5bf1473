"""Keeps the libraries that speak to Kafka from filling a log: while a broker is away they say the same all the time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Final

CLIENTS: Final = (
    "aiokafka",
    "aiokafka.client",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
)
"""Filters of loggers do not hold for those below them, so each that repeats itself is named."""
_SAME_WORDS_SECONDS: Final = 10.0
_WORDS_MAX: Final = 1_000


class SameWordsOnce(logging.Filter):
    """Lets a message through once in a while: a broker that is away costs sixty lines a second otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        words = (record.name, str(record.msg)[:80])
        if now - self._told.get(words, -_SAME_WORDS_SECONDS) < _SAME_WORDS_SECONDS:
            return False
        if len(self._told) > _WORDS_MAX:
            self._told.clear()
        self._told[words] = now
        return True


_FILTER: Final = SameWordsOnce()


def quieten(names: Iterable[str] = CLIENTS) -> None:
    """Has these loggers say the same thing once in ten seconds. To do it again changes nothing."""
    for name in names:
        logger = logging.getLogger(name)
        if _FILTER not in logger.filters:
            logger.addFilter(_FILTER)
