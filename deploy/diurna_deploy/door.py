"""Where a process is reached over HTTP."""

from __future__ import annotations

from typing import Final, NamedTuple


class Door(NamedTuple):
    """Where it listens, `port` 0 being any; `base_url` is where others find it, where that is somewhere else."""

    host: str = "127.0.0.1"
    port: int = 0
    base_url: str | None = None


LOOPBACK_DOOR: Final = Door()
