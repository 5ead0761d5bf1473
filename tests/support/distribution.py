"""Who runs what: the whole suite is shared out to two processes, each with real parts of its own."""

from __future__ import annotations

import os

import pytest

WORKERS = 2
_TEAM = "diurna"
"""The fixture of the one stack of real processes: every test that speaks to it runs where it was started."""


def workers(config: pytest.Config) -> int:
    """None for a part of the suite, which is easier to follow in one process, nor where there is one Kafka for all."""
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return WORKERS if is_whole and "DIURNA_KAFKA_BOOTSTRAP_SERVERS" not in os.environ else 0


def share_out(items: list[pytest.Item]) -> None:
    """Keeps a module's tests together, as they share fixtures; first comes what takes longest, what needs servers."""
    for item in items:
        group = _TEAM if _TEAM in getattr(item, "fixturenames", ()) else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if _TEAM in getattr(item, "fixturenames", ()):
        return 0
    return next(
        (turn for turn, folder in enumerate(_FOLDERS, 1) if f"tests/{folder}/" in item.nodeid), len(_FOLDERS) + 1
    )


_FOLDERS = ("integration", "chaos", "contract", "linearizability", "simulation")
