"""Runs a child process within limits: of time, of output, of what it may see."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from diurna_agents.errors import ToolFailed

OUTPUT_BYTES_MAX: Final = 64 * 1024
_NICENESS: Final = 5
_STOP_SECONDS: Final = 3.0
_DRAIN_SECONDS: Final = 1.0
_CHUNK_BYTES: Final = 64 * 1024
_EDGE_CHARACTERS_MAX: Final = 512
_EDGE: Final = re.compile(r"[\s\"']")
_EDGE_BYTES: Final = re.compile(rb"[\s\"']")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a child ended. `exit_code` is negative where a signal ended it."""

    command: tuple[str, ...]
    exit_code: int
    output: str
    output_bytes_cut: int
    duration_ms: int
    timed_out: bool

    @property
    def succeeded(self) -> bool:
        """It ended by itself, in time, and said that all is well."""
        return self.exit_code == 0 and not self.timed_out

    def tail(self, characters_max: int = 4_000) -> str:
        """The end of the output, where tools say what went wrong."""
        return end_of(self.output.strip(), characters_max)


def end_of(text: str, characters_max: int) -> str:
    """The end of a text, from the beginning of a word on: half a token would not be known for one."""
    if len(text) <= characters_max:
        return text
    end = text[-characters_max:]
    edge = _EDGE.search(end, 0, _EDGE_CHARACTERS_MAX)
    return "… " + (end[edge.end() :] if edge else end)


async def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    timeout_seconds: float,
    output_bytes_max: int = OUTPUT_BYTES_MAX,
    niceness: int = _NICENESS,
) -> Finished:
    """Runs `command` with exactly `environment`; after the time limit its whole group is ended.

    Output and errors come back as one text: its beginning and its end, and how much lies between.
    Raises `ToolFailed` where the program cannot be started at all.
    """
    words = tuple(str(word) for word in command)
    started = time.monotonic()
    kept = _Kept(output_bytes_max)
    process, output = await _start(words, cwd, environment, kept)
    timed_out = False
    try:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, niceness)
        try:
            async with asyncio.timeout(timeout_seconds):
                exit_code = await process.wait()
        except TimeoutError:
            timed_out = True
            exit_code = await _stop(process)
        duration_ms = round((time.monotonic() - started) * 1000)
        # A grandchild may hold the pipe open; what it still has to say is not waited for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await output.ended.wait()
    finally:
        _kill_group(process.pid)
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
        output.close()
    return Finished(words, exit_code, kept.text(), kept.bytes_cut, duration_ms, timed_out)


class _Output:
    """Reads what a process says as it comes, and owns the pipe's end.

    A transport would close it twice: uvloop's closes the descriptor and then the file it was given, and in between
    another thread may have opened something under the same number.
    """

    def __init__(self, descriptor: int, kept: _Kept) -> None:
        self.ended = asyncio.Event()
        self._descriptor = descriptor
        self._kept = kept
        self._loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            chunk = os.read(self._descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            return
        if chunk:
            self._kept.add(chunk)
        else:
            self.close()

    def close(self) -> None:
        """Reads no more."""
        if not self.ended.is_set():
            self.ended.set()
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)


async def _start(
    words: tuple[str, ...], cwd: Path, environment: Mapping[str, str], kept: _Kept
) -> tuple[asyncio.subprocess.Process, _Output]:
    # A pipe of our own: waiting for the process must not wait for those who inherited its output.
    read_end, write_end = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=cwd,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            start_new_session=True,
        )
    except OSError as error:
        os.close(read_end)
        raise ToolFailed(words[0], f"it cannot be started: {error.strerror or error}") from error
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    return process, _Output(read_end, kept)


async def _stop(process: asyncio.subprocess.Process) -> int:
    """Ends the process and all it started: asks first, insists after a moment."""
    family = await asyncio.to_thread(_descendants, process.pid)
    _signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    _kill_group(process.pid)
    for member in family:
        # Those who left the group by starting a session of their own.
        with contextlib.suppress(psutil.Error):
            member.kill()
    return await process.wait()


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _kill_group(pid: int) -> None:
    _signal_group(pid, signal.SIGKILL)


class _Kept:
    """The beginning and the end of a stream of bytes, bounded."""

    def __init__(self, bytes_max: int) -> None:
        self._head_max = bytes_max // 4
        self._tail_max = bytes_max - self._head_max
        self._head = bytearray()
        self._tail = bytearray()
        self.bytes_cut = 0

    def add(self, chunk: bytes) -> None:
        room = self._head_max - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        self._tail += chunk
        excess = len(self._tail) - self._tail_max
        if excess > 0:
            del self._tail[:excess]
            self.bytes_cut += excess

    def text(self) -> str:
        if self.bytes_cut:
            self._end_at_words()
        head = self._head.decode("utf-8", "replace")
        tail = self._tail.decode("utf-8", "replace")
        middle = f"\n[… {self.bytes_cut} bytes cut …]\n" if self.bytes_cut else ""
        return head + middle + tail

    def _end_at_words(self) -> None:
        """Half a token on either side of the cut would not be known for one, and could not be masked."""
        start = max(0, len(self._head) - _EDGE_CHARACTERS_MAX)
        last = max(self._head.rfind(b"\n", start), self._head.rfind(b" ", start), self._head.rfind(b'"', start))
        if last >= 0:
            self.bytes_cut += len(self._head) - last - 1
            del self._head[last + 1 :]
        first = _EDGE_BYTES.search(self._tail, 0, _EDGE_CHARACTERS_MAX)
        if first is not None:
            self.bytes_cut += first.end()
            del self._tail[: first.end()]
