"""How long work tells how far it is: a bar on a terminal, a line now and then elsewhere; rate and time left on both."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Final, Protocol

_LINE_EVERY_SECONDS: Final = 2.0


class Progress(Protocol):
    """Work in units of one kind. `total` may grow."""

    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def per_second(self) -> float: ...


@dataclass(slots=True)
class Steps:
    """A few long steps."""

    total: int
    done: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def per_second(self) -> float:
        return self.done / max(time.monotonic() - self.began, 1e-9)


@contextmanager
def telling(what: str, unit: str, stream: IO[str] | None = None) -> Generator[Callable[[Progress], None]]:
    """Yields what is to be called whenever some of the work is done."""
    heard = sys.stderr if stream is None else stream
    if not heard.isatty():
        yield _lines(what, unit, heard)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
    with Bars(*columns, console=Console(file=heard), transient=True) as bars:
        bar = bars.add_task(what, total=None, words="")

        def show(progress: Progress) -> None:
            bars.update(bar, completed=progress.done, total=progress.total, words=words_of(progress, unit))

        yield show


def _lines(what: str, unit: str, stream: IO[str]) -> Callable[[Progress], None]:
    said_at: float | None = None

    def say(progress: Progress) -> None:
        nonlocal said_at
        now = time.monotonic()
        if said_at is None or now - said_at >= _LINE_EVERY_SECONDS:
            if said_at is not None:  # who is quick needs no words
                print(f"{what}: {words_of(progress, unit)}", file=stream, flush=True)
            said_at = now

    return say


def words_of(progress: Progress, unit: str) -> str:
    """How far, how fast, and how long still."""
    rate = progress.per_second
    left = f", {max(progress.total - progress.done, 0) / rate:.0f} s left" if rate > 0 else ""
    shown = f"{rate:,.0f}/s" if rate >= 1 or rate == 0 else f"{rate * 60:.1f}/min"
    return f"{progress.done:,} of {progress.total:,} {unit}, {shown}{left}"
