"""Processes of a test's own that say `ready`: killed, stopped in the middle, and replaced however they ended."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

READY_SECONDS = 60
Process = asyncio.subprocess.Process


class Crowd:
    """Processes of one program. `arguments` gives those of the nth one; what they complain of is kept in `logs`."""

    def __init__(
        self, program: Path, arguments: Callable[[int], Sequence[str]], chance: random.Random, logs: Path
    ) -> None:
        self._program = program
        self._logs = logs
        self._arguments = arguments
        self._chance = chance
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._wanted = 0
        self._is_over = False
        self.alive: list[Process] = []
        self.kills = 0
        self.falls = 0
        """How often one ended by itself, such as one that starts while the broker is away."""

    async def start(self, count: int) -> None:
        """Returns once so many more are ready."""
        self._wanted += count
        for _ in range(count):
            self._keep()
        await self.settled()

    def _keep(self) -> None:
        task = asyncio.create_task(self._run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        """One process, and the one that takes its place."""
        number = next(self._numbers)
        with (self._logs / f"{self._program.stem}-{number}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(self._program), *self._arguments(number),
                stdout=asyncio.subprocess.PIPE, stderr=log, limit=2**24,
            )  # fmt: skip
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                if b"ready" in line:
                    self._change(lambda: self.alive.append(process))
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        was_killed = process not in self.alive
        self.falls += not was_killed
        self._change(lambda: None if was_killed else self.alive.remove(process))
        if not self._is_over:
            self._keep()

    def _change(self, act: Callable[[], None]) -> None:
        act()
        self._changed.set()
        self._changed = asyncio.Event()

    async def kill_one(self) -> None:
        """Kills one with SIGKILL, unless it is the last; another takes its place soon."""
        if len(self.alive) < 2:
            return  # the one that takes the other's place is still starting
        victim = self._chance.choice(self.alive)
        self.alive.remove(victim)
        victim.kill()
        self.kills += 1

    async def stop_one_for(self, seconds: float) -> None:
        """Has one stand still in the middle of whatever it does, and go on as if nothing had been."""
        if not self.alive:
            return
        victim = self._chance.choice(self.alive)
        victim.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            if victim.returncode is None:
                victim.send_signal(signal.SIGCONT)

    async def settled(self) -> None:
        """Waits until as many as are wanted are ready."""
        async with asyncio.timeout(READY_SECONDS):
            while len(self.alive) < self._wanted:
                await self._changed.wait()

    async def end(self) -> None:
        """Kills everyone."""
        self._is_over = True
        for process in self.alive:
            if process.returncode is None:
                process.kill()
        self.alive = []
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
