"""Where a handler works: fresh directories below one root, removed after use."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

Report = Callable[[str, dict[str, object]], Awaitable[None]]
"""Tells how far a handler is: the name of the step, and what there is to say of it."""


class Workspace:
    """Gives fresh directories below `root` and takes them away again.

    `environment` is the environment of the process, handed in by whoever may read it;
    children see only the part of it that `child_environment` lets through.
    """

    def __init__(self, root: Path, *, environment: Mapping[str, str]) -> None:
        self.root = root.absolute()
        self.environment = dict(environment)

    @property
    def clones(self) -> Path:
        """Where clones of URLs are kept from one call to the next."""
        return self.root / "clones"

    @asynccontextmanager
    async def fresh(self, purpose: str) -> AsyncGenerator[Path]:
        """A new directory of this call alone, gone when the block ends."""
        directory, claim = await asyncio.to_thread(self._make, purpose)
        try:
            yield directory
        finally:
            # Shielded, so that a cancelled handler does not leave its directories behind.
            await asyncio.shield(asyncio.to_thread(_give_up, directory, claim))

    def clear(self) -> None:
        """Removes what processes left behind that were killed; what a living one works in stays."""
        for directory in sorted(self._work.glob("*/")):
            with suppress(OSError):  # what cannot be looked at, or is gone already
                with _claimed(self._work):
                    is_left = _is_left(directory)
                if is_left:
                    remove_tree(directory)

    @property
    def _work(self) -> Path:
        return self.root / "work"

    def _make(self, purpose: str) -> tuple[Path, int]:
        """A directory, and the claim on it: an open descriptor that is locked until it is closed, or we are gone."""
        self._work.mkdir(parents=True, exist_ok=True)
        with _claimed(self._work):
            directory = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=self._work))
            claim = _opened(directory)
            _lock(claim)
        # uv takes its settings from the nearest directory above that has some. With this one, a foreign
        # tree is judged by its own settings and the user's, not by those of whoever's tree we lie in.
        (directory / "uv.toml").touch()
        return directory, claim


def _opened(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _lock(claim: int) -> None:
    with suppress(OSError):  # a file system without locks: there what is left behind stays
        fcntl.flock(claim, fcntl.LOCK_EX)


@contextmanager
def _claimed(directory: Path) -> Generator[None]:
    """Nobody makes or claims a directory in it while the block lasts."""
    claim = _opened(directory)
    try:
        _lock(claim)
        yield
    finally:
        os.close(claim)


def _is_left(directory: Path) -> bool:
    """Whether whoever claimed it is gone."""
    claim = _opened(directory)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(claim)
    return True


def _give_up(directory: Path, claim: int) -> None:
    remove_tree(directory)
    os.close(claim)


async def report_nothing(step: str, details: dict[str, object]) -> None:
    """The report of a caller who does not want to hear."""


def remove_tree(directory: Path) -> None:
    """Removes `directory` whatever the modes foreign code left in it; what is gone already is fine."""

    def unlock_and_retry(function: Callable[[str], object], path: str, _: object) -> None:
        try:
            parent = Path(path).parent
            parent.chmod(parent.stat().st_mode | stat.S_IRWXU)
            if not Path(path).is_symlink():
                Path(path).chmod(stat.S_IRWXU)
            function(path) if function in (os.unlink, os.rmdir) else shutil.rmtree(path, ignore_errors=True)
        except OSError:
            return

    if directory.is_symlink():
        directory.unlink()
        return
    shutil.rmtree(directory, onerror=unlock_and_retry)
    if directory.exists():
        shutil.rmtree(directory, ignore_errors=True)
