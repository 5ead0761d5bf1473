"""Keeps one declared service running, as a program of its own: `python -m diurna_agents.service_keeper DIRECTORY`.

It outlives the agent that started it. What to run lies in `service.json` in its directory, what runs it writes to
`state.json`, what the service says goes to `output.log`. A service that ends is started again, later each time it lived
only briefly, and given up after a bounded number of brief lives. SIGTERM stops the service, and then the keeper.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from diurna_agents.process_identity import ProcessIdentity

BACKOFF_SECONDS_MIN: Final = 0.1
BACKOFF_SECONDS_MAX: Final = 5.0
BRIEF_SECONDS: Final = 10.0
"""A life shorter than this counts against a service."""
BRIEF_LIVES_MAX: Final = 8
OUTPUT_BYTES_MAX: Final = 8 * 2**20
LOCK: Final = "keeper.lock"
SERVICE: Final = "service.json"
STATE: Final = "state.json"
OUTPUT: Final = "output.log"
_TICK_SECONDS: Final = 0.05


class Keeper:
    """The loop over one service's lives."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.service: dict[str, Any] = json.loads((directory / SERVICE).read_text("utf-8"))
        self._own = ProcessIdentity.of(os.getpid())
        self._child: subprocess.Popen[bytes] | None = None
        self._identity: ProcessIdentity | None = None
        self._told_to_stop = False
        self._restarts = 0
        self._exit_code: int | None = None
        self._woken, self._wake = os.pipe()

    def run(self) -> int:
        """Keeps it running until a signal says otherwise, or it has died too often."""
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, _wake_up)
        self._stop_leftover()
        brief_lives = 0
        while not self._told_to_stop:
            began = time.monotonic()
            if not self._start():
                return 1
            self._exit_code = self._wait()
            if self._told_to_stop:
                break
            brief_lives = brief_lives + 1 if time.monotonic() - began < BRIEF_SECONDS else 1
            if self.service["restart"] != "always" or brief_lives >= BRIEF_LIVES_MAX:
                self._write("ended" if self.service["restart"] != "always" else "given_up")
                return 1
            self._restarts += 1
            self._write("waiting")
            self._pause(min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_MIN * 2 ** (brief_lives - 1)))
        self._end()
        self._write("stopped")
        return 0

    def _stop(self, *_: object) -> None:
        self._told_to_stop = True

    def _start(self) -> bool:
        _bound(self.directory / OUTPUT)
        try:
            with (self.directory / OUTPUT).open("ab") as output:
                self._child = subprocess.Popen(
                    self.service["command"],
                    cwd=self.service["directory"],
                    env=self.service["environment"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            self._write("failed", f"{self.service['command'][0]} cannot be started: {error.strerror}")
            return False
        self._identity = ProcessIdentity.of(self._child.pid)
        self._write("running")
        return True

    def _wait(self) -> int | None:
        """The exit code of the service; None where we were told to stop it before it ended."""
        assert self._child is not None
        while self._child.poll() is None and not self._told_to_stop:
            self._pause(1.0)
            _bound(self.directory / OUTPUT)
        if self._child.returncode is not None:
            _signal_group(self._child.pid, signal.SIGKILL)
        return self._child.returncode

    def _end(self) -> None:
        child = self._child
        if child is None or child.returncode is not None:
            return
        _signal_group(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + float(self.service["stop_seconds"])
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(_TICK_SECONDS)
        # Its whole group, also where it has ended itself: what it started and left behind holds its port.
        _signal_group(child.pid, signal.SIGKILL)
        self._exit_code = child.wait()

    def _stop_leftover(self) -> None:
        """A keeper before us was killed, and what it kept still runs."""
        before = read_state(self.directory)
        identity = ProcessIdentity.from_json(before.get("process"))
        if identity is None or not identity.is_alive():
            return
        identity.send(signal.SIGTERM)
        deadline = time.monotonic() + float(self.service["stop_seconds"])
        while identity.is_alive() and time.monotonic() < deadline:
            time.sleep(_TICK_SECONDS)
        if identity.is_alive():
            identity.send(signal.SIGKILL)

    def _pause(self, seconds: float) -> None:
        """Waits, but not beyond a signal."""
        if select.select([self._woken], [], [], seconds)[0]:
            os.read(self._woken, 4096)

    def _write(self, state: str, detail: str | None = None) -> None:
        content = {
            "state": state,
            "detail": detail,
            "keeper": self._own.to_json() if self._own else None,
            "process": self._identity.to_json() if self._identity and state == "running" else None,
            "since": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "restarts": self._restarts,
            "exit_code": self._exit_code,
        }
        partial = self.directory / f".{STATE}.{os.getpid()}"
        partial.write_text(json.dumps(content), "utf-8")
        partial.replace(self.directory / STATE)


def read_state(directory: Path) -> dict[str, Any]:
    """What a keeper last wrote; empty where none ever did."""
    try:
        found: dict[str, Any] = json.loads((directory / STATE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _wake_up(*_: object) -> None:
    """A handler is needed for the signal to be noticed; what it means is looked up elsewhere."""


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _bound(log: Path) -> None:
    """Keeps one old file beside the log; the service appends, so cutting it off is safe."""
    with suppress(OSError):
        if log.stat().st_size > OUTPUT_BYTES_MAX:
            log.with_suffix(".log.1").write_bytes(log.read_bytes())
            os.truncate(log, 0)


def main(arguments: list[str]) -> int:
    directory = Path(arguments[0])
    with (directory / LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write("another keeper keeps this service\n")
            return 3
        return Keeper(directory).run()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
