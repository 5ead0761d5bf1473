"""Who runs what: the whole suite is shared out to three processes, each with real parts of its own."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

WORKERS: Final = 3
"""One more than cores: on two of them, two processes left a third of the time unused, waiting for what they had begun.

With four the cores had no more to give, and what needs a stack of real processes was the last to end, by minutes.
"""
_SHARED_STACK: Final = re.compile(r"\bdiurna: (Any|Commands)\b")
"""How a test asks for the stack of real processes: those that do run where it was started."""
_COMMAND_LINE: Final = re.compile(r"/test_cli_\w+\.py$")
"""These have a stack of their own: one for all took longer than all the rest."""
_FOLDERS: Final = ("integration", "chaos", "contract", "linearizability", "simulation")


def workers(config: pytest.Config) -> int:
    """None for a part of the suite, which is easier to follow in one process, nor where there is one Kafka for all."""
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return WORKERS if is_whole and "DIURNA_KAFKA_BOOTSTRAP_SERVERS" not in os.environ else 0


def longest_first(items: list[pytest.Item]) -> None:
    """Puts first what needs servers, and before all what needs the shared stack, so that no process ends alone."""
    items.sort(key=lambda item: _turn(module_of(item.nodeid)))


class ByModule(LoadScopeScheduling):
    """Keeps the tests of a module together, as they share fixtures, and those of a shared stack."""

    def _split_scope(self, nodeid: str) -> str:
        module = module_of(nodeid)
        if not needs_shared_stack(module):
            return module
        return "the stack of the command line" if _COMMAND_LINE.search(module) else "the shared stack"


def module_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


@cache
def needs_shared_stack(module: str) -> bool:
    return _SHARED_STACK.search(Path(module).read_text(encoding="utf-8")) is not None


def _turn(module: str) -> int:
    if needs_shared_stack(module):
        return 0
    return next((turn for turn, folder in enumerate(_FOLDERS, 1) if f"tests/{folder}/" in module), len(_FOLDERS) + 1)
