"""Runs programs while threads open and close files: prints how often a file was closed by somebody else.

A descriptor that is closed twice may be another thread's the second time. The loop is the one that agents run on; it
ends the process where a descriptor of its own is taken away.
"""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import uvloop

from diurna_agents import process

ROUNDS = 100
THREADS = 8


class Openers:
    """Threads that open and close files for as long as the block lasts."""

    def __init__(self) -> None:
        self.surprises = 0
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._open_and_close) for _ in range(THREADS)]

    def __enter__(self) -> Openers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _open_and_close(self) -> None:
        while not self._is_over.is_set():
            descriptor = os.open(os.devnull, os.O_RDONLY)
            try:
                os.close(descriptor)
            except OSError:
                self.surprises += 1


async def main() -> None:
    for _ in range(ROUNDS):
        await asyncio.gather(
            *(process.run(["/bin/true"], cwd=Path("/"), environment={}, timeout_seconds=60) for _ in range(2))
        )


if __name__ == "__main__":
    with Openers() as openers:
        uvloop.run(main())
    print(openers.surprises)
