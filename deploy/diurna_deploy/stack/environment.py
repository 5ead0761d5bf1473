"""What a process of the stack inherits: a server an allow-list, our own Python processes what their starter had."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

PASSED: Final = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG")


def server_environment() -> dict[str, str]:
    """So little that no shell's JAVA_TOOL_OPTIONS or PGOPTIONS changes a server."""
    return {"LANG": "C.UTF-8"} | {name: os.environ[name] for name in PASSED if name in os.environ}


def process_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """All of ours but the `DIURNA_…` variables, and `more`: an agent may need a proxy, a package index, a key."""
    passed = {name: value for name, value in os.environ.items() if not name.startswith("DIURNA_")}
    return passed | dict(more or {})


def become_process(more: Mapping[str, str]) -> None:
    """Gives this very process the environment it would have been started with: it was forked for that."""
    wanted = process_environment(more)
    os.environ.clear()
    os.environ.update(wanted)
