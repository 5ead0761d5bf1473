"""Loads once what every worker needs, and forks workers from that: `python -m diurna_deploy.stack.nursery STATE_DIR`.

A worker spends about a second of processor time on imports, ten of them spend ten. One nursery spends it once, while
Kafka and Postgres are still starting; a fork takes some milliseconds, and its memory is shared until it is written to.

Forking is safe here because the nursery has one thread, no event loop and no connection, ever. It forks twice: the one
in between ends, so that the worker becomes a child of the supervisor, which for that moment is the reaper of its
descendants (prctl(2), PR_SET_CHILD_SUBREAPER). So the supervisor waits for a forked worker as for any child of its own,
and a nursery that is killed takes nobody along. A worker begins only when the supervisor knows it: where one of the two
dies before, it ends without having done anything.

Linux alone has such reapers. Elsewhere, and whenever the nursery does not answer, a worker is started as a program.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import select
import socket
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from diurna_deploy.stack.environment import become_process, process_environment
from diurna_deploy.stack.files import private_log
from diurna_deploy.stack.processes import Order, log_file
from diurna_deploy.stack.state import StateDirectory

WORKER: Final = (sys.executable, "-m", "diurna_deploy.worker")
"""An order that begins with these words can be forked."""
ANSWER_SECONDS: Final = 20.0
"""Longer than the imports take on a busy machine."""
NO_EXIT_CODE: Final = 255
_ORDER_BYTES_MAX: Final = 2**20
_PID_BYTES_MAX: Final = 32
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_GO: Final = b"go"
_THREADS: Final = Path("/proc/self/task")


@dataclass(frozen=True, slots=True)
class Forked:
    """A worker that became our child without our having started it: as much of a `Popen` as the supervisor needs."""

    pid: int

    def wait(self) -> int:
        """Waits for its end and returns the exit code, negative for a signal."""
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            return NO_EXIT_CODE


class Nursery:
    """The supervisor's end of it."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._popen: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        return None if self._popen is None else self._popen.pid

    def start(self) -> None:
        """Starts the nursery; it is loading when this returns. Does nothing where there are no reapers."""
        if not sys.platform.startswith("linux"):
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, private_log(log_file(self._state, "nursery")) as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "diurna_deploy.stack.nursery", str(self._state.root)],
                env=process_environment(),
                cwd=self._state.root,
                stdin=theirs.fileno(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ours.setblocking(False)
        self._socket = ours

    async def fork(self, order: Order) -> Forked | None:
        """A worker at its work; None where it must be started as a program.

        A nursery that does not answer is replaced, for the next who asks.
        """
        if self._socket is None or order.argv[: len(WORKER)] != WORKER:
            return None
        _adopt_orphans(True)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._ask(self._socket, order)
        except (OSError, EOFError):  # a TimeoutError is an OSError
            self.stop()
            self.start()
            return None
        finally:
            _adopt_orphans(False)

    async def _ask(self, nursery: socket.socket, order: Order) -> Forked:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(nursery, json.dumps(order.to_json()).encode())
        answer = await loop.sock_recv(nursery, _PID_BYTES_MAX)
        if not answer:
            raise EOFError("the nursery is gone")
        await loop.sock_sendall(nursery, _GO)
        return Forked(int(answer))

    def stop(self) -> None:
        """Ends the nursery; its workers live on."""
        if self._popen is not None and self._socket is not None:
            self._socket.close()
            self._popen.kill()
            self._popen.wait()
        self._popen, self._socket = None, None


def _adopt_orphans(yes: bool) -> None:
    """For the moment of a fork only: what agents leave behind at other times is not ours to reap."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0)


def serve_one(orders: socket.socket, state: StateDirectory) -> bool:
    """Forks the worker of the next order; False where the supervisor has closed its end."""
    content = orders.recv(_ORDER_BYTES_MAX)
    if not content:
        return False
    if len(list(_THREADS.iterdir())) > 1:  # those of libraries too, which Python does not know
        raise RuntimeError("an import started a thread: nothing can be forked from here")
    order = Order.from_json(json.loads(content))
    gc.freeze()
    told, tell = os.pipe()
    born, bear = os.pipe()
    between = os.fork()
    if between == 0:
        os.close(tell)
        orders.close()
        _fork_again(order, state, told, bear)
    os.close(told)
    os.close(bear)
    os.waitpid(between, 0)  # from here on the worker is the supervisor's child
    orders.send(os.read(born, _PID_BYTES_MAX))
    os.close(born)
    if orders.recv(len(_GO)) == _GO:
        with suppress(BrokenPipeError):  # somebody killed it: that is for the supervisor to see
            os.write(tell, _GO)
    os.close(tell)
    return True


def _fork_again(order: Order, state: StateDirectory, told: int, bear: int) -> NoReturn:
    try:
        pid = os.fork()
        if pid != 0:
            os.write(bear, str(pid).encode())
        else:
            os.close(bear)
            began = os.read(told, len(_GO)) == _GO
            os.close(told)
            if began:
                _become(order, state)
    finally:
        os._exit(0)


def _become(order: Order, state: StateDirectory) -> NoReturn:
    """Makes this process what it would be, had it been started as a program, and lets it work."""
    from diurna_deploy import worker

    code = 1
    try:
        os.setsid()
        with private_log(log_file(state, order.name)) as log, Path(os.devnull).open("rb") as nothing:
            for number, file in enumerate((nothing, log, log)):
                os.dup2(file.fileno(), number)
        os.chdir(state.root)
        become_process(order.env)
        sys.argv = [worker.__file__, *order.argv[len(WORKER) :]]
        ctypes.CDLL(None).prctl(_PR_SET_NAME, order.name.encode(), 0, 0, 0)
        gc.enable()
        code = worker.main(sys.argv[1:])
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def main() -> int:
    from diurna_deploy import worker

    state, began = StateDirectory(Path(sys.argv[1])), time.monotonic()
    with socket.socket(fileno=os.dup(0)) as orders, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        gc.disable()  # what is loaded stays, and looking for garbage in it would unshare its memory
        missing = set(worker.PRELOADED)
        for loaded in worker.preload():  # the first is forked while what the last needs is loaded
            missing.discard(loaded)
            while _is_next(orders, missing):
                if not serve_one(orders, state):
                    return 0
        print(f"loaded after {time.monotonic() - began:.2f} s, {time.process_time():.2f} s of them at work", flush=True)
        while serve_one(orders, state):
            pass
    return 0


def _is_next(orders: socket.socket, missing: set[str]) -> bool:
    """Whether there is an order whose worker's part is loaded, or the end of orders.

    Forked earlier, it would import for itself what the next one imports again.
    """
    from diurna_deploy import worker

    if not select.select([orders], [], [], 0)[0]:
        return False
    content = orders.recv(_ORDER_BYTES_MAX, socket.MSG_PEEK)
    if not content:
        return True
    order = Order.from_json(json.loads(content))
    return worker.preloaded_as(order.argv[len(WORKER) :]) not in missing


if __name__ == "__main__":
    raise SystemExit(main())
