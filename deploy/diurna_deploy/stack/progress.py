"""What the stack tells while it starts: bars on a terminal, plain lines elsewhere, nothing where nobody asked."""

from __future__ import annotations

import sys
import time
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Teller(Protocol):
    """Told what goes on. A part is a word such as `kafka`."""

    def say(self, part: str, text: str) -> None: ...

    def download(self, part: str, bytes_done: int, bytes_total: int) -> None: ...

    def close(self) -> None: ...


class Silent:
    """Tells nobody."""

    def say(self, part: str, text: str) -> None:
        pass

    def download(self, part: str, bytes_done: int, bytes_total: int) -> None:
        pass

    def close(self) -> None:
        pass


class Lines:
    """One plain line for each thing said; a download says so at its start, its quarters and its end."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._began = time.monotonic()
        self._quarters: dict[str, int] = {}
        self._downloads: dict[str, float] = {}

    def say(self, part: str, text: str) -> None:
        self._stream.write(f"{time.monotonic() - self._began:6.1f} s  {part}: {text}\n")
        self._stream.flush()

    def download(self, part: str, bytes_done: int, bytes_total: int) -> None:
        quarter = 4 * bytes_done // max(1, bytes_total)
        if self._quarters.get(part) != quarter:
            began = self._downloads.setdefault(part, time.monotonic())
            self._quarters[part] = quarter
            rate = bytes_done / max(time.monotonic() - began, 1e-9)
            left = f", {rate / 1e6:.1f} MB/s, {(bytes_total - bytes_done) / rate:.0f} s left" if quarter else ""
            self.say(part, f"downloaded {bytes_done / 1e6:.1f} of {bytes_total / 1e6:.1f} MB{left}")

    def close(self) -> None:
        pass


class Bars(Lines):
    """Lines above, and a bar below for what is being downloaded."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console  # only where somebody looks

        super().__init__(stream)
        self._console = Console(file=stream)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def say(self, part: str, text: str) -> None:
        self._console.print(
            f"[dim]{time.monotonic() - self._began:6.1f} s[/]  [bold]{part}[/]: {text}", highlight=False
        )

    def download(self, part: str, bytes_done: int, bytes_total: int) -> None:
        if self._bars is None:
            from rich import progress as rich

            measures = (rich.DownloadColumn(), rich.TransferSpeedColumn(), rich.TimeRemainingColumn())
            columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), *measures)
            self._bars = rich.Progress(*columns, console=self._console, transient=True)
            self._bars.start()
        if part not in self._tasks:
            self._tasks[part] = self._bars.add_task(f"download {part}", total=bytes_total)
        self._bars.update(self._tasks[part], completed=bytes_done)
        if bytes_done >= bytes_total:
            self.close()
            self.say(part, f"downloaded {bytes_total / 1e6:.1f} MB")

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()


def teller_for(stream: IO[str] | None = None) -> Teller:
    """Bars where the stream is a terminal, lines where it is not."""
    heard = sys.stderr if stream is None else stream
    return Bars(heard) if heard.isatty() else Lines(heard)
